use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use cache_types::Digest;
use foldhash::fast::RandomState;
use ulid::Ulid;

use crate::engine::{Discarded, Engine, LEASES};
use crate::failure::Failure;
use crate::index::{Batch, SegmentKind, Sync, Totals};
use crate::key::{Class, Key};
use crate::leases::Leases;
use crate::op::{Body, Change, PutBlob, Why};
use crate::pack::{FlushedPack, Header, PackWriter};
use crate::presence::all_here;
use crate::row::{BlobRow, Life, PackPlace, Place, Queue, RecordRow};
use crate::stats::Counters;
use crate::touches::Touch;

mod records;
mod upkeep;

/// What a row costs in the index beside its value, roughly: its key twice and its place in the eviction order.
pub(crate) const ROW_BYTES: u64 = 150;

/// Changes that become one batch of the index. Rows changed in the group are seen by what follows in it.
pub(crate) struct Group<'a> {
    engine: &'a Engine,
    pub now: Duration,
    batch: Batch<'a>,
    blobs: HashMap<Key, Option<BlobRow>, RandomState>,
    /// Those of them that are to be written.
    changed: Vec<Key>,
    records: HashMap<Key, Option<Life>, RandomState>,
    live: HashMap<Ulid, u64>,
    totals: Totals,
    leases: Leases,
    discarded: Vec<Discarded>,
    /// Values that may not be served from memory any more.
    stale: Vec<Key>,
    garbage: u64,
    /// Places in the eviction order that are taken now.
    entered: Vec<Life>,
    /// Blobs that are in the queue of what was written from now on; many of one moment share a row.
    written: Vec<(Life, Key)>,
    /// New files that a row names now.
    pub adopted: HashSet<Ulid>,
}

impl<'a> Group<'a> {
    pub(crate) fn new(engine: &'a Engine) -> Self {
        Self {
            engine,
            now: engine.now(),
            batch: engine.index.batch(),
            blobs: HashMap::default(),
            changed: Vec::new(),
            records: HashMap::default(),
            live: HashMap::new(),
            totals: *engine.totals.lock(),
            leases: engine.leases.lock().clone(),
            discarded: Vec::new(),
            stale: Vec::new(),
            garbage: 0,
            entered: Vec::new(),
            written: Vec::new(),
            adopted: HashSet::new(),
        }
    }

    fn fresh(&self, class: Class, queue: Queue) -> Life {
        self.engine.ages.life(class, queue, self.now)
    }

    /// Looks up in one go what the changes will ask for.
    pub(crate) fn look_up<'c>(&mut self, changes: impl Iterator<Item = &'c Change>) -> Result<(), Failure> {
        let put = changes.filter_map(|change| if let Change::Put(put) = change { Some(&put.key) } else { None });
        let keys: Vec<Key> = put.filter(|key| !self.engine.absence.denies(key)).cloned().collect();
        let rows = self.engine.index.blobs(&keys)?;
        self.blobs.extend(keys.into_iter().zip(rows));
        Ok(())
    }

    pub(crate) fn blob(&self, key: &Key) -> Result<Option<BlobRow>, Failure> {
        match self.blobs.get(key) {
            Some(row) => Ok(row.clone()),
            None if self.engine.absence.denies(key) => Ok(None),
            None => self.engine.index.blob(key),
        }
    }

    /// Adds one change. `packs` is an error when this group cannot append to packs.
    pub(crate) fn add(&mut self, change: &Change, packs: Result<&mut PackWriter, &Failure>) -> Result<(), Failure> {
        match change {
            Change::Put(put) => self.put(put, packs),
            Change::PutList { key, size_bytes, chunks, .. } => self.put_list(key, *size_bytes, chunks),
            Change::PutRecord { key, value, .. } => self.put_record(key, value),
            Change::RemoveRecord { key } => self.remove_record(key),
            Change::DropRecord { key } => self.drop_record(key),
            Change::Drop { key, place, why } => self.drop_blob(key, place, *why),
            Change::PurgeRecord { key, value } => self.purge_record(key, value),
            Change::PurgeBlob { key } => self.purge_blob(key),
            Change::List { key } => self.list(key),
            Change::DropRow { family, key } => {
                self.batch.delete_row(family, key);
                Ok(())
            }
            Change::Adjust { packs, totals } => {
                self.adjust(packs, *totals);
                Ok(())
            }
            Change::NameFile { segment } => {
                self.name_file(*segment);
                Ok(())
            }
            Change::UnnameFile { segment } => {
                self.unname_file(*segment);
                Ok(())
            }
            Change::Move { key, from, raw_size, frame } => {
                let Some(row) = self.blob(key)?.filter(|row| row.place == Place::Pack(*from)) else {
                    return Ok(());
                };
                let place = Place::Pack(packs.map_err(Clone::clone)?.stage(key, *raw_size, frame)?);
                self.replace(key, Some(&row), BlobRow { place, ..row.clone() });
                Ok(())
            }
        }
    }

    fn put(&mut self, put: &PutBlob, packs: Result<&mut PackWriter, &Failure>) -> Result<(), Failure> {
        let old = self.blob(&put.key)?;
        self.engine.absence.note(&put.key);
        if let Some(row) = &old
            && row.size_bytes == put.size_bytes
            && self.is_whole(&put.key, row)?
        {
            let life = self.engine.ages.touched(Class::Blob, row.life, put.touch, self.now);
            self.set_blob_life(&put.key, row, life);
            return Ok(());
        }
        let place = match &put.body {
            Body::Inline(bytes) => Place::Inline { crc: crc32c::crc32c(bytes), bytes: bytes.clone() },
            Body::Frame(frame) => {
                let raw_size = u32::try_from(put.size_bytes).expect("a frame has at most 1 MiB");
                Place::Pack(packs.map_err(Clone::clone)?.stage(&put.key, raw_size, frame)?)
            }
            Body::File(file) => {
                self.adopted.insert(file.place.segment);
                Place::File(file.place)
            }
        };
        let queue = if put.touch == Touch::Promised { Queue::Leased } else { Queue::Written };
        let life = self.fresh(Class::Blob, queue);
        self.replace(&put.key, old.as_ref(), BlobRow { life, size_bytes: put.size_bytes, place });
        Ok(())
    }

    fn is_whole(&self, key: &Key, row: &BlobRow) -> Result<bool, Failure> {
        if !matches!(row.place, Place::Chunks { .. }) {
            return Ok(true);
        }
        match self.engine.index.list(key)? {
            Some(chunks) => all_here(&self.engine.index, &chunks),
            None => Ok(false),
        }
    }

    fn put_list(&mut self, key: &Key, size_bytes: u64, chunks: &Arc<[Digest]>) -> Result<(), Failure> {
        if !all_here(&self.engine.index, chunks)? {
            return Err(Failure::ChunkGone);
        }
        let old = self.blob(key)?;
        self.engine.absence.note(key);
        // What was promised for long stays so when it is cut.
        let queue = old.as_ref().map_or(Queue::Leased, |row| row.life.queue.max(Queue::Leased));
        let life = self.fresh(Class::Blob, queue);
        let count = u32::try_from(chunks.len()).unwrap_or(u32::MAX);
        self.replace(key, old.as_ref(), BlobRow { life, size_bytes, place: Place::Chunks { count } });
        self.batch.put_list(key, chunks);
        Ok(())
    }

    fn drop_blob(&mut self, key: &Key, place: &Place, why: Why) -> Result<(), Failure> {
        let Some(row) = self.blob(key)?.filter(|row| row.place == *place) else {
            return Ok(());
        };
        self.delete_blob(key, &row);
        let counters = &self.engine.counters;
        Counters::add(if why == Why::Damaged { &counters.quarantined } else { &counters.lost }, 1);
        if let (Why::Damaged, Place::File(file)) = (why, place) {
            self.discarded.pop();
            // Until it is put aside, the sweep is not to take it for a file that nobody wants.
            self.engine.uncommitted.lock().insert(file.segment);
            self.discarded.push(Discarded::Quarantine(file.segment, file.file_len));
        }
        Ok(())
    }

    /// Deletes a blob's row and what hangs on it.
    pub(crate) fn delete_blob(&mut self, key: &Key, row: &BlobRow) {
        self.delete_lru(row.life, key);
        self.release(key, &row.place);
        self.totals.blobs = self.totals.blobs.saturating_sub(1);
        self.garbage += ROW_BYTES;
        self.stale.push(key.clone());
        self.set_blob(key, None);
    }

    /// Puts `new` in the place of `old`.
    fn replace(&mut self, key: &Key, old: Option<&BlobRow>, new: BlobRow) {
        match old {
            Some(old) => {
                self.delete_lru(old.life, key);
                self.release(key, &old.place);
            }
            None => self.totals.blobs += 1,
        }
        match &new.place {
            Place::Inline { bytes, .. } => self.totals.inline_bytes += bytes.len() as u64,
            Place::Pack(pack) => *self.live_of(pack.segment) += record_bytes(key, pack),
            Place::File(file) => {
                self.batch.put_segment(SegmentKind::File, file.segment, file.file_len);
                self.totals.file_bytes += file.file_len;
            }
            // Its presence rests on other rows from now on.
            Place::Chunks { .. } => self.stale.push(key.clone()),
        }
        self.put_lru(new.life, key);
        self.set_blob(key, Some(new));
    }

    fn set_blob(&mut self, key: &Key, row: Option<BlobRow>) {
        self.changed.push(key.clone());
        self.blobs.insert(key.clone(), row);
    }

    /// Gives back the bytes a row pointed at.
    fn release(&mut self, key: &Key, place: &Place) {
        match place {
            Place::Inline { bytes, .. } => {
                self.totals.inline_bytes = self.totals.inline_bytes.saturating_sub(bytes.len() as u64);
                self.garbage += bytes.len() as u64;
            }
            Place::Pack(pack) => {
                let live = self.live_of(pack.segment);
                *live = live.saturating_sub(record_bytes(key, pack));
            }
            Place::File(file) => {
                self.batch.delete_segment(SegmentKind::File, file.segment);
                self.totals.file_bytes = self.totals.file_bytes.saturating_sub(file.file_len);
                self.discarded.push(Discarded::Remove(file.segment));
            }
            Place::Chunks { .. } => self.batch.delete_list(key),
        }
    }

    fn put_lru(&mut self, life: Life, key: &Key) {
        self.entered.push(life);
        self.leases.add(life);
        if shares_a_row(life, key) {
            self.written.push((life, key.clone()));
        } else {
            self.batch.put_lru(life, key);
        }
    }

    fn delete_lru(&mut self, life: Life, key: &Key) {
        self.leases.remove(life);
        // A row that may name others too is out of date for this one from now on, and goes when the evictor comes by.
        if !shares_a_row(life, key) {
            self.batch.delete_lru(life, key);
        }
    }

    /// Writes the rows of blobs in the order of their keys: the index finds the place of each from that of the one before.
    fn write_blobs(&mut self) {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        for key in &changed {
            match self.blobs.get(key) {
                Some(Some(row)) => self.batch.put_blob(key, row),
                _ => self.batch.delete_blob(key),
            }
        }
    }

    /// Writes the rows that blobs share.
    fn list_written(&mut self) {
        let mut written = std::mem::take(&mut self.written);
        written.sort_by_key(|(life, _)| life.time_ms);
        for same in written.chunk_by(|(one, _), (other, _)| one == other) {
            let keys: Vec<Key> = same.iter().map(|(_, key)| key.clone()).collect();
            self.batch.put_lru_of(same[0].0, &keys);
        }
    }

    fn live_of(&mut self, segment: Ulid) -> &mut u64 {
        let table = &self.engine.packs.table;
        self.live.entry(segment).or_insert_with(|| table.lock().get(&segment).map_or(0, |pack| pack.live))
    }

    fn set_blob_life(&mut self, key: &Key, row: &BlobRow, life: Life) {
        if life == row.life {
            return;
        }
        let new = BlobRow { life, ..row.clone() };
        self.delete_lru(row.life, key);
        self.put_lru(life, key);
        self.set_blob(key, Some(new));
    }

    /// Writes a touch that waited.
    pub(crate) fn apply_touch(&mut self, key: &Key, touch: Touch) -> Result<(), Failure> {
        if key.is_blob() {
            if let Some(row) = self.blob(key)? {
                let life = self.engine.ages.touched(key.class(), row.life, touch, self.now);
                self.set_blob_life(key, &row, life);
            }
            return Ok(());
        }
        // A record changed in this group has a fresh life already, unless it is gone.
        if self.records.contains_key(key) {
            return Ok(());
        }
        if let Some(row) = self.engine.index.record(key)? {
            let life = self.engine.ages.touched(key.class(), row.life, touch, self.now);
            if life != row.life {
                self.set_record(key, Some(row.life), &RecordRow { life, ..row });
            }
        }
        Ok(())
    }

    /// Deletes an entry that the eviction order names with this life.
    ///
    /// Answers the bytes that became free; `None` when that is out of date, and the entry lives on or is gone.
    pub(crate) fn evict(&mut self, life: Life, key: &Key) -> Result<Option<u64>, Failure> {
        if key.is_blob() {
            if let Some(row) = self.blob(key)?.filter(|row| row.life == life) {
                self.delete_blob(key, &row);
                return Ok(Some(bytes_on_disk(&row.place)));
            }
        } else if self.record_life(key)? == Some(life) {
            let bytes = self.engine.index.record(key)?.map_or(0, |row| row.value.len() as u64);
            self.garbage += bytes;
            self.delete_record(key, life);
            return Ok(Some(bytes + ROW_BYTES));
        }
        Ok(None)
    }

    /// Deletes a row of the eviction order whose entries were all gone through.
    pub(crate) fn unlist(&mut self, row: &[u8]) {
        self.batch.delete_row("lru", row);
    }

    pub(crate) fn forget_pack(&mut self, segment: Ulid) {
        self.batch.delete_segment(SegmentKind::Pack, segment);
    }

    /// Writes the batch and brings what is kept in memory up to it. `flushed` are the packs that grew for it.
    pub(crate) fn finish(&mut self, flushed: &[FlushedPack], sync: Sync) -> Result<(), Failure> {
        self.note_lengths(flushed);
        for pack in flushed {
            // A pack without a row would be swept.
            self.live_of(pack.segment);
        }
        self.write_blobs();
        self.list_written();
        let mut batch = std::mem::replace(&mut self.batch, self.engine.index.batch());
        if batch.is_empty() && self.live.is_empty() {
            return Ok(());
        }
        for (segment, live) in &self.live {
            if self.engine.packs.table.lock().contains_key(segment) {
                batch.put_segment(SegmentKind::Pack, *segment, *live);
            }
        }
        batch.put_totals(&self.totals);
        batch.put_meta(LEASES, &self.leases.encode());
        self.engine.space.index_grew(batch.len_bytes());
        for life in self.entered.drain(..) {
            self.engine.oldest.lower(life);
        }
        batch.write(sync)?;
        let mut uncommitted = self.engine.uncommitted.lock();
        for pack in flushed {
            uncommitted.remove(&pack.segment);
        }
        drop(uncommitted);
        self.apply();
        Ok(())
    }

    /// The bytes are on disk whether or not the batch gets there.
    fn note_lengths(&self, flushed: &[FlushedPack]) {
        let mut table = self.engine.packs.table.lock();
        for pack in flushed {
            let state = table.entry(pack.segment).or_default();
            self.engine.space.packs.fetch_add(pack.len.saturating_sub(state.len), Ordering::AcqRel);
            state.len = pack.len;
            state.sealed = pack.sealed;
            self.engine.packs.keep_open(pack.segment, &pack.file);
        }
    }

    fn apply(&mut self) {
        let engine = self.engine;
        let mut table = engine.packs.table.lock();
        for (segment, live) in self.live.drain() {
            if let Some(state) = table.get_mut(&segment) {
                state.live = live;
            }
        }
        drop(table);
        *engine.totals.lock() = self.totals;
        engine.leases.lock().clone_from(&self.leases);
        engine.space.files.store(self.totals.file_bytes, Ordering::Release);
        engine.index_garbage.fetch_add(self.garbage, Ordering::Relaxed);
        engine.hot.remove(&self.stale);
        engine.promised.forget(&self.stale);
        if !self.discarded.is_empty() {
            engine.discarded.lock().append(&mut self.discarded);
            engine.space.call_housekeeper();
        }
    }
}

/// Whether a place in the eviction order is a part of a row rather than one: that of a blob that was only written.
fn shares_a_row(life: Life, key: &Key) -> bool {
    life.queue == Queue::Written && key.is_blob()
}

/// What a blob takes in its pack.
pub(crate) fn record_bytes(key: &Key, place: &PackPlace) -> u64 {
    Header::len_of(key) + u64::from(place.stored_len)
}

/// What dropping a blob in this place frees, sooner or later.
pub(crate) fn bytes_on_disk(place: &Place) -> u64 {
    let bytes = match place {
        Place::Inline { bytes, .. } => bytes.len() as u64,
        Place::Pack(pack) => u64::from(pack.stored_len),
        Place::File(file) => file.file_len,
        Place::Chunks { count } => u64::from(*count) * 41,
    };
    bytes + ROW_BYTES
}
