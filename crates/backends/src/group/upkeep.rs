use bytes::Bytes;
use ulid::Ulid;

use super::Group;
use crate::engine::PackState;
use crate::failure::Failure;
use crate::index::SegmentKind;
use crate::key::Key;
use crate::pack::pack_path;

/// The changes that purging and checking make.
impl Group<'_> {
    /// Drops a record if its value is still this one.
    pub(super) fn purge_record(&mut self, key: &Key, value: &Bytes) -> Result<(), Failure> {
        if self.records.contains_key(key) {
            return Ok(());
        }
        match self.engine.index.record(key)? {
            Some(row) if row.value == *value => self.remove_record(key),
            _ => Ok(()),
        }
    }

    pub(super) fn purge_blob(&mut self, key: &Key) -> Result<(), Failure> {
        if let Some(row) = self.blob(key)? {
            self.delete_blob(key, &row);
        }
        Ok(())
    }

    /// Puts an entry into the order of eviction where its row says.
    pub(super) fn list(&mut self, key: &Key) -> Result<(), Failure> {
        let life = if key.is_blob() { self.blob(key)?.map(|row| row.life) } else { self.record_life(key)? };
        if let Some(life) = life {
            self.put_lru(life, key);
        }
        Ok(())
    }

    /// Corrects sums by what they were found to be off.
    pub(super) fn adjust(&mut self, packs: &[(Ulid, i64)], totals: [i64; 4]) {
        for (segment, off) in packs {
            if let Some(state) = self.unknown_pack(*segment) {
                self.engine.space.packs.fetch_add(state.len, std::sync::atomic::Ordering::AcqRel);
                self.engine.packs.table.lock().insert(*segment, state);
            }
            let live = self.live_of(*segment);
            *live = live.saturating_add_signed(*off);
        }
        for (total, off) in self.totals.numbers_mut().into_iter().zip(totals) {
            *total = total.saturating_add_signed(off);
        }
    }

    /// A pack whose row was lost.
    fn unknown_pack(&self, segment: Ulid) -> Option<PackState> {
        if self.engine.packs.table.lock().contains_key(&segment) {
            return None;
        }
        let len = std::fs::metadata(pack_path(&self.engine.dir.packs(), segment)).map_or(0, |meta| meta.len());
        Some(PackState { len, live: 0, sealed: true, stuck_until: None })
    }

    /// Has the sweep leave a file alone.
    pub(super) fn name_file(&mut self, segment: Ulid) {
        self.batch.put_segment(SegmentKind::File, segment, 0);
    }

    pub(super) fn unname_file(&mut self, segment: Ulid) {
        self.batch.delete_segment(SegmentKind::File, segment);
    }
}
