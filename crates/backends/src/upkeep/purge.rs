use std::sync::Arc;

use bytes::Bytes;
use cache_types::Hash;
use store::{RecordKey, StoreError};

use crate::engine::Engine;
use crate::failure::{Failure, blocking};
use crate::key::Key;
use crate::op::Change;

/// Records that are looked at in one step.
const PAGE: usize = 1024;

impl Engine {
    /// Some of the records behind `after`, in the order of their keys; none when that was the last. What is damaged is left
    /// out, nothing is promised.
    pub(crate) async fn records_after(
        self: &Arc<Self>,
        after: Option<RecordKey>,
    ) -> Result<Vec<(RecordKey, Bytes)>, StoreError> {
        let engine = Arc::clone(self);
        blocking(move || {
            let mut after = after.as_ref().map(Key::record);
            loop {
                let rows = engine.index.records_after(after.as_ref(), PAGE)?;
                let Some((last, _)) = rows.last() else {
                    return Ok(Vec::new());
                };
                after = Some(last.clone());
                let whole = rows.into_iter().filter(|(_, row)| row.is_whole());
                let found: Vec<_> = whole.filter_map(|(key, row)| Some((key.record_key()?, row.value))).collect();
                if !found.is_empty() {
                    return Ok(found);
                }
            }
        })
        .await
    }

    /// Drops those of these records whose value is still this one, leased or not; answers how many.
    pub(crate) async fn purge_records(self: &Arc<Self>, records: Vec<(RecordKey, Bytes)>) -> Result<usize, StoreError> {
        let engine = Arc::clone(self);
        blocking(move || {
            let keys: Vec<Key> = records.iter().map(|(key, _)| Key::record(key)).collect();
            let changes =
                keys.iter().zip(records).map(|(key, (_, value))| Change::PurgeRecord { key: key.clone(), value });
            engine.commit_blocking(changes.collect())?;
            let gone = keys.iter().map(|key| Ok(engine.index.record(key)?.is_none()));
            Ok(gone.collect::<Result<Vec<bool>, Failure>>()?.into_iter().filter(|gone| *gone).count())
        })
        .await
    }

    /// Drops a blob, leased or not, and its bytes; whether it was here.
    pub(crate) async fn purge_blob(self: &Arc<Self>, hash: Hash) -> Result<bool, StoreError> {
        let engine = Arc::clone(self);
        blocking(move || {
            let key = Key::blob(&hash);
            let was_here = engine.index.blob(&key)?.is_some();
            if was_here {
                engine.commit_blocking(vec![Change::PurgeBlob { key }])?;
            }
            Ok(was_here)
        })
        .await
    }

    /// Rewrites the parts of the index that purged records were in, so that no copy of them is left on the disk.
    pub(crate) async fn erase_purged(self: &Arc<Self>) -> Result<(), StoreError> {
        let engine = Arc::clone(self);
        blocking(move || Ok(engine.index.erase_deleted_records()?)).await
    }
}
