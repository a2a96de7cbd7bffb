use std::sync::Arc;

use bytes::Bytes;
use store::{RecordKey, StoreError};

use crate::engine::Engine;
use crate::failure::{Failure, blocking};
use crate::key::Key;
use crate::op::Change;
use crate::touches::Touch;

/// What a record may take in the index beside its value.
const ROW_ROOM: u64 = 512;

impl Engine {
    pub(crate) async fn get_record(self: &Arc<Self>, key: &RecordKey) -> Result<Option<Bytes>, StoreError> {
        let key = Key::record(key);
        if let Some(value) = self.hot_record(&key) {
            return Ok(Some(value));
        }
        if !self.may_have_record(&key) {
            return Ok(None);
        }
        let engine = Arc::clone(self);
        blocking(move || engine.find_record(&key)).await
    }

    /// Whether the index has to be asked for the record. Does not block.
    pub(crate) fn may_have_record(&self, key: &Key) -> bool {
        !self.absence.denies(key)
    }

    /// Each of these records; what memory does not tell is looked up on one thread.
    pub(crate) async fn get_records(self: &Arc<Self>, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let keys: Vec<Key> = keys.iter().map(Key::record).collect();
        let found: Vec<Option<Bytes>> = keys.iter().map(|key| self.hot_record(key)).collect();
        let is_told = |(key, found): (&Key, &Option<Bytes>)| found.is_some() || !self.may_have_record(key);
        let told: Vec<bool> = keys.iter().zip(&found).map(is_told).collect();
        if told.iter().all(|told| *told) {
            return Ok(found);
        }
        let engine = Arc::clone(self);
        let rest = move |((key, found), told): ((&Key, Option<Bytes>), bool)| match told {
            true => Ok(found),
            false => engine.find_record(key),
        };
        blocking(move || keys.iter().zip(found).zip(told).map(rest).collect()).await
    }

    fn hot_record(&self, key: &Key) -> Option<Bytes> {
        let _gate = self.gate.read();
        let hit = self.hot.get(key, self.period())?;
        if hit.is_first {
            self.touch([(key.clone(), Touch::Promised)]);
        }
        Some(hit.bytes)
    }

    /// The record from the index, promised. Blocks.
    fn find_record(&self, key: &Key) -> Result<Option<Bytes>, StoreError> {
        let seen = self.hot.before(self.period());
        let row = {
            let _gate = self.gate.read();
            let row = self.index.record(key)?;
            self.touch_rows(row.iter().map(|row| (key.clone(), row.life)).collect(), Touch::Promised);
            row
        };
        let Some(row) = row else {
            return Ok(None);
        };
        if row.is_whole() {
            self.hot.insert(key.clone(), &row.value, seen);
            return Ok(Some(row.value));
        }
        tracing::warn!("a stored record is damaged and is dropped");
        match self.commit_blocking(vec![Change::DropRecord { key: key.clone() }]) {
            Ok(()) | Err(Failure::Closed) => Ok(None),
            Err(failure) => Err(failure.into()),
        }
    }

    pub(crate) async fn put_record(&self, key: RecordKey, value: Bytes) -> Result<(), StoreError> {
        let key = Key::record(&key);
        let cost = value.len() + key.as_bytes().len();
        let room = self.space.reserve(cost as u64 + ROW_ROOM).await?;
        self.commit(Change::PutRecord { key, value }, cost, Some(room)).await
    }

    pub(crate) async fn remove_record(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.commit(Change::RemoveRecord { key: Key::record(key) }, 0, None).await
    }
}
