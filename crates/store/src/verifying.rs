use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest, Hasher};
use futures::StreamExt;

use crate::{BlobBody, BlobStore, StoreError};

/// A store whose whole-blob reads are hashed on the way out: for stores that are trusted to be there, not to be right.
///
/// The last piece is held back until the hash is known, so a body that ends without an error is the blob.
pub struct Verifying<S> {
    inner: S,
}

impl<S> Verifying<S> {
    /// Wraps `inner`.
    pub fn new(inner: S) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl<S: BlobStore> BlobStore for Verifying<S> {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        let Some(body) = self.inner.read(digest, range).await? else {
            return Ok(None);
        };
        if range != ByteRange::ALL {
            return Ok(Some(body));
        }
        Ok(Some(hashed(*digest, body)))
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        self.inner.write(digest, body).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        self.inner.write_all(blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        self.inner.split(digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        self.inner.splice(digest, chunks).await
    }
}

/// What is left to do of a body that is being hashed.
struct Hashed {
    digest: Digest,
    body: BlobBody,
    hasher: Option<Hasher>,
    held: Option<Bytes>,
}

/// The body, its last piece held back until the hash is known.
pub(crate) fn hashed(digest: Digest, body: BlobBody) -> BlobBody {
    let hasher = Some(Hasher::new(digest.function(), digest.size_bytes()));
    let state = Hashed { digest, body, hasher, held: None };
    BlobBody::from_stream(futures::stream::try_unfold(state, |mut state| async move {
        loop {
            let Some(hasher) = state.hasher.as_mut() else {
                return Ok(None);
            };
            match state.body.next().await.transpose()? {
                Some(piece) => {
                    hasher.update(&piece);
                    if let Some(ready) = state.held.replace(piece) {
                        return Ok(Some((ready, state)));
                    }
                }
                None => {
                    let matches = state.hasher.take().is_some_and(|hasher| hasher.finish() == *state.digest.hash());
                    if !matches {
                        return Err(StoreError::Damaged(state.digest));
                    }
                    return Ok(state.held.take().map(|last| (last, state)));
                }
            }
        }
    }))
}
