//! Files that hold one large blob each.
//!
//! A file is frames of 1 MiB raw (the last may be shorter), the key, the frame table and a trailer. All numbers are
//! little-endian. A table entry is the stored length u32, its top bit set for zstd, and the frame's crc32c u32. The trailer
//! is: magic `TFf1`, length of the key u32, frame size u32, number of frames u32, blob size u64, crc32c of the table u32,
//! crc32c of the trailer so far u32. The index row holds the file's length and the table's crc, so a read needs no trailer.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Buf, BufMut, Bytes};
use ulid::Ulid;

use crate::failure::Failure;
use crate::frame::{Codec, FRAME_BYTES, Frame};
use crate::inspection;
use crate::key::{Key, MAX_BLOB_KEY_LEN};
use crate::row::FilePlace;

const MAGIC: [u8; 4] = *b"TFf1";
const TRAILER_LEN: u64 = 32;
const ENTRY_LEN: u64 = 8;
const ZSTD: u32 = 1 << 31;
const MAX_KEY_LEN: u32 = MAX_BLOB_KEY_LEN as u32;

/// One frame in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    stored_len: u32,
    zstd: bool,
    crc: u32,
}

fn encode_table(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 8);
    for entry in entries {
        out.put_u32_le(entry.stored_len | if entry.zstd { ZSTD } else { 0 });
        out.put_u32_le(entry.crc);
    }
    out
}

/// `bytes` is a whole number of entries; a rest is ignored.
fn decode_table(bytes: &[u8]) -> Vec<Entry> {
    let (entries, _rest) = bytes.as_chunks::<8>();
    let decode = |mut entry: &[u8]| {
        let len = entry.get_u32_le();
        Entry { stored_len: len & !ZSTD, zstd: len & ZSTD != 0, crc: entry.get_u32_le() }
    };
    entries.iter().map(|entry| decode(entry)).collect()
}

fn trailer(key: &Key, frames: u32, size_bytes: u64, table_crc: u32) -> Vec<u8> {
    let mut out = Vec::with_capacity(32);
    out.put_slice(&MAGIC);
    out.put_u32_le(u32::try_from(key.as_bytes().len()).expect("a blob's key has at most 65 bytes"));
    out.put_u32_le(u32::try_from(FRAME_BYTES).expect("1 MiB"));
    out.put_u32_le(frames);
    out.put_u64_le(size_bytes);
    out.put_u32_le(table_crc);
    out.put_u32_le(crc32c::crc32c(&out));
    out
}

/// The trailer's numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Trailer {
    key_len: u32,
    frames: u32,
    size_bytes: u64,
    table_crc: u32,
}

impl Trailer {
    /// `None` when the bytes are no trailer.
    fn decode(bytes: &[u8; TRAILER_LEN as usize]) -> Option<Self> {
        let (numbers, mut crc) = bytes.split_at(bytes.len() - 4);
        if !numbers.starts_with(&MAGIC) || crc32c::crc32c(numbers) != crc.get_u32_le() {
            return None;
        }
        let mut numbers = &numbers[MAGIC.len()..];
        let (key_len, frame_bytes, frames) = (numbers.get_u32_le(), numbers.get_u32_le(), numbers.get_u32_le());
        let (size_bytes, table_crc) = (numbers.get_u64_le(), numbers.get_u32_le());
        let is_ours = key_len <= MAX_KEY_LEN && frame_bytes as usize == FRAME_BYTES;
        let fits = size_bytes.div_ceil(FRAME_BYTES as u64) == u64::from(frames);
        (is_ours && fits).then_some(Self { key_len, frames, size_bytes, table_crc })
    }
}

/// What a file of `size_bytes` raw takes at most.
pub(crate) fn file_len_at_most(size_bytes: u64) -> u64 {
    size_bytes + size_bytes.div_ceil(FRAME_BYTES as u64) * ENTRY_LEN + TRAILER_LEN + 128
}

/// A file in the making, in `tmp/`; dropped, it goes away.
pub(crate) struct FileWriter {
    path: PathBuf,
    file: File,
    table: Vec<Entry>,
    len: u64,
    size_bytes: u64,
    segment: Ulid,
    moved: bool,
}

impl FileWriter {
    pub(crate) fn create(tmp: &Path) -> Result<Self, Failure> {
        let segment = Ulid::generate();
        let path = tmp.join(segment.to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        Ok(Self { path, file, table: Vec::new(), len: 0, size_bytes: 0, segment, moved: false })
    }

    pub(crate) fn segment(&self) -> Ulid {
        self.segment
    }

    /// Bytes written so far.
    pub(crate) fn len_bytes(&self) -> u64 {
        self.len
    }

    /// Appends a frame. Every one but the last has [`FRAME_BYTES`].
    pub(crate) fn push(&mut self, codec: &Codec, raw: Bytes) -> Result<(), Failure> {
        self.size_bytes += raw.len() as u64;
        let frame = codec.encode(raw);
        self.file.write_all(&frame.stored)?;
        let stored_len = u32::try_from(frame.stored.len()).expect("a frame has at most 1 MiB");
        self.len += u64::from(stored_len);
        self.table.push(Entry { stored_len, zstd: frame.zstd, crc: frame.crc });
        Ok(())
    }

    /// Writes the tail, makes the bytes durable if asked, and moves the file to its place in `folder`.
    pub(crate) fn finish(mut self, key: &Key, folder: &Path, sync: bool) -> Result<FilePlace, Failure> {
        let table = encode_table(&self.table);
        let table_crc = crc32c::crc32c(&table);
        let frames = u32::try_from(self.table.len()).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
        let tail = [key.as_bytes(), &table, &trailer(key, frames, self.size_bytes, table_crc)].concat();
        self.file.write_all(&tail)?;
        if sync {
            self.file.sync_data()?;
        }
        std::fs::rename(&self.path, file_path(folder, self.segment))?;
        self.moved = true;
        if sync {
            crate::data_dir::sync_folder(folder)?;
        }
        Ok(FilePlace { segment: self.segment, file_len: self.len + tail.len() as u64, table_crc })
    }
}

impl Drop for FileWriter {
    fn drop(&mut self) {
        if !self.moved {
            // What stays is removed when the store is opened.
            std::fs::remove_file(&self.path).ok();
        }
    }
}

pub(crate) fn file_path(folder: &Path, segment: Ulid) -> PathBuf {
    folder.join(segment.to_string())
}

/// What a file says of itself: its blob's key and size, and its place; `None` when it does not.
pub(crate) fn read_trailer(folder: &Path, segment: Ulid) -> io::Result<Option<(Key, u64, FilePlace)>> {
    let file = File::open(file_path(folder, segment))?;
    let file_len = file.metadata()?.len();
    let Some(at) = file_len.checked_sub(TRAILER_LEN) else { return Ok(None) };
    let mut bytes = [0; TRAILER_LEN as usize];
    file.read_exact_at(&mut bytes, at)?;
    let Some(trailer) = Trailer::decode(&bytes) else { return Ok(None) };
    let before = u64::from(trailer.frames) * ENTRY_LEN + u64::from(trailer.key_len);
    let Some(at) = at.checked_sub(before) else { return Ok(None) };
    let mut key = vec![0; trailer.key_len as usize];
    file.read_exact_at(&mut key, at)?;
    let place = FilePlace { segment, file_len, table_crc: trailer.table_crc };
    Ok(Key::parse_blob(&key).map(|key| (key, trailer.size_bytes, place)))
}

/// An open file and its frame table.
pub(crate) struct FileReader {
    file: File,
    entries: Vec<Entry>,
    /// Where each frame starts.
    offsets: Vec<u64>,
    size_bytes: u64,
}

/// Why stored bytes could not be read.
#[derive(Debug)]
pub(crate) enum ReadFailure {
    /// Not there any more.
    Gone,
    /// There, and not what was stored.
    Damaged,
    /// The system failed.
    Io(io::Error),
}

impl From<io::Error> for ReadFailure {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Gone,
            io::ErrorKind::UnexpectedEof => Self::Damaged,
            // A sector that the disk cannot read.
            _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => Self::Damaged,
            _ => Self::Io(error),
        }
    }
}

impl FileReader {
    pub(crate) fn open(folder: &Path, place: &FilePlace, size_bytes: u64) -> Result<Self, ReadFailure> {
        let file = File::open(file_path(folder, place.segment))?;
        if file.metadata()?.len() != place.file_len {
            return Err(ReadFailure::Damaged);
        }
        let table_len = size_bytes.div_ceil(FRAME_BYTES as u64) * ENTRY_LEN;
        let table_at = place.file_len.checked_sub(TRAILER_LEN + table_len).ok_or(ReadFailure::Damaged)?;
        let mut table = vec![0; usize::try_from(table_len).map_err(|_| ReadFailure::Damaged)?];
        file.read_exact_at(&mut table, table_at)?;
        if crc32c::crc32c(&table) != place.table_crc {
            return Err(ReadFailure::Damaged);
        }
        let entries = decode_table(&table);
        let starts = entries.iter().scan(0, |at, entry| {
            let start = *at;
            *at += u64::from(entry.stored_len);
            Some(start)
        });
        let offsets = starts.collect();
        Ok(Self { file, entries, offsets, size_bytes })
    }

    /// How many frames there are.
    pub(crate) fn frames(&self) -> usize {
        self.entries.len()
    }

    /// Reads frame `number` as it is stored, and compares its checksum.
    pub(crate) fn check(&self, number: usize, buffer: &mut Vec<u8>) -> Result<(), ReadFailure> {
        let (Some(entry), Some(&offset)) = (self.entries.get(number), self.offsets.get(number)) else {
            return Err(ReadFailure::Damaged);
        };
        inspection::check(&self.file, offset, entry.stored_len, entry.crc, buffer)
    }

    /// The raw bytes of frame `number`, checked.
    pub(crate) fn frame(&self, codec: &Codec, number: usize) -> Result<Bytes, ReadFailure> {
        let (Some(entry), Some(&offset)) = (self.entries.get(number), self.offsets.get(number)) else {
            return Err(ReadFailure::Damaged);
        };
        let start = number as u64 * FRAME_BYTES as u64;
        let raw_len = usize::try_from(self.size_bytes - start).unwrap_or(usize::MAX).min(FRAME_BYTES);
        let frame = Frame::read(&self.file, offset, entry.stored_len, (entry.zstd, entry.crc))?;
        codec.decode(frame, raw_len).ok_or(ReadFailure::Damaged)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn tables_read_back(raw in proptest::collection::vec((0u32..ZSTD, any::<bool>(), any::<u32>()), 0..50)) {
            let entries: Vec<Entry> =
                raw.into_iter().map(|(stored_len, zstd, crc)| Entry { stored_len, zstd, crc }).collect();
            prop_assert_eq!(decode_table(&encode_table(&entries)), entries);
        }

        #[test]
        fn any_bytes_are_a_trailer_or_refused(mut bytes: [u8; 32]) {
            bytes[..4].copy_from_slice(&MAGIC);
            let crc = crc32c::crc32c(&bytes[..28]);
            bytes[28..].copy_from_slice(&crc.to_le_bytes());
            if let Some(read) = Trailer::decode(&bytes) {
                prop_assert!(read.key_len <= MAX_KEY_LEN);
            }
        }

        #[test]
        fn any_bytes_are_a_table(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert_eq!(encode_table(&decode_table(&bytes)), &bytes[..bytes.len() / 8 * 8]);
        }
    }

    #[test]
    fn the_trailer_reads_back_and_a_changed_byte_is_seen() {
        let key = Key::blob(&cache_types::DigestFunction::Sha512.hash(b"x"));
        let bytes: [u8; 32] = trailer(&key, 3, 3 << 20, 7).try_into().expect("its length");
        let numbers = Trailer { key_len: 65, frames: 3, size_bytes: 3 << 20, table_crc: 7 };
        assert_eq!(Trailer::decode(&bytes), Some(numbers));
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 1;
            assert_eq!(Trailer::decode(&changed), None, "{at}");
        }
    }
}
