//! Packs: append-only files of small blobs, and their records.
//!
//! A pack is records one after another. A record is a header and one frame. All numbers are little-endian:
//!
//! | bytes | header field |
//! |---|---|
//! | 4 | magic `TFr1` |
//! | 4 | crc32c of the rest of the header |
//! | 4 | raw size |
//! | 4 | stored length of the frame |
//! | 4 | crc32c of the frame |
//! | 1 | 1 when the frame is zstd, else 0 |
//! | 1 | length of the key |
//! | … | key: function, hash |
//!
//! The index points at the frame; the header lets a compaction walk a pack, also past damage.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use parking_lot::Mutex;
use ulid::Ulid;

use crate::data_dir::sync_folder;
use crate::failure::Failure;
use crate::frame::Frame;
use crate::key::{Key, MAX_BLOB_KEY_LEN};
use crate::row::PackPlace;

const MAGIC: [u8; 4] = *b"TFr1";
const FIXED_LEN: usize = 22;
/// The longest header.
const MAX_HEADER_LEN: usize = FIXED_LEN + MAX_BLOB_KEY_LEN;
/// How much is searched at once for the next record after damage.
const SEARCH_BYTES: usize = 256 * 1024;
/// A staging buffer larger than this is not kept.
const KEPT_BUFFER_BYTES: usize = 4 * 1024 * 1024;
/// A frame of this size or more is written from where it is; a smaller one is copied behind others.
const WRITTEN_IN_PLACE_BYTES: usize = 16 * 1024;
/// The most pieces that one call writes.
const MAX_PIECES: usize = 512;

/// What a record says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub key: Key,
    pub raw_size: u32,
    pub stored_len: u32,
    pub crc: u32,
    pub zstd: bool,
}

impl Header {
    fn len(&self) -> usize {
        FIXED_LEN + self.key.as_bytes().len()
    }

    /// The length of the header of a record with this key.
    pub(crate) fn len_of(key: &Key) -> u64 {
        (FIXED_LEN + key.as_bytes().len()) as u64
    }

    fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.put_slice(&MAGIC);
        out.put_u32_le(0);
        out.put_u32_le(self.raw_size);
        out.put_u32_le(self.stored_len);
        out.put_u32_le(self.crc);
        out.put_u8(u8::from(self.zstd));
        out.put_u8(u8::try_from(self.key.as_bytes().len()).expect("a blob's key has at most 65 bytes"));
        out.put_slice(self.key.as_bytes());
        let crc = crc32c::crc32c(&out[start + 8..]);
        out[start + 4..start + 8].copy_from_slice(&crc.to_le_bytes());
    }

    /// Reads the header at the start of `bytes`; `None` when there is none.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (mut fixed, rest) = bytes.split_at_checked(FIXED_LEN)?;
        if fixed.get(..4)? != MAGIC {
            return None;
        }
        fixed.advance(4);
        let crc_of_header = fixed.get_u32_le();
        let key_len = usize::from(*bytes.get(FIXED_LEN - 1)?);
        let key = rest.get(..key_len)?;
        if crc32c::crc32c(bytes.get(8..FIXED_LEN + key_len)?) != crc_of_header {
            return None;
        }
        let (raw_size, stored_len, crc) = (fixed.get_u32_le(), fixed.get_u32_le(), fixed.get_u32_le());
        let zstd = match fixed.get_u8() {
            0 => false,
            1 => true,
            _ => return None,
        };
        Some(Self { key: Key::parse_blob(key)?, raw_size, stored_len, crc, zstd })
    }
}

/// What one record takes in a pack, at most.
pub(crate) fn record_len(stored_len: usize) -> u64 {
    (stored_len + MAX_HEADER_LEN) as u64
}

/// The open end of the packs, owned by the committer.
pub(crate) struct PackWriter {
    folder: PathBuf,
    full_at: u64,
    sync: bool,
    /// Where a new pack is noted before its file is there, until its row is: so that the sweep leaves it alone.
    uncommitted: Arc<Mutex<HashSet<Ulid>>>,
    /// The last one takes records; those before it filled up in this group.
    open: Vec<OpenPack>,
}

struct OpenPack {
    segment: Ulid,
    file: Arc<File>,
    /// Bytes in the file, all of them acknowledged or dead.
    len: u64,
    staged: Staged,
    is_new: bool,
}

/// Bytes to be written one behind the other.
#[derive(Default)]
struct Staged {
    pieces: Vec<Bytes>,
    /// What is behind the pieces.
    tail: Vec<u8>,
    len: u64,
}

impl Staged {
    fn push(&mut self, header: &Header, frame: &Bytes) {
        self.len += (header.len() + frame.len()) as u64;
        header.encode(&mut self.tail);
        if frame.len() < WRITTEN_IN_PLACE_BYTES {
            self.tail.extend_from_slice(frame);
        } else {
            self.pieces.push(std::mem::take(&mut self.tail).into());
            self.pieces.push(frame.clone());
        }
    }

    fn write(&self, file: &File, mut at: u64) -> io::Result<()> {
        let all: Vec<&[u8]> = self.pieces.iter().map(|piece| &**piece).chain([&*self.tail]).collect();
        for pieces in all.chunks(MAX_PIECES) {
            let mut slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut rest = &mut slices[..];
            // What has no bytes is passed over, so that nothing left means nothing to write.
            IoSlice::advance_slices(&mut rest, 0);
            while !rest.is_empty() {
                match rustix::io::pwritev(file, rest, at) {
                    Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                    Ok(written) => {
                        at += written as u64;
                        IoSlice::advance_slices(&mut rest, written);
                    }
                    Err(rustix::io::Errno::INTR) => {}
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        Ok(())
    }

    fn clear(&mut self) {
        self.pieces.clear();
        self.tail.clear();
        self.tail.shrink_to(KEPT_BUFFER_BYTES);
        self.len = 0;
    }
}

/// What a flush made of one pack.
pub(crate) struct FlushedPack {
    pub segment: Ulid,
    pub len: u64,
    pub file: Arc<File>,
    /// No more records go into it.
    pub sealed: bool,
}

impl PackWriter {
    pub(crate) fn new(folder: PathBuf, full_at: u64, sync: bool, uncommitted: Arc<Mutex<HashSet<Ulid>>>) -> Self {
        Self { folder, full_at, sync, uncommitted, open: Vec::new() }
    }

    /// Goes on with a pack that an orderly stop left open.
    pub(crate) fn reopen(&mut self, segment: Ulid, len: u64) -> io::Result<()> {
        let file = OpenOptions::new().read(true).write(true).open(pack_path(&self.folder, segment))?;
        if file.metadata()?.len() == len {
            self.open = vec![OpenPack { segment, file: Arc::new(file), len, staged: Staged::default(), is_new: false }];
        }
        Ok(())
    }

    /// The pack that takes records now.
    pub(crate) fn active(&self) -> Option<Ulid> {
        self.open.last().map(|pack| pack.segment)
    }

    /// Adds a record to the group and tells where it will be.
    pub(crate) fn stage(&mut self, key: &Key, raw_size: u32, frame: &Frame) -> Result<PackPlace, Failure> {
        let stored_len = u32::try_from(frame.stored.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let header = Header { key: key.clone(), raw_size, stored_len, crc: frame.crc, zstd: frame.zstd };
        let len = (header.len() + frame.stored.len()) as u64;
        let full = self.open.last().is_none_or(|pack| pack.end() > 0 && pack.end() + len > self.full_at);
        if full {
            self.open_next()?;
        }
        let pack = self.open.last_mut().expect("one was opened just now");
        let offset = pack.end() + header.len() as u64;
        pack.staged.push(&header, &frame.stored);
        Ok(PackPlace { segment: pack.segment, offset, stored_len, crc: frame.crc, zstd: frame.zstd })
    }

    fn open_next(&mut self) -> Result<(), Failure> {
        let segment = Ulid::generate();
        let path = pack_path(&self.folder, segment);
        self.uncommitted.lock().insert(segment);
        let file = OpenOptions::new().read(true).write(true).create_new(true).open(path)?;
        self.open.push(OpenPack { segment, file: Arc::new(file), len: 0, staged: Staged::default(), is_new: true });
        Ok(())
    }

    /// Writes what is staged, durable as configured.
    ///
    /// After an error nothing staged counts, and no pack that was open takes records again.
    pub(crate) fn flush(&mut self) -> Result<Vec<FlushedPack>, Failure> {
        match self.try_flush() {
            Ok(flushed) => {
                let keep = self.open.len().saturating_sub(1);
                self.open.drain(..keep);
                Ok(flushed)
            }
            Err(failure) => {
                self.abandon();
                Err(failure)
            }
        }
    }

    /// Forgets what is staged and gives the open packs up, cut back to what counts.
    pub(crate) fn abandon(&mut self) {
        for pack in self.open.drain(..) {
            if pack.is_new {
                // Nothing points into it; the sweep takes it should this fail.
                std::fs::remove_file(pack_path(&self.folder, pack.segment)).ok();
            } else {
                // What stays beyond the length is dead bytes.
                pack.file.set_len(pack.len).ok();
            }
        }
    }

    fn try_flush(&mut self) -> Result<Vec<FlushedPack>, Failure> {
        let last = self.open.len().saturating_sub(1);
        let mut flushed = Vec::new();
        for (at, pack) in self.open.iter_mut().enumerate() {
            if pack.staged.len == 0 {
                if at < last {
                    flushed.push(pack.flushed(true));
                }
                continue;
            }
            pack.staged.write(&pack.file, pack.len)?;
            if self.sync {
                pack.file.sync_data()?;
            }
            if self.sync && pack.is_new {
                sync_folder(&self.folder)?;
            }
            flushed.push(FlushedPack { len: pack.end(), ..pack.flushed(at < last) });
        }
        for pack in &mut self.open {
            pack.len = pack.end();
            pack.is_new = false;
            pack.staged.clear();
        }
        Ok(flushed)
    }
}

impl OpenPack {
    fn end(&self) -> u64 {
        self.len + self.staged.len
    }

    fn flushed(&self, sealed: bool) -> FlushedPack {
        FlushedPack { segment: self.segment, len: self.len, file: Arc::clone(&self.file), sealed }
    }
}

pub(crate) fn pack_path(folder: &Path, segment: Ulid) -> PathBuf {
    folder.join(segment.to_string())
}

/// Reads the frame a row points at; its checksum is not looked at here.
pub(crate) fn read_frame(file: &File, place: &PackPlace) -> io::Result<Frame> {
    Frame::read(file, place.offset, place.stored_len, (place.zstd, place.crc))
}

/// A record met on a walk through a pack.
pub(crate) struct Met {
    pub header: Header,
    pub place: PackPlace,
    pub frame: Frame,
}

/// Walks the records of a pack from front to back, past what is damaged.
pub(crate) struct Walk {
    file: Arc<File>,
    segment: Ulid,
    at: u64,
    len: u64,
}

impl Walk {
    pub(crate) fn new(file: Arc<File>, segment: Ulid) -> io::Result<Self> {
        let len = file.metadata()?.len();
        Ok(Self { file, segment, at: 0, len })
    }

    /// The next record; `None` at the end.
    pub(crate) fn next_record(&mut self) -> io::Result<Option<Met>> {
        while self.at < self.len {
            let head = self.window(self.at, MAX_HEADER_LEN)?;
            let Some(header) = Header::decode(&head) else {
                self.at = self.find_magic(self.at + 1)?;
                continue;
            };
            let offset = self.at + header.len() as u64;
            if offset + u64::from(header.stored_len) > self.len {
                self.at = self.find_magic(self.at + 1)?;
                continue;
            }
            let Header { stored_len, crc, zstd, .. } = header;
            let place = PackPlace { segment: self.segment, offset, stored_len, crc, zstd };
            let frame = read_frame(&self.file, &place)?;
            self.at = offset + u64::from(stored_len);
            return Ok(Some(Met { header, place, frame }));
        }
        Ok(None)
    }

    fn window(&self, at: u64, len: usize) -> io::Result<Bytes> {
        let left = usize::try_from(self.len.saturating_sub(at)).unwrap_or(usize::MAX);
        let mut bytes = vec![0; len.min(left)];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes.into())
    }

    /// Where the next record may start, or the end.
    fn find_magic(&self, mut at: u64) -> io::Result<u64> {
        while at < self.len {
            let window = self.window(at, SEARCH_BYTES)?;
            if let Some(found) = window.windows(MAGIC.len()).position(|bytes| bytes == MAGIC) {
                return Ok(at + found as u64);
            }
            if window.len() < SEARCH_BYTES {
                break;
            }
            at += (window.len() - MAGIC.len() + 1) as u64;
        }
        Ok(self.len)
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;
    use proptest::prelude::*;

    use super::*;
    use crate::frame::Codec;

    proptest! {
        #[test]
        fn headers_read_back(data in proptest::collection::vec(any::<u8>(), 0..50), which in 0usize..7, numbers in any::<(u32, u32, u32, bool)>()) {
            let key = Key::blob(&DigestFunction::ALL[which].hash(&data));
            let (raw_size, stored_len, crc, zstd) = numbers;
            let header = Header { key, raw_size, stored_len, crc, zstd };
            let mut bytes = Vec::new();
            header.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), header.len());
            prop_assert_eq!(Header::decode(&bytes), Some(header));
        }

        #[test]
        fn any_bytes_are_a_header_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), magic: bool) {
            if magic && bytes.len() > 4 {
                bytes[..4].copy_from_slice(&MAGIC);
            }
            if let Some(header) = Header::decode(&bytes) {
                let mut again = Vec::new();
                header.encode(&mut again);
                prop_assert!(bytes.starts_with(&again));
            }
        }
    }

    #[test]
    fn a_walk_goes_past_a_damaged_record() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut writer = PackWriter::new(folder.path().to_owned(), 1 << 20, false, Arc::default());
        let codec = Codec::default();
        let mut places = Vec::new();
        for byte in 0..10u8 {
            let raw = vec![byte; 5000];
            let key = Key::blob(&DigestFunction::Sha256.hash(&raw));
            places.push(writer.stage(&key, 5000, &codec.encode(raw.into())).expect("staged"));
        }
        let flushed = writer.flush().expect("flushed");
        assert_eq!(flushed.len(), 1);
        flushed[0].file.write_all_at(b"xxxx", places[3].offset - 40).expect("damaged");
        let mut walk = Walk::new(Arc::clone(&flushed[0].file), flushed[0].segment).expect("opened");
        let mut met = Vec::new();
        while let Some(record) = walk.next_record().expect("read") {
            met.push(record.place);
        }
        places.remove(3);
        assert_eq!(met, places);
    }
}
