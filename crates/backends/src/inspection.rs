//! Reading stored bytes to see that they are as they were stored. Only small values are decoded, and kept in memory: who has
//! many blobs inspected is about to read them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache_types::Digest;
use store::StoreError;

use crate::blob_file::{FileReader, ReadFailure};
use crate::engine::Engine;
use crate::failure::{Failure, LEVEL, blocking, joined};
use crate::hot::{MAX_VALUE_BYTES, Seen};
use crate::key::Key;
use crate::op::Why;
use crate::pack::read_frame;
use crate::row::{BlobRow, Place};

/// Threads that read for one question.
const READERS: usize = 4;
/// Rows that are looked up at once.
const SLICE: usize = 1024;
/// A chunk may be a list itself; its chunks are not.
const MAX_DEPTH: usize = 4;

/// Bytes that a blob rests on.
struct Leaf {
    /// The blob that was asked for.
    of: Digest,
    /// The blob itself, or one of its chunks.
    key: Key,
    row: BlobRow,
}

impl Engine {
    /// Those of `digests` that are not here whole and as they were stored; what is damaged is dropped.
    pub(crate) async fn damaged(self: &Arc<Self>, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let (engine, asked) = (Arc::clone(self), digests.to_vec());
        // In no period of the lease: the first who reads such a value has its row touched.
        let seen = self.hot.before(0);
        let (leaves, mut damaged) = blocking(move || {
            let mut found = Found::default();
            for slice in asked.chunks(SLICE) {
                let blobs: Vec<(Digest, Digest)> = slice.iter().map(|digest| (*digest, *digest)).collect();
                engine.leaves(&blobs, &mut found, 0)?;
            }
            Ok((Arc::new(found.leaves), found.damaged))
        })
        .await?;
        let next = Arc::new(AtomicUsize::new(0));
        let readers = (0..READERS.min(leaves.len())).map(|_| {
            let (engine, leaves, next) = (Arc::clone(self), Arc::clone(&leaves), Arc::clone(&next));
            tokio::task::spawn_blocking(move || engine.inspect(&leaves, &next, seen))
        });
        for reader in readers.collect::<Vec<_>>() {
            damaged.append(&mut joined(reader.await)?);
        }
        damaged.sort_unstable();
        damaged.dedup();
        Ok(damaged)
    }

    /// Looks up what these blobs rest on: pairs of the blob that was asked for and the one to look up. Blocks.
    fn leaves(&self, blobs: &[(Digest, Digest)], found: &mut Found, depth: usize) -> Result<(), Failure> {
        let blobs: Vec<_> = blobs.iter().filter(|(_, digest)| !digest.is_empty()).collect();
        let keys: Vec<Key> = blobs.iter().map(|(_, digest)| Key::blob(digest.hash())).collect();
        for ((&&(of, digest), key), row) in blobs.iter().zip(&keys).zip(self.index.blobs(&keys)?) {
            let Some(row) = row.filter(|row| row.size_bytes == digest.size_bytes()) else {
                found.damaged.push(of);
                continue;
            };
            if !matches!(row.place, Place::Chunks { .. }) {
                found.leaves.push(Leaf { of, key: key.clone(), row });
                continue;
            }
            match self.index.list(key)?.filter(|_| depth < MAX_DEPTH) {
                Some(chunks) => {
                    let chunks: Vec<_> = chunks.into_iter().map(|chunk| (of, chunk)).collect();
                    self.leaves(&chunks, found, depth + 1)?;
                }
                None => found.damaged.push(of),
            }
        }
        Ok(())
    }

    /// Reads leaves until none is left; the blobs of those that are damaged. Blocks.
    fn inspect(&self, leaves: &[Leaf], next: &AtomicUsize, seen: Seen) -> Result<Vec<Digest>, StoreError> {
        let mut damaged = Vec::new();
        let mut buffer = Vec::new();
        while let Some(leaf) = leaves.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !self.is_as_stored(leaf, &mut buffer, seen)? {
                damaged.push(leaf.of);
            }
        }
        Ok(damaged)
    }

    /// Bytes that moved meanwhile are looked up once more, as a read does.
    fn is_as_stored(&self, leaf: &Leaf, buffer: &mut Vec<u8>, seen: Seen) -> Result<bool, StoreError> {
        let mut row = leaf.row.clone();
        loop {
            let why = match self.read_stored(&leaf.key, &row, buffer, seen) {
                Ok(()) => return Ok(true),
                Err(ReadFailure::Io(error)) => {
                    return Err(StoreError::Internal { level: LEVEL, source: error.into() });
                }
                Err(ReadFailure::Damaged) => Why::Damaged,
                Err(ReadFailure::Gone) => Why::Gone,
            };
            match self.index.blob(&leaf.key)? {
                Some(now) if now.place != row.place => row = now,
                Some(now) => return self.drop_blob(&leaf.of, &leaf.key, now.place, why).map(|()| false),
                None => return Ok(false),
            }
        }
    }

    fn read_stored(&self, key: &Key, row: &BlobRow, buffer: &mut Vec<u8>, seen: Seen) -> Result<(), ReadFailure> {
        match &row.place {
            Place::Inline { crc, bytes } if crc32c::crc32c(bytes) == *crc => {
                self.hot.insert(key.clone(), bytes, seen);
                Ok(())
            }
            Place::Inline { .. } => Err(ReadFailure::Damaged),
            Place::Pack(pack) => {
                let file: &File = &*self.packs.file(pack.segment)?;
                let Some(raw_len) = usize::try_from(row.size_bytes).ok().filter(|len| *len <= MAX_VALUE_BYTES) else {
                    return check(file, pack.offset, pack.stored_len, pack.crc, buffer);
                };
                let raw = self.codec.decode(read_frame(file, pack)?, raw_len).ok_or(ReadFailure::Damaged)?;
                self.hot.insert(key.clone(), &raw, seen);
                Ok(())
            }
            Place::File(place) => {
                let reader = FileReader::open(&self.dir.files(), place, row.size_bytes)?;
                (0..reader.frames()).try_for_each(|number| reader.check(number, buffer))
            }
            // Cut since it was looked up: its chunks were read from these bytes, and checked then.
            Place::Chunks { .. } => Ok(()),
        }
    }
}

#[derive(Default)]
struct Found {
    leaves: Vec<Leaf>,
    damaged: Vec<Digest>,
}

/// Reads stored bytes and compares their checksum.
pub(crate) fn check(file: &File, at: u64, len: u32, crc: u32, buffer: &mut Vec<u8>) -> Result<(), ReadFailure> {
    buffer.resize(len as usize, 0);
    file.read_exact_at(buffer, at)?;
    if crc32c::crc32c(buffer) == crc { Ok(()) } else { Err(ReadFailure::Damaged) }
}
