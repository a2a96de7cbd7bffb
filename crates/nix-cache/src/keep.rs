//! Puts the parts of an upload into the store.

use std::sync::Arc;

use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use futures::{StreamExt, TryStreamExt, stream};
use store::{BlobBody, BlobStore, Chunker, MAX_CHUNK_BYTES, StoreError};

use crate::spool::Spooled;
use crate::unpack::{Part, Place, UnpackedNar};

/// Parts that are written at once.
const WRITTEN_AT_ONCE: usize = 64;
/// Bytes that are read at once of what was set aside.
const PIECE_BYTES: usize = 256 * 1024;

/// Stores the parts of a NAR that are not here yet; all of them are leased afterwards.
pub(crate) async fn nar(blobs: &dyn BlobStore, unpacked: &UnpackedNar) -> Result<(), StoreError> {
    let digests: Vec<Digest> = unpacked.parts.iter().map(|part| part.digest).collect();
    let missing: std::collections::HashSet<Digest> = blobs.find_missing(&digests).await?.into_iter().collect();
    let parts = unpacked.parts.iter().filter(|part| missing.contains(&part.digest));
    let writes = parts.map(|part| write(blobs, part, &unpacked.bytes)).collect::<Vec<_>>();
    stream::iter(writes).buffer_unordered(WRITTEN_AT_ONCE).try_collect::<()>().await?;
    leased(blobs, &digests).await
}

/// Asks for what was just stored, so that it is kept until a record names it, and after.
pub(crate) async fn leased(blobs: &dyn BlobStore, digests: &[Digest]) -> Result<(), StoreError> {
    match blobs.find_missing(digests).await?.first() {
        None => Ok(()),
        Some(gone) => Err(StoreError::Full {
            needed_bytes: gone.size_bytes(),
            reason: "what was just stored is gone already: the store is too small for it".to_owned(),
        }),
    }
}

async fn write(blobs: &dyn BlobStore, part: &Part, bytes: &Spooled) -> Result<(), StoreError> {
    match &part.place {
        Place::Encoded(encoded) => blobs.write(part.digest, encoded.clone().into()).await,
        Place::Nar(offset) if part.digest.size_bytes() > MAX_CHUNK_BYTES as u64 => {
            in_chunks(blobs, part.digest, bytes, *offset).await
        }
        Place::Nar(offset) => blobs.write(part.digest, body(bytes, *offset, part.digest.size_bytes())).await,
    }
}

/// Bytes that were set aside, from `offset` on.
pub(crate) fn body(bytes: &Spooled, offset: u64, size_bytes: u64) -> BlobBody {
    if bytes.is_in_memory()
        && let Ok(len) = usize::try_from(size_bytes)
        && let Ok(whole) = bytes.read(offset, len)
    {
        return whole.into();
    }
    let end = offset.saturating_add(size_bytes);
    BlobBody::from_stream(stream::try_unfold((bytes.clone(), offset), move |(bytes, at)| async move {
        // At most a piece, which fits.
        let len = end.saturating_sub(at).min(PIECE_BYTES as u64) as usize;
        if len == 0 {
            return Ok(None);
        }
        let piece = read(bytes.clone(), at, len).await?;
        Ok(Some((piece, (bytes, at + len as u64))))
    }))
}

async fn read(bytes: Spooled, offset: u64, len: usize) -> Result<Bytes, StoreError> {
    let reading = tokio::task::spawn_blocking(move || bytes.read(offset, len)).await;
    reading.map_err(|error| StoreError::Internal { level: "the folder for uploads", source: error.into() })?
}

/// Stores a large file as the chunks that the byte layer cuts, so that what versions of it share is stored once.
/// Spec: N-70, N-74.
async fn in_chunks(blobs: &dyn BlobStore, digest: Digest, bytes: &Spooled, offset: u64) -> Result<(), StoreError> {
    let mut pieces = body(bytes, offset, digest.size_bytes());
    let mut chunker = Chunker::default();
    let mut chunks = Vec::new();
    loop {
        let piece = pieces.next().await.transpose()?;
        let is_last = piece.is_none();
        let cut = tokio::task::spawn_blocking(move || cut(chunker, piece)).await;
        let (rest, cut) =
            cut.map_err(|error| StoreError::Internal { level: "cutting chunks", source: error.into() })?;
        chunker = rest;
        let digests: Vec<Digest> = cut.iter().map(|(digest, _)| *digest).collect();
        let missing = if digests.is_empty() { Vec::new() } else { blobs.find_missing(&digests).await? };
        for (chunk, data) in cut {
            if missing.contains(&chunk) {
                blobs.write(chunk, data.into()).await?;
            }
            chunks.push(chunk);
        }
        if is_last {
            return blobs.splice(digest, &chunks).await;
        }
    }
}

/// The chunks that end in this piece, or with it where it is the last. Blocks.
fn cut(mut chunker: Chunker, piece: Option<Bytes>) -> (Chunker, Vec<(Digest, Bytes)>) {
    let mut cut = Vec::new();
    match &piece {
        Some(piece) => chunker.push(piece),
        None => {
            while let Some(chunk) = chunker.last_chunk() {
                cut.push((Digest::of(DigestFunction::Sha256, &chunk), chunk));
            }
        }
    }
    while let Some(chunk) = chunker.next_chunk() {
        cut.push((Digest::of(DigestFunction::Sha256, &chunk), chunk));
    }
    (chunker, cut)
}

/// Stores a text and leases it.
pub(crate) async fn text(blobs: &Arc<dyn BlobStore>, digest: Digest, bytes: &Spooled) -> Result<(), StoreError> {
    blobs.write(digest, body(bytes, 0, digest.size_bytes())).await?;
    leased(&**blobs, &[digest]).await
}
