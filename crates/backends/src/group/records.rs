use bytes::Bytes;

use super::{Group, ROW_BYTES};
use crate::failure::Failure;
use crate::key::{Class, Key};
use crate::row::{Life, Queue, RecordRow};
use crate::stats::Counters;

/// The changes of records in a group.
impl Group<'_> {
    pub(super) fn record_life(&self, key: &Key) -> Result<Option<Life>, Failure> {
        match self.records.get(key) {
            Some(life) => Ok(*life),
            None if self.engine.absence.denies(key) => Ok(None),
            None => Ok(self.engine.index.record(key)?.map(|row| row.life)),
        }
    }

    pub(super) fn put_record(&mut self, key: &Key, value: &Bytes) -> Result<(), Failure> {
        let old = self.record_life(key)?;
        self.engine.absence.note(key);
        // A record that was promised once stays so: its key is still the one that was promised.
        let queue = old.map_or(Queue::Written, |life| life.queue);
        let row = RecordRow::new(self.fresh(Class::Record, queue), value.clone());
        if old.is_none() {
            self.totals.records += 1;
        }
        self.set_record(key, old, &row);
        self.stale.push(key.clone());
        Ok(())
    }

    pub(super) fn set_record(&mut self, key: &Key, old: Option<Life>, row: &RecordRow) {
        if let Some(old) = old {
            self.delete_lru(old, key);
        }
        self.put_lru(row.life, key);
        self.batch.put_record(key, row);
        self.records.insert(key.clone(), Some(row.life));
    }

    pub(super) fn remove_record(&mut self, key: &Key) -> Result<(), Failure> {
        if let Some(life) = self.record_life(key)? {
            self.delete_record(key, life);
        }
        Ok(())
    }

    pub(super) fn drop_record(&mut self, key: &Key) -> Result<(), Failure> {
        if self.records.contains_key(key) {
            return Ok(());
        }
        let Some(row) = self.engine.index.record(key)?.filter(|row| !row.is_whole()) else {
            return Ok(());
        };
        Counters::add(&self.engine.counters.quarantined, 1);
        self.delete_record(key, row.life);
        Ok(())
    }

    pub(super) fn delete_record(&mut self, key: &Key, life: Life) {
        self.batch.delete_record(key);
        self.delete_lru(life, key);
        self.totals.records = self.totals.records.saturating_sub(1);
        self.garbage += ROW_BYTES;
        self.stale.push(key.clone());
        self.records.insert(key.clone(), None);
    }
}
