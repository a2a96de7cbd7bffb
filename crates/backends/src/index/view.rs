use rocksdb::{Direction, IteratorMode, ReadOptions, Snapshot};
use ulid::Ulid;

use super::{Index, SegmentKind, readable};
use crate::failure::Failure;
use crate::key::Key;
use crate::listing::{self, Listing};
use crate::row::{BlobRow, Life, Queue, RecordRow};

/// Bytes that are read ahead while a whole family is gone through.
const READAHEAD_BYTES: usize = 2 * 1024 * 1024;

/// A key and its value.
type Entry = (Box<[u8]>, Box<[u8]>);

type Row = Result<Entry, Failure>;

/// The index as it was at one moment.
pub(crate) struct View<'a> {
    index: &'a Index,
    snapshot: Snapshot<'a>,
}

impl Index {
    pub(crate) fn view(&self) -> View<'_> {
        View { index: self, snapshot: self.db.snapshot() }
    }

    /// The keys of all entries as they are now, oldest first in each queue. Unlike a view it takes no snapshot: what a
    /// compaction keeps for one, RocksDB writes anew once it is gone.
    pub(crate) fn listed(&self) -> impl Iterator<Item = Result<Key, Failure>> + use<'_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        let rows = self.db.iterator_cf_opt(self.family("lru"), options, IteratorMode::Start);
        rows.flat_map(entries).map(|entry| entry.map(|(_life, key)| key))
    }

    /// The records behind `after`, up to `count`.
    pub(crate) fn records_after(&self, after: Option<&Key>, count: usize) -> Result<Vec<(Key, RecordRow)>, Failure> {
        let from = after.map_or(Vec::new(), |key| [key.as_bytes(), &[0]].concat());
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mode = IteratorMode::From(&from, Direction::Forward);
        let mut found = Vec::new();
        for row in self.db.iterator_cf_opt(self.family("record"), options, mode).take(count) {
            let (key, value) = row?;
            found.extend(RecordRow::decode(&value).map(|row| (Key::of_record(&key), row)));
        }
        Ok(found)
    }

    /// Has no copy of deleted records left on the disk, nor in the log.
    pub(crate) fn erase_deleted_records(&self) -> Result<(), Failure> {
        self.flush()?;
        let mut options = rocksdb::CompactOptions::default();
        options.set_bottommost_level_compaction(rocksdb::BottommostLevelCompaction::Force);
        self.db.compact_range_cf_opt(self.family("record"), None::<&[u8]>, None::<&[u8]>, &options);
        Ok(())
    }

    /// Writes what is in memory into tables, so that the log is not needed any more.
    pub(crate) fn flush(&self) -> Result<(), Failure> {
        let families = super::FAMILIES.map(|name| self.family(name));
        Ok(self.db.flush_cfs_opt(&families, &rocksdb::FlushOptions::default())?)
    }
}

/// The entries that a row of the eviction order names; none when it is no such row.
fn entries(row: Result<Entry, rocksdb::Error>) -> Vec<Result<(Life, Key), Failure>> {
    match row {
        Ok((key, value)) => match Listing::decode(&key, &value) {
            Some(Listing { life, keys }) => keys.into_iter().map(|key| Ok((life, key))).collect(),
            None => Vec::new(),
        },
        Err(error) => vec![Err(error.into())],
    }
}

impl View<'_> {
    /// All rows of a family, in the order of their keys.
    pub(crate) fn rows(&self, family: &str) -> impl Iterator<Item = Row> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_readahead_size(READAHEAD_BYTES);
        let rows = self.snapshot.iterator_cf_opt(self.index.family(family), options, IteratorMode::Start);
        rows.map(|row| Ok(row?))
    }

    /// The entries of a queue, oldest first; some are out of date.
    pub(crate) fn queue(&self, queue: Queue) -> Box<dyn Iterator<Item = Result<(Life, Key), Failure>> + '_> {
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        options.set_iterate_upper_bound([queue as u8 + 1]);
        let mode = IteratorMode::From(&[queue as u8], Direction::Forward);
        let rows = self.snapshot.iterator_cf_opt(self.index.family("lru"), options, mode);
        Box::new(rows.flat_map(entries))
    }

    pub(crate) fn blob(&self, key: &Key) -> Result<Option<BlobRow>, Failure> {
        let found = readable(self.snapshot.get_pinned_cf(self.index.family("blob"), key.as_bytes()))?;
        Ok(found.and_then(|bytes| BlobRow::decode(&bytes)))
    }

    pub(crate) fn record(&self, key: &Key) -> Result<Option<RecordRow>, Failure> {
        let found = readable(self.snapshot.get_pinned_cf(self.index.family("record"), key.as_bytes()))?;
        Ok(found.and_then(|bytes| RecordRow::decode(&bytes)))
    }

    /// Whether the order of eviction has an entry where its row says.
    pub(crate) fn is_listed(&self, life: Life, key: &Key) -> Result<bool, Failure> {
        if self.snapshot.get_pinned_cf(self.index.family("lru"), listing::one(life, key))?.is_some() {
            return Ok(true);
        }
        let prefix = listing::prefix_of_many(life);
        let mut options = ReadOptions::default();
        options.fill_cache(false);
        let mode = IteratorMode::From(&prefix, Direction::Forward);
        for row in self.snapshot.iterator_cf_opt(self.index.family("lru"), options, mode) {
            let (row, value) = row?;
            if !row.starts_with(&prefix) {
                break;
            }
            if Listing::decode(&row, &value).is_some_and(|listing| listing.keys.contains(key)) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The files that the index names.
    pub(crate) fn files(&self) -> Result<Vec<Ulid>, Failure> {
        let mut files = Vec::new();
        for row in self.rows("seg") {
            let (key, _len) = row?;
            if let [kind, raw @ ..] = &*key
                && *kind == SegmentKind::File as u8
                && let Ok(raw) = <[u8; 16]>::try_from(raw)
            {
                files.push(Ulid::from_bytes(raw));
            }
        }
        Ok(files)
    }
}
