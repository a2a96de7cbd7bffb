use std::collections::{HashMap, HashSet};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use store::StoreError;
use ulid::Ulid;

use super::Work;
use super::salvage::{Blocks, Opened, Salvage};
use super::verify::is_content_of;
use crate::blob_file::{FileReader, read_trailer};
use crate::data_dir::{DataDir, sync_folder};
use crate::failure::Failure;
use crate::frame::Codec;
use crate::group::record_bytes;
use crate::index::{Batch, Index, SegmentKind, Sync, Totals};
use crate::key::Key;
use crate::pack::{Walk, pack_path};
use crate::row::{BlobRow, Life, Place, Queue, RecordRow, decode_list};
use crate::settings::Sizing;

/// A batch of rows is written at this size.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// How an index was made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rebuilt {
    /// Rows of blobs and records that the damaged index still told.
    pub kept: u64,
    /// Blobs that packs and files told.
    pub found: u64,
    /// Parts of the damaged index that could not be read.
    pub lost_parts: u64,
    /// Whether nothing of the damaged index could be read: its records and its smallest blobs are gone.
    pub from_bytes_alone: bool,
}

/// Makes the index anew from what the damaged one still tells, and from the packs and files. The old one stays in its place
/// until the new one is whole and on the disk.
pub(crate) fn rebuild(dir: &DataDir, sizing: &Sizing, now: Duration, work: &Work) -> Result<Rebuilt, StoreError> {
    let (copy, new) = (dir.index_copy(), dir.new_index());
    for folder in [&copy, &new] {
        remove_folder(folder).map_err(Failure::from)?;
    }
    copy_index(&dir.index(), &copy).map_err(Failure::from)?;
    let index = Index::open(new.clone(), sizing)?;
    let mut rebuild = Rebuild::new(dir, &index, now, work)?;
    if let Some(salvage) = Salvage::open(&copy) {
        rebuild.salvage(salvage)?;
    }
    rebuild.made.from_bytes_alone = rebuild.made.kept == 0;
    rebuild.adopt_packs()?;
    rebuild.adopt_files()?;
    let made = rebuild.finish()?;
    index.flush()?;
    drop(index);
    exchange(&new, &dir.index()).map_err(Failure::from)?;
    for folder in [&copy, &new] {
        remove_folder(folder).map_err(Failure::from)?;
    }
    Ok(made)
}

/// Puts `new` in the place of `old`, and the other way round.
fn exchange(new: &Path, old: &Path) -> io::Result<()> {
    if old.exists() {
        renameat_with(CWD, new, CWD, old, RenameFlags::EXCHANGE)?;
    } else {
        fs::rename(new, old)?;
    }
    old.parent().map_or(Ok(()), sync_folder)
}

fn remove_folder(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A copy of an index that can be changed. Tables never change, so they are not copied but linked.
fn copy_index(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let (path, name) = (entry.path(), entry.file_name());
        if !entry.file_type()?.is_file() || name == "LOCK" {
            continue;
        }
        let is_table = path.extension().is_some_and(|extension| extension == "sst");
        if !is_table || fs::hard_link(&path, to.join(&name)).is_err() {
            fs::copy(&path, to.join(&name))?;
        }
    }
    Ok(())
}

struct Rebuild<'a> {
    dir: &'a DataDir,
    index: &'a Index,
    work: &'a Work,
    codec: Codec,
    batch: Batch<'a>,
    /// For blobs that packs and files tell of.
    life: Life,
    packs: HashSet<Ulid>,
    files: HashSet<Ulid>,
    live: HashMap<Ulid, u64>,
    totals: Totals,
    made: Rebuilt,
}

impl<'a> Rebuild<'a> {
    fn new(dir: &'a DataDir, index: &'a Index, now: Duration, work: &'a Work) -> Result<Self, Failure> {
        let life = Life { queue: Queue::Written, time_ms: u64::try_from(now.as_millis()).unwrap_or(u64::MAX) };
        Ok(Self {
            dir,
            index,
            work,
            codec: Codec::default(),
            batch: index.batch(),
            life,
            packs: segments(&dir.packs())?,
            files: segments(&dir.files())?,
            live: HashMap::new(),
            totals: Totals::default(),
            made: Rebuilt::default(),
        })
    }

    fn salvage(&mut self, mut old: Salvage) -> Result<(), Failure> {
        // What a blob's row says is checked against the blob's hash, so a row from a damaged block may be tried. Nothing
        // proves the key of a record, so it has to come from a block that is whole.
        old.each("list", Blocks::Any, |key, value| {
            if let (Some(key), Some(list)) = (Key::parse_blob(key), decode_list(value)) {
                self.batch.put_list(&key, &list);
            }
            self.write_some()
        })?;
        self.write()?;
        old.each("blob", Blocks::Any, |key, value| match (Key::parse_blob(key), BlobRow::decode(value)) {
            (Some(key), Some(row)) if self.has_bytes(&key, &row)? => {
                self.made.kept += 1;
                self.put(&key, &row)
            }
            _ => Ok(()),
        })?;
        old.each("record", Blocks::Whole, |key, value| match RecordRow::decode(value).filter(RecordRow::is_whole) {
            Some(row) => {
                self.made.kept += 1;
                self.put_record(&Key::of_record(key), &row)
            }
            None => Ok(()),
        })?;
        self.made.lost_parts = old.lost_parts + u64::from(old.opened == Opened::Repaired);
        self.write()
    }

    /// Whether what a row points at may be there.
    fn has_bytes(&self, key: &Key, row: &BlobRow) -> Result<bool, Failure> {
        Ok(match &row.place {
            Place::Inline { crc, bytes } => {
                bytes.len() as u64 == row.size_bytes
                    && crc32c::crc32c(bytes) == *crc
                    && key.blob_hash().is_some_and(|hash| is_content_of(&hash, bytes))
            }
            Place::Pack(pack) => self.packs.contains(&pack.segment),
            Place::File(file) => self.files.contains(&file.segment),
            Place::Chunks { .. } => self.index.list(key)?.is_some(),
        })
    }

    fn put(&mut self, key: &Key, row: &BlobRow) -> Result<(), Failure> {
        match &row.place {
            Place::Inline { bytes, .. } => self.totals.inline_bytes += bytes.len() as u64,
            Place::Pack(pack) => *self.live.entry(pack.segment).or_default() += record_bytes(key, pack),
            Place::File(file) => {
                self.totals.file_bytes += file.file_len;
                self.batch.put_segment(SegmentKind::File, file.segment, file.file_len);
            }
            Place::Chunks { .. } => {}
        }
        self.totals.blobs += 1;
        self.batch.put_blob(key, row);
        self.batch.put_lru(row.life, key);
        self.work.advance(1);
        self.write_some()
    }

    fn put_record(&mut self, key: &Key, row: &RecordRow) -> Result<(), Failure> {
        self.totals.records += 1;
        self.batch.put_record(key, row);
        self.batch.put_lru(row.life, key);
        self.work.advance(1);
        self.write_some()
    }

    fn write_some(&mut self) -> Result<(), Failure> {
        if self.batch.len_bytes() >= BATCH_BYTES { self.write() } else { Ok(()) }
    }

    fn write(&mut self) -> Result<(), Failure> {
        std::mem::replace(&mut self.batch, self.index.batch()).write(Sync::No)
    }

    /// Blobs in packs that no row tells of.
    fn adopt_packs(&mut self) -> Result<(), Failure> {
        for segment in self.packs.clone() {
            let file = Arc::new(File::open(pack_path(&self.dir.packs(), segment))?);
            let mut walk = Walk::new(file, segment)?;
            while let Some(met) = walk.next_record()? {
                let key = met.header.key;
                if self.is_known(&key)? {
                    continue;
                }
                let raw = self.codec.decode(met.frame, met.header.raw_size as usize);
                let is_right = |raw: bytes::Bytes| key.blob_hash().is_some_and(|hash| is_content_of(&hash, &raw));
                if raw.is_some_and(is_right) {
                    self.adopt(&key, u64::from(met.header.raw_size), Place::Pack(met.place))?;
                }
            }
        }
        Ok(())
    }

    /// Blobs in files that no row tells of.
    fn adopt_files(&mut self) -> Result<(), Failure> {
        for segment in self.files.clone() {
            let Some((key, size_bytes, place)) = read_trailer(&self.dir.files(), segment)? else { continue };
            let opens = FileReader::open(&self.dir.files(), &place, size_bytes).is_ok();
            // The check that follows reads the content.
            if opens && !self.is_known(&key)? {
                self.adopt(&key, size_bytes, Place::File(place))?;
            }
        }
        Ok(())
    }

    fn is_known(&mut self, key: &Key) -> Result<bool, Failure> {
        if !self.batch.is_empty() {
            self.write()?;
        }
        Ok(self.index.blob(key)?.is_some())
    }

    fn adopt(&mut self, key: &Key, size_bytes: u64, place: Place) -> Result<(), Failure> {
        self.made.found += 1;
        self.put(key, &BlobRow { life: self.life, size_bytes, place })
    }

    fn finish(mut self) -> Result<Rebuilt, Failure> {
        for (segment, live) in std::mem::take(&mut self.live) {
            self.batch.put_segment(SegmentKind::Pack, segment, live);
        }
        self.batch.put_totals(&self.totals);
        self.write()?;
        Ok(self.made)
    }
}

/// The segments in a folder, by their names.
fn segments(folder: &Path) -> io::Result<HashSet<Ulid>> {
    let names = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name()));
    let names = names.collect::<io::Result<Vec<_>>>()?;
    Ok(names.iter().filter_map(|name| Ulid::from_string(name.to_str()?).ok()).collect())
}
