//! Reading stored bytes to see that they are as they were stored, without decoding them.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cache_types::Digest;
use store::StoreError;

use crate::blob_file::{FileReader, ReadFailure};
use crate::engine::Engine;
use crate::failure::{Failure, LEVEL, blocking, joined};
use crate::key::Key;
use crate::op::Why;
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
    digest: Digest,
    row: BlobRow,
}

impl Engine {
    /// Those of `digests` that are not here whole and as they were stored; what is damaged is dropped.
    pub(crate) async fn damaged(self: &Arc<Self>, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let (engine, asked) = (Arc::clone(self), digests.to_vec());
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
            tokio::task::spawn_blocking(move || engine.inspect(&leaves, &next))
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
                found.leaves.push(Leaf { of, digest, row });
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
    fn inspect(&self, leaves: &[Leaf], next: &AtomicUsize) -> Result<Vec<Digest>, StoreError> {
        let mut damaged = Vec::new();
        let mut buffer = Vec::new();
        while let Some(leaf) = leaves.get(next.fetch_add(1, Ordering::Relaxed)) {
            if !self.is_as_stored(leaf, &mut buffer)? {
                damaged.push(leaf.of);
            }
        }
        Ok(damaged)
    }

    /// Bytes that moved meanwhile are looked up once more, as a read does.
    fn is_as_stored(&self, leaf: &Leaf, buffer: &mut Vec<u8>) -> Result<bool, StoreError> {
        let mut row = leaf.row.clone();
        loop {
            let why = match self.read_stored(&row, buffer) {
                Ok(()) => return Ok(true),
                Err(ReadFailure::Io(error)) => {
                    return Err(StoreError::Internal { level: LEVEL, source: error.into() });
                }
                Err(ReadFailure::Damaged) => Why::Damaged,
                Err(ReadFailure::Gone) => Why::Gone,
            };
            match self.index.blob(&Key::blob(leaf.digest.hash()))? {
                Some(now) if now.place != row.place => row = now,
                Some(now) => return self.drop_blob(&leaf.digest, now.place, why).map(|()| false),
                None => return Ok(false),
            }
        }
    }

    fn read_stored(&self, row: &BlobRow, buffer: &mut Vec<u8>) -> Result<(), ReadFailure> {
        match &row.place {
            Place::Inline { crc, bytes } if crc32c::crc32c(bytes) == *crc => Ok(()),
            Place::Inline { .. } => Err(ReadFailure::Damaged),
            Place::Pack(pack) => {
                let file: &File = &*self.packs.file(pack.segment)?;
                check(file, pack.offset, pack.stored_len, pack.crc, buffer)
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
