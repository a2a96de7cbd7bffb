//! Takes an upload apart: unpacks it, checks that it is a NAR, and finds the blobs in it. Blocks.

mod tree;

use std::cell::Cell;
use std::io::{self, BufRead, Read};
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;

use bytes::Bytes;
use cache_types::{Digest, DigestFunction, Hash, Hasher};
use store::StoreError;

pub(crate) use self::tree::MAX_DIRECTORY_BYTES;
use self::tree::TreeBuilder;
use crate::compression::Compression;
use crate::nar::{NarError, NarReader};
use crate::records::Root;
use crate::settings::UploadLimits;
use crate::spool::{Room, Spool, Spooled};

/// Bytes that are unpacked at once.
const PIECE_BYTES: usize = 128 * 1024;

/// So much may come out of a packed file however few bytes it has.
const FREE_BYTES: u64 = 256 * 1024 * 1024;

/// Bytes that say how a file is packed whose name does not.
const MAGIC_BYTES: u64 = 2;

/// Where and how much of an upload is set aside.
#[derive(Clone, Debug)]
pub(crate) struct Bench {
    pub(crate) room: Arc<Room>,
    pub(crate) folder: Arc<Path>,
    /// What one upload may use.
    pub(crate) limits: UploadLimits,
}

/// A NAR that was read to its end.
#[derive(Debug)]
pub(crate) struct UnpackedNar {
    /// The file as it came.
    pub(crate) file: Digest,
    /// How it was packed.
    pub(crate) compression: Compression,
    pub(crate) nar: Digest,
    pub(crate) root: Root,
    /// The blobs it is made of, each once; folders after what they name.
    pub(crate) parts: Vec<Part>,
    pub(crate) bytes: Spooled,
}

/// A blob of a NAR.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) digest: Digest,
    pub(crate) place: Place,
}

/// Where the bytes of a part are.
#[derive(Debug)]
pub(crate) enum Place {
    /// Here: an encoded folder.
    Encoded(Bytes),
    /// In the NAR, from this offset.
    Nar(u64),
}

/// Why an upload was refused.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnpackError {
    #[error(transparent)]
    Nar(#[from] NarError),
    /// It is not packed as its name says.
    #[error("the bytes are not packed with {name}: {source}")]
    Packed { name: &'static str, source: io::Error },
    #[error("bytes follow the end of what is packed")]
    Trailing,
    #[error("more than {0} bytes when unpacked")]
    TooLarge(u64),
    #[error("more than {0} bytes come out for each that goes in (limits.zstd_ratio)")]
    TooDense(u64),
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads a packed NAR to its end.
pub(crate) fn unpack_nar(
    mut source: impl Read,
    mut compression: Compression,
    bench: &Bench,
) -> Result<UnpackedNar, UnpackError> {
    let mut first = Vec::new();
    if compression == Compression::None {
        source.by_ref().take(MAGIC_BYTES).read_to_end(&mut first).map_err(|error| failed(error, compression))?;
        compression = Compression::of_unmarked(&first);
    }
    let source = first.as_slice().chain(source);
    let mut reader = NarReader::default();
    let mut tree = TreeBuilder::default();
    let mut hasher = Hasher::new(DigestFunction::Sha256, 0);
    let mut spool = Spool::new(&bench.room, bench.limits.max_bytes);
    let read = read_through(source, compression, bench.limits, |piece| {
        reader.push(piece, &mut |event| {
            tree.take(event);
            Ok::<(), NarError>(())
        })?;
        hasher.update(piece);
        Ok(spool.push(piece, &bench.folder)?)
    })?;
    reader.finish()?;
    let nar = digest(hasher, read.unpacked_bytes)?;
    let (root, mut parts) = tree.finish();
    if root == Root::Whole {
        parts.push(Part { digest: nar, place: Place::Nar(0) });
    }
    Ok(UnpackedNar { file: read.file, compression, nar, root, parts, bytes: spool.finish(&bench.folder)? })
}

/// Reads any packed bytes to their end; their digest, and the bytes.
pub(crate) fn unpack_text(
    source: impl Read,
    compression: Compression,
    bench: &Bench,
) -> Result<(Digest, Spooled), UnpackError> {
    let mut hasher = Hasher::new(DigestFunction::Sha256, 0);
    let mut spool = Spool::new(&bench.room, bench.limits.max_bytes);
    let read = read_through(source, compression, bench.limits, |piece| {
        hasher.update(piece);
        Ok(spool.push(piece, &bench.folder)?)
    })?;
    Ok((digest(hasher, read.unpacked_bytes)?, spool.finish(&bench.folder)?))
}

struct ReadThrough {
    file: Digest,
    unpacked_bytes: u64,
}

fn read_through(
    source: impl Read,
    compression: Compression,
    limits: UploadLimits,
    mut on_piece: impl FnMut(&[u8]) -> Result<(), UnpackError>,
) -> Result<ReadThrough, UnpackError> {
    let failed = |source: io::Error| failed(source, compression);
    let packed_bytes = Rc::new(Cell::new(0));
    let source = Hashing::new(source, packed_bytes.clone());
    let mut unpacking = compression.unpack(source, limits.zstd_window_log).map_err(failed)?;
    let mut piece = vec![0; PIECE_BYTES];
    let mut unpacked_bytes = 0;
    loop {
        let count = match unpacking.read(&mut piece) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(failed(error)),
        };
        unpacked_bytes += count as u64;
        if unpacked_bytes > limits.max_bytes {
            return Err(UnpackError::TooLarge(limits.max_bytes));
        }
        if limits.ratio != 0 && unpacked_bytes > FREE_BYTES && unpacked_bytes / limits.ratio > packed_bytes.get() {
            return Err(UnpackError::TooDense(limits.ratio));
        }
        on_piece(piece.get(..count).unwrap_or_default())?;
    }
    let mut rest = unpacking.rest();
    if !rest.fill_buf().map_err(failed)?.is_empty() {
        return Err(UnpackError::Trailing);
    }
    let hashing = rest.into_inner();
    Ok(ReadThrough { file: digest(hashing.hasher, packed_bytes.get())?, unpacked_bytes })
}

/// A failure of the source, or of what it holds.
fn failed(error: io::Error, compression: Compression) -> UnpackError {
    match error.downcast::<StoreError>() {
        Ok(error) => UnpackError::Store(error),
        Err(source) => UnpackError::Packed { name: compression.name(), source },
    }
}

fn digest(hasher: Hasher, size_bytes: u64) -> Result<Digest, UnpackError> {
    Digest::new(hasher.finish(), size_bytes).map_err(|_| UnpackError::TooLarge(i64::MAX as u64))
}

/// A reader that hashes what passes.
struct Hashing<R> {
    source: R,
    hasher: Hasher,
    read_bytes: Rc<Cell<u64>>,
}

impl<R> Hashing<R> {
    fn new(source: R, read_bytes: Rc<Cell<u64>>) -> Self {
        Self { source, hasher: Hasher::new(DigestFunction::Sha256, 0), read_bytes }
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(out)?;
        self.hasher.update(out.get(..count).unwrap_or_default());
        self.read_bytes.set(self.read_bytes.get() + count as u64);
        Ok(count)
    }
}

/// The hash of a NAR or file as the names of uploads carry it.
pub(crate) fn sha256(raw: &[u8; 32]) -> Hash {
    Hash::from_bytes(DigestFunction::Sha256, raw).expect("32 bytes are a SHA-256 hash")
}

#[cfg(test)]
mod tests;
