use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use store::{BlobBody, BlobStore, StoreError};

use crate::LiveLimits;
use crate::budget::{Budget, Share};

/// A transfer of less is not counted.
const FREE_BYTES: u64 = 64 * 1024;

/// What a transfer holds in memory at most: the piece on its way and the one behind it, whatever the blob's size.
const TRANSFER_BYTES: u64 = 2 * 1024 * 1024;

/// A store whose transfers share a bounded memory. Those of peers that take or give nothing keep their share until they
/// are ended; others wait, and are told to ask again if that takes too long.
pub(crate) struct Bounded {
    inner: Arc<dyn BlobStore>,
    reads: Budget,
    writes: Budget,
}

impl Bounded {
    pub(crate) fn new(inner: Arc<dyn BlobStore>, limits: &LiveLimits) -> Self {
        Self {
            inner,
            reads: Budget::memory("the memory for downloads", limits, |limits| limits.memory.downloads_bytes),
            writes: Budget::memory("the memory for uploads", limits, |limits| limits.memory.uploads_bytes),
        }
    }
}

fn cost(bytes: u64) -> u64 {
    bytes.min(TRANSFER_BYTES)
}

#[async_trait]
impl BlobStore for Bounded {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        // A range outside of the blob is the store's to refuse.
        let len = range.within(digest.size_bytes()).map_or(0, |range| range.end - range.start);
        if len <= FREE_BYTES {
            return self.inner.read(digest, range).await;
        }
        let share = self.reads.take(cost(len)).await?;
        let body = self.inner.read(digest, range).await?;
        Ok(body.map(|body| if body.whole().is_some() { body } else { sharing(body, share) }))
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        if body.whole().is_some() || digest.size_bytes() <= FREE_BYTES {
            return self.inner.write(digest, body).await;
        }
        let _share = self.writes.take(cost(digest.size_bytes())).await?;
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

/// The body, which keeps its share until it ends. Asked once more after that, it has ended still.
fn sharing(body: BlobBody, share: Share) -> BlobBody {
    BlobBody::from_stream(futures::stream::try_unfold((body, share), |(mut body, share)| async move {
        Ok(body.next().await.transpose()?.map(|piece| (piece, (body, share))))
    }))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cache_types::DigestFunction;
    use store::{MemoryStore, conformance};

    use super::*;
    use crate::{Limits, MemoryLimits};

    #[tokio::test]
    async fn it_keeps_the_rules_of_every_store() {
        let memory = Arc::new(MemoryStore::default());
        conformance::blob_store(&Bounded::new(memory, &LiveLimits::default()), 1).await;
    }

    #[tokio::test]
    async fn a_body_that_has_ended_has_ended_still() {
        let share = Budget::memory("memory", &LiveLimits::default(), |_| 1024).take(1).await.expect("there is some");
        let pieces = futures::stream::iter([Ok(bytes::Bytes::from_static(b"x"))]);
        let mut body = sharing(BlobBody::from_stream(pieces.fuse()), share);
        assert!(body.next().await.is_some());
        assert!(body.next().await.is_none() && body.next().await.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn transfers_that_stand_still_keep_others_waiting_and_small_ones_pass() {
        let limits =
            MemoryLimits { uploads_bytes: 4 << 20, patience: Duration::from_secs(1), ..MemoryLimits::default() };
        let limits = LiveLimits::from(Limits { memory: limits, ..Limits::default() });
        let store = Arc::new(Bounded::new(Arc::new(MemoryStore::default()), &limits));
        let data = vec![1; 3 << 20];
        let large = Digest::of(DigestFunction::Sha256, &data);
        let still = |_| {
            let store = store.clone();
            tokio::spawn(async move { store.write(large, BlobBody::from_stream(futures::stream::pending())).await })
        };
        let standing: Vec<_> = (0..2).map(still).collect();
        tokio::task::yield_now().await;
        let pieces = || BlobBody::from_stream(futures::stream::iter([Ok(bytes::Bytes::from(data.clone()))]));
        assert!(matches!(store.write(large, pieces()).await, Err(StoreError::Unavailable { .. })));
        let small = Digest::of(DigestFunction::Sha256, b"small");
        store.write(small, bytes::Bytes::from_static(b"small").into()).await.expect("no share is needed");
        standing.iter().for_each(|task| task.abort());
        store.write(large, pieces()).await.expect("there is memory again");
    }
}
