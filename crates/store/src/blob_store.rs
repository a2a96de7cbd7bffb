use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::{StreamExt, stream};

use crate::{BlobBody, StoreError};

/// The writes of [`write_each`] that are under way at a time.
const MAX_IN_FLIGHT: usize = 64;

/// Content by digest. A blob is visible whole and verified, or not at all.
///
/// A blob can be held as its bytes or as a list of chunks, which are blobs themselves; callers see no difference. The
/// empty blob of every function is always present. Everything that `find_missing`, `read`, `write`, `split` or `splice`
/// finds present lives longer by that call.
///
/// Spec: reapi §5, §7, §9, R-160; storage §2.
#[async_trait]
pub trait BlobStore: Send + Sync {
    /// The digests of `digests` that are not here now, each once, in any order. What is left out is kept for the lease
    /// time: a read that follows succeeds.
    ///
    /// A digest whose hash is here with another size is missing. Spec.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when presence could not be asked; never a guess.
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError>;

    /// The bytes of `range` as a stream; `None` when the blob is not here.
    ///
    /// What is sent has been checked against the stored checksum. Damage found before the first byte is `None`;
    /// after it, the stream ends with [`StoreError::Damaged`]. Spec.
    ///
    /// # Errors
    /// [`StoreError::Range`] when the range starts past the end.
    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError>;

    /// Stores the whole of `body` under `digest` once it is verified and durable. Storing what is here already succeeds.
    ///
    /// # Errors
    /// [`StoreError::Mismatch`] when size or hash differ, [`StoreError::Body`] when the stream fails,
    /// [`StoreError::Full`] when there is no room; nothing is stored then.
    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError>;

    /// Stores blobs that are in memory, each as [`BlobStore::write`] does; each succeeds or fails alone, and the answers are in
    /// their order. A method of its own, because a store that can take them as one write does so for a fraction of the work.
    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>>;

    /// The chunks whose concatenation is the blob, each a blob that is here, none over [`crate::MAX_CHUNK_BYTES`]; `None`
    /// when the blob or one of its chunks is not here. Cuts the blob when no list is known. Spec.
    ///
    /// # Errors
    /// [`StoreError::Full`] when the chunks find no room.
    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError>;

    /// Makes `digest` from blobs that are here; their concatenation is verified. Success when it is here already.
    /// Spec.
    ///
    /// # Errors
    /// [`StoreError::MissingChunk`], or [`StoreError::Mismatch`] when sizes or hash differ.
    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError>;
}

/// Writes blobs one by one, some at a time: [`BlobStore::write_all`] where there is no shorter way.
pub async fn write_each(store: &impl BlobStore, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
    let writes = blobs.into_iter().map(|(digest, data)| store.write(digest, data.into()));
    stream::iter(writes).buffered(MAX_IN_FLIGHT).collect().await
}
