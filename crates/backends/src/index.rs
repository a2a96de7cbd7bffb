use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::{Buf, BufMut};
use cache_types::Digest;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBCompressionType, DBRecoveryMode,
    DataBlockIndexType, Direction, ErrorKind, IteratorMode, LogLevel, Options, ReadOptions, WriteBatch, WriteOptions,
};
use store::StoreError;
use ulid::Ulid;

use crate::failure::{Failure, LEVEL};
use crate::key::{Class, Key};
use crate::listing::{self, Listing, MAX_LISTED, Row};
use crate::row::{BlobRow, Life, Queue, RecordRow, decode_list, encode_list};
use crate::settings::Sizing;

mod view;

pub(crate) use view::View;

/// The version of everything on disk. A newer one is refused; an older one is read as it is, and is this one from then on.
///
/// 2: a row of the eviction order may name many blobs, and may be of the queue of what is promised for long.
const FORMAT: u32 = 2;

/// What one compaction has on disk twice, at most.
const MAX_COMPACTION_BYTES: u64 = 256 * 1024 * 1024;

pub(crate) const FAMILIES: [&str; 6] = ["blob", "list", "record", "lru", "seg", "meta"];

/// What a segment is; part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum SegmentKind {
    Pack = 0,
    File = 1,
}

/// Sums that are kept with every change, so that nothing has to be counted at start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub blobs: u64,
    pub records: u64,
    /// Bytes of all blob files.
    pub file_bytes: u64,
    /// Bytes of values held in the index itself.
    pub inline_bytes: u64,
}

impl Totals {
    /// In the order in which they are written.
    pub(crate) fn numbers(&self) -> [u64; 4] {
        [self.blobs, self.records, self.file_bytes, self.inline_bytes]
    }

    pub(crate) fn numbers_mut(&mut self) -> [&mut u64; 4] {
        [&mut self.blobs, &mut self.records, &mut self.file_bytes, &mut self.inline_bytes]
    }
}

/// RocksDB with the families and rows of this engine.
pub(crate) struct Index {
    db: DB,
    path: PathBuf,
    max_log_bytes: u64,
}

/// From a key to a key; an end that is not given is open.
type KeyRange = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Whether a batch waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sync {
    Yes,
    No,
}

#[derive(Debug, thiserror::Error)]
#[error("the data folder has format {found}, this program knows up to {FORMAT}; use a newer program or another folder")]
struct NewerFormat {
    found: u32,
}

#[derive(Debug, thiserror::Error)]
#[error("the index in {} is damaged; `twofold fsck --data` with the folder above it mends it", path.display())]
struct DamagedIndex {
    path: PathBuf,
    source: rocksdb::Error,
}

#[derive(Debug, thiserror::Error)]
#[error("the index in {} is missing, and there are bytes that it should name; `twofold fsck --data` with the folder above it makes it anew", .0.display())]
struct MissingIndex(PathBuf);

pub(crate) fn missing_index(path: PathBuf) -> StoreError {
    StoreError::Unavailable { level: LEVEL, source: MissingIndex(path).into() }
}

/// Whether a newer program wrote the index, so that this one must leave it alone.
pub(crate) fn is_newer(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { source, .. } if source.is::<NewerFormat>())
}

/// Why the database did not open, with what helps where something does.
fn unopened(path: &Path, source: rocksdb::Error) -> StoreError {
    match source.kind() {
        ErrorKind::Corruption => {
            let path = path.to_owned();
            StoreError::Unavailable { level: LEVEL, source: DamagedIndex { path, source }.into() }
        }
        _ => Failure::from(source).into(),
    }
}

impl Index {
    pub(crate) fn open(path: PathBuf, sizing: &Sizing) -> Result<Self, StoreError> {
        let cache = Cache::new_lru_cache(sizing.block_cache);
        // The default family is not used, but its options count: RocksDB goes on after a full disk only once the largest
        // write buffer of all finds room.
        let mut families = Vec::new();
        for name in FAMILIES.into_iter().chain(["default"]) {
            families.push(ColumnFamilyDescriptor::new(name, family_options(name, sizing, &cache)?));
        }
        // What a crash left in the log stays in memory until the next write buffer is full: a start waits for no disk.
        let options = more_options(database_options(sizing), "avoid_flush_during_recovery=true")?;
        let db = DB::open_cf_descriptors(&options, &path, families).map_err(|source| unopened(&path, source))?;
        let this = Self { db, path, max_log_bytes: sizing.wal };
        this.check_format()?;
        Ok(this)
    }

    /// The same, and reads all of it once.
    pub(crate) fn open_whole(path: PathBuf, sizing: &Sizing) -> Result<Self, StoreError> {
        let this = Self::open(path, sizing)?;
        this.read_through()?;
        Ok(this)
    }

    fn check_format(&self) -> Result<(), StoreError> {
        match self.meta("format")?.as_deref().map(|mut bytes| bytes.try_get_u32_le().unwrap_or(u32::MAX)) {
            Some(found) if found > FORMAT => {
                Err(StoreError::Unavailable { level: LEVEL, source: NewerFormat { found }.into() })
            }
            Some(FORMAT) => Ok(()),
            Some(_) | None => {
                let mut batch = self.batch();
                batch.put_meta("format", &FORMAT.to_le_bytes());
                Ok(batch.write(Sync::Yes)?)
            }
        }
    }

    fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is opened with the database")
    }

    /// The raw row; a block that fails its checksum reads as no row, so that a write mends it.
    fn get(&self, family: &str, key: &[u8]) -> Result<Option<rocksdb::DBPinnableSlice<'_>>, Failure> {
        readable(self.db.get_pinned_cf(self.family(family), key))
    }

    pub(crate) fn blob(&self, key: &Key) -> Result<Option<BlobRow>, Failure> {
        Ok(self.get("blob", key.as_bytes())?.and_then(|bytes| BlobRow::decode(&bytes)))
    }

    /// The rows of many blobs, in the order of `keys`.
    pub(crate) fn blobs(&self, keys: &[Key]) -> Result<Vec<Option<BlobRow>>, Failure> {
        let found = self.db.batched_multi_get_cf(self.family("blob"), keys.iter().map(Key::as_bytes), false);
        let mut rows = Vec::with_capacity(keys.len());
        for result in found {
            rows.push(readable(result)?.and_then(|bytes| BlobRow::decode(&bytes)));
        }
        Ok(rows)
    }

    pub(crate) fn list(&self, key: &Key) -> Result<Option<Vec<Digest>>, Failure> {
        Ok(self.get("list", key.as_bytes())?.and_then(|bytes| decode_list(&bytes)))
    }

    pub(crate) fn record(&self, key: &Key) -> Result<Option<RecordRow>, Failure> {
        Ok(self.get("record", key.as_bytes())?.and_then(|bytes| RecordRow::decode(&bytes)))
    }

    /// The live bytes of every pack.
    pub(crate) fn packs(&self) -> Result<Vec<(Ulid, u64)>, Failure> {
        let mut packs = Vec::new();
        for row in self.db.iterator_cf(self.family("seg"), IteratorMode::Start) {
            let (key, value) = row?;
            let Some((&kind, raw)) = key.split_first() else { continue };
            if kind != SegmentKind::Pack as u8 {
                break;
            }
            if let (Ok(raw), Ok(live)) = (<[u8; 16]>::try_from(raw), (&*value).try_get_u64_le()) {
                packs.push((Ulid::from_bytes(raw), live));
            }
        }
        Ok(packs)
    }

    pub(crate) fn has_segment(&self, kind: SegmentKind, segment: Ulid) -> Result<bool, Failure> {
        Ok(self.db.get_pinned_cf(self.family("seg"), segment_key(kind, segment))?.is_some())
    }

    pub(crate) fn meta(&self, name: &str) -> Result<Option<Vec<u8>>, Failure> {
        Ok(self.db.get_cf(self.family("meta"), name)?)
    }

    pub(crate) fn totals(&self) -> Result<Totals, Failure> {
        let Some(bytes) = self.meta("totals")? else {
            return Ok(Totals::default());
        };
        let mut bytes = bytes.as_slice();
        let mut next = || bytes.try_get_u64_le().unwrap_or(0);
        Ok(Totals { blobs: next(), records: next(), file_bytes: next(), inline_bytes: next() })
    }

    /// The oldest rows of a queue with the keys of their listings, up to `count` entries or a few more, none of them older
    /// than `from_ms`.
    pub(crate) fn oldest(&self, queue: Queue, from_ms: u64, count: usize) -> Result<Vec<Row>, Failure> {
        let mut first = vec![queue as u8];
        first.extend_from_slice(&from_ms.to_be_bytes());
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound([queue as u8 + 1]);
        let mode = IteratorMode::From(&first, Direction::Forward);
        let (mut found, mut entries) = (Vec::new(), 0);
        for row in self.db.iterator_cf_opt(self.family("lru"), options, mode) {
            let (key, value) = row?;
            if let Some(listing) = Listing::decode(&key, &value) {
                entries += listing.keys.len();
                found.push((key, listing));
            }
            if entries >= count {
                break;
            }
        }
        Ok(found)
    }

    /// What the index takes on disk, as `du` counts, or may take while its next compaction writes tables anew.
    pub(crate) fn disk_bytes(&self) -> Result<u64, Failure> {
        let tables: u64 = self.db.live_files()?.iter().map(|file| file.size as u64).sum();
        let compacting = tables + tables.min(MAX_COMPACTION_BYTES) + self.max_log_bytes;
        Ok(folder_bytes(&self.path)?.max(compacting))
    }

    /// Rewrites the index without what was deleted, a slice at a time, so that little of it is there twice. Stops between
    /// slices when `stop` is set.
    pub(crate) fn compact(&self, slice_bytes: u64, stop: &AtomicBool) -> Result<(), Failure> {
        for name in FAMILIES {
            for (first, last) in self.slices(name, slice_bytes)? {
                if stop.load(Ordering::Acquire) {
                    return Ok(());
                }
                self.db.compact_range_cf(self.family(name), first, last);
            }
        }
        Ok(())
    }

    /// The key ranges of a family's sorted files, in slices of about `slice_bytes`; the outer ends are open.
    fn slices(&self, family: &str, slice_bytes: u64) -> Result<Vec<KeyRange>, Failure> {
        let mut files = self.db.live_files()?;
        files.retain(|file| file.column_family_name == family && file.level > 0);
        files.sort_by(|a, b| a.start_key.cmp(&b.start_key));
        let (mut slices, mut first, mut bytes) = (Vec::new(), None, 0);
        for file in files {
            bytes += file.size as u64;
            if bytes >= slice_bytes && file.end_key.is_some() {
                slices.push((first.take(), file.end_key.clone()));
                (first, bytes) = (file.end_key, 0);
            }
        }
        slices.push((first, None));
        Ok(slices)
    }

    /// Reads all of it; an error when a part cannot be read.
    pub(crate) fn read_through(&self) -> Result<(), Failure> {
        let view = self.view();
        for family in FAMILIES {
            for row in view.rows(family) {
                row?;
            }
        }
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&self) -> Result<(), Failure> {
        Ok(self.db.flush_wal(true)?)
    }

    pub(crate) fn batch(&self) -> Batch<'_> {
        Batch { index: self, inner: WriteBatch::default() }
    }
}

fn readable<T>(result: Result<Option<T>, rocksdb::Error>) -> Result<Option<T>, Failure> {
    match result {
        Err(error) if error.kind() == ErrorKind::Corruption => {
            tracing::warn!(%error, "a part of the index is damaged and reads as missing");
            Ok(None)
        }
        other => Ok(other?),
    }
}

/// What the files of a folder take on disk; files that go away meanwhile take nothing.
pub(crate) fn folder_bytes(folder: &Path) -> std::io::Result<u64> {
    let entries = std::fs::read_dir(folder)?;
    Ok(entries.flatten().filter_map(|entry| entry.metadata().ok()).map(|meta| meta.blocks() * 512).sum())
}

fn segment_key(kind: SegmentKind, segment: Ulid) -> [u8; 17] {
    let mut key = [kind as u8; 17];
    key[1..].copy_from_slice(&segment.to_bytes());
    key
}

/// Changes of the index that happen together or not at all.
pub(crate) struct Batch<'a> {
    index: &'a Index,
    inner: WriteBatch,
}

impl Batch<'_> {
    pub(crate) fn put_blob(&mut self, key: &Key, row: &BlobRow) {
        self.inner.put_cf(self.index.family("blob"), key.as_bytes(), row.encode());
    }

    pub(crate) fn delete_blob(&mut self, key: &Key) {
        self.inner.delete_cf(self.index.family("blob"), key.as_bytes());
    }

    pub(crate) fn put_list(&mut self, key: &Key, chunks: &[Digest]) {
        self.inner.put_cf(self.index.family("list"), key.as_bytes(), encode_list(chunks));
    }

    pub(crate) fn delete_list(&mut self, key: &Key) {
        self.inner.delete_cf(self.index.family("list"), key.as_bytes());
    }

    pub(crate) fn put_record(&mut self, key: &Key, row: &RecordRow) {
        self.inner.put_cf(self.index.family("record"), key.as_bytes(), row.encode());
    }

    pub(crate) fn delete_record(&mut self, key: &Key) {
        self.inner.delete_cf(self.index.family("record"), key.as_bytes());
    }

    pub(crate) fn put_lru(&mut self, life: Life, key: &Key) {
        self.inner.put_cf(self.index.family("lru"), listing::one(life, key), []);
    }

    /// Lists blobs of one life, in as few rows as there may be.
    pub(crate) fn put_lru_of(&mut self, life: Life, blobs: &[Key]) {
        for blobs in blobs.chunks(MAX_LISTED) {
            match blobs {
                [key] => self.put_lru(life, key),
                _ => {
                    let (row, value) = listing::many(life, blobs.iter());
                    self.inner.put_cf(self.index.family("lru"), row, value);
                }
            }
        }
    }

    pub(crate) fn delete_lru(&mut self, life: Life, key: &Key) {
        self.inner.delete_cf(self.index.family("lru"), listing::one(life, key));
    }

    pub(crate) fn put_segment(&mut self, kind: SegmentKind, segment: Ulid, live: u64) {
        self.inner.put_cf(self.index.family("seg"), segment_key(kind, segment), live.to_le_bytes());
    }

    pub(crate) fn delete_segment(&mut self, kind: SegmentKind, segment: Ulid) {
        self.inner.delete_cf(self.index.family("seg"), segment_key(kind, segment));
    }

    pub(crate) fn put_meta(&mut self, name: &str, value: &[u8]) {
        self.inner.put_cf(self.index.family("meta"), name, value);
    }

    pub(crate) fn delete_meta(&mut self, name: &str) {
        self.inner.delete_cf(self.index.family("meta"), name);
    }

    /// Deletes a row, whatever it is.
    pub(crate) fn delete_row(&mut self, family: &str, key: &[u8]) {
        self.inner.delete_cf(self.index.family(family), key);
    }

    pub(crate) fn put_totals(&mut self, totals: &Totals) {
        let mut value = Vec::with_capacity(32);
        for number in totals.numbers() {
            value.put_u64_le(number);
        }
        self.put_meta("totals", &value);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.inner.size_in_bytes() as u64
    }

    pub(crate) fn write(self, sync: Sync) -> Result<(), Failure> {
        let mut options = WriteOptions::default();
        options.set_sync(sync == Sync::Yes);
        Ok(self.index.db.write_opt(self.inner, &options)?)
    }
}

/// Spec: storage §2, "RocksDB options", as far as the crate exposes them.
fn database_options(sizing: &Sizing) -> Options {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    let cores = std::thread::available_parallelism().map_or(2, usize::from);
    options.set_max_background_jobs(i32::try_from(cores / 2).unwrap_or(2).max(2));
    // Only the committer writes.
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_total_wal_size(sizing.wal);
    options.set_db_write_buffer_size(sizing.write_buffer * 3);
    options.set_bytes_per_sync(1 << 20);
    options.set_wal_bytes_per_sync(1 << 20);
    options.set_max_open_files(-1);
    options.set_skip_stats_update_on_db_open(true);
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    options.set_paranoid_checks(true);
    options.set_track_and_verify_wals_in_manifest(true);
    options.set_manifest_preallocation_size(64 * 1024);
    options.set_max_manifest_file_size(1 << 20);
    options.set_log_level(LogLevel::Warn);
    options.set_max_log_file_size(1 << 20);
    options.set_keep_log_file_num(2);
    options
}

/// What the crate has no function for.
fn more_options(mut options: Options, more: &str) -> Result<Options, StoreError> {
    Ok(options.get_options_from_string(more).map_err(Failure::from)?)
}

fn family_options(name: &str, sizing: &Sizing, cache: &Cache) -> Result<Options, StoreError> {
    let mut blocks = BlockBasedOptions::default();
    blocks.set_block_cache(cache);
    blocks.set_block_size(8 * 1024);
    blocks.set_format_version(6);
    blocks.set_cache_index_and_filter_blocks(true);
    blocks.set_pin_l0_filter_and_index_blocks_in_cache(true);
    if matches!(name, "blob" | "record" | "list") {
        blocks.set_bloom_filter(10.0, false);
        blocks.set_data_block_index_type(DataBlockIndexType::BinaryAndHash);
    }
    let mut options = Options::default();
    options.set_block_based_table_factory(&blocks);
    options.set_write_buffer_size(sizing.write_buffer);
    options.set_target_file_size_base((sizing.write_buffer as u64 * 2).max(1 << 20));
    options.set_max_bytes_for_level_base(sizing.write_buffer as u64 * 4);
    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_max_compaction_bytes(MAX_COMPACTION_BYTES);
    options.set_optimize_filters_for_hits(false);
    // A digest that is not here is told by a filter in the write buffer too.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(0.1);
    options.set_compression_type(if name == "record" { DBCompressionType::Lz4 } else { DBCompressionType::None });
    // Eviction deletes in stretches; a file that is mostly deletions is compacted soon.
    options.add_compact_on_deletion_collector_factory(4096, 2048, 0.5);
    if name == "blob" {
        // A group's rows come sorted: the place of one is searched from that of the one before.
        return more_options(options, "memtable_insert_with_hint_prefix_extractor=fixed:1");
    }
    Ok(options)
}

impl Key {
    /// The family a key's rows are in.
    pub(crate) fn is_blob(&self) -> bool {
        self.class() == Class::Blob
    }
}
