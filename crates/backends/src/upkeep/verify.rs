use std::fs::File;

use bytes::Bytes;
use cache_types::{Hash, Hasher};

use crate::blob_file::{FileReader, ReadFailure};
use crate::engine::Engine;
use crate::failure::Failure;
use crate::key::Key;
use crate::pack::read_frame;
use crate::row::{BlobRow, Place};

/// A chunk may be a list itself; its chunks are not.
const MAX_DEPTH: usize = 4;

/// What is wrong with a blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Stored checksum, encoding, length or hash.
    Damaged,
    /// The bytes, or a chunk, are not there.
    Gone,
}

/// Why a blob could not be called whole.
pub(super) enum Unverified {
    Fault(Fault),
    /// It could not be found out.
    Failed(Failure),
}

impl From<ReadFailure> for Unverified {
    fn from(failure: ReadFailure) -> Self {
        match failure {
            ReadFailure::Gone => Self::Fault(Fault::Gone),
            ReadFailure::Damaged => Self::Fault(Fault::Damaged),
            ReadFailure::Io(error) => Self::Failed(error.into()),
        }
    }
}

impl From<std::io::Error> for Unverified {
    fn from(error: std::io::Error) -> Self {
        ReadFailure::from(error).into()
    }
}

impl From<Failure> for Unverified {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure)
    }
}

/// Reads all of a blob, checks every stored checksum, and compares the content with its hash. Answers the bytes read.
pub(super) fn verify(engine: &Engine, key: &Key, row: &BlobRow) -> Result<u64, Unverified> {
    let hash = key.blob_hash().ok_or(Unverified::Fault(Fault::Damaged))?;
    let mut content = Content { engine, hasher: Hasher::new(hash.function(), row.size_bytes), len: 0 };
    content.add(key, row, 0)?;
    if content.len != row.size_bytes || content.hasher.finish() != hash {
        return Err(Unverified::Fault(Fault::Damaged));
    }
    Ok(row.size_bytes)
}

/// The bytes of a blob on their way through the hash function.
struct Content<'a> {
    engine: &'a Engine,
    hasher: Hasher,
    len: u64,
}

impl Content<'_> {
    fn push(&mut self, bytes: &Bytes) {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
    }

    fn add(&mut self, key: &Key, row: &BlobRow, depth: usize) -> Result<(), Unverified> {
        let engine = self.engine;
        match &row.place {
            Place::Inline { crc, bytes } => {
                if crc32c::crc32c(bytes) != *crc {
                    return Err(Unverified::Fault(Fault::Damaged));
                }
                self.push(bytes);
            }
            Place::Pack(pack) => {
                let file: &File = &*engine.packs.file(pack.segment)?;
                let raw_len = usize::try_from(row.size_bytes).map_err(|_| ReadFailure::Damaged)?;
                let raw = engine.codec.decode(read_frame(file, pack)?, raw_len);
                self.push(&raw.ok_or(ReadFailure::Damaged)?);
            }
            Place::File(place) => {
                let reader = FileReader::open(&engine.dir.files(), place, row.size_bytes)?;
                for number in 0..reader.frames() {
                    self.push(&reader.frame(&engine.codec, number)?);
                }
            }
            Place::Chunks { .. } => self.add_chunks(key, depth)?,
        }
        Ok(())
    }

    fn add_chunks(&mut self, key: &Key, depth: usize) -> Result<(), Unverified> {
        let list = self.engine.index.list(key)?.filter(|_| depth < MAX_DEPTH);
        for chunk in list.ok_or(Unverified::Fault(Fault::Gone))? {
            let key = Key::blob(chunk.hash());
            let row = self.engine.index.blob(&key)?.filter(|row| row.size_bytes == chunk.size_bytes());
            match row {
                Some(row) => self.add(&key, &row, depth + 1)?,
                None if chunk.is_empty() => {}
                None => return Err(Unverified::Fault(Fault::Gone)),
            }
        }
        Ok(())
    }
}

/// Whether the content is that of the hash.
pub(super) fn is_content_of(hash: &Hash, content: &[u8]) -> bool {
    hash.function().hash(content) == *hash
}
