mod remembered;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::future::BoxFuture;
use futures::{StreamExt, TryStreamExt, stream};

use self::remembered::Remembered;
use crate::{BlobBody, BlobStore, StoreError};

/// The blobs of one batch that are passed on at a time.
const MAX_PASSED_ON: usize = 64;

/// Takes the digest of a blob that is near, to send it to the far store later. Waits only to slow its caller down.
pub type QueueForFar = Arc<dyn Fn(Digest) -> BoxFuture<'static, ()> + Send + Sync>;

/// When what is written goes to the far store.
#[derive(Clone)]
pub enum FarWrites {
    /// Never.
    Off,
    /// Before the write is acknowledged, which then is on both levels.
    BeforeAnswer,
    /// Later, by this queue; the acknowledgement speaks of the near store alone.
    Queued(QueueForFar),
}

/// A near store in front of a far one, as one store.
///
/// The near store is asked first; the far one for what is left. When the far store fails, a read is a miss, and a question
/// about presence is an error: never a guess. Once it is known to be away ([`StoreError::LeftOut`]) or refuses the call, the
/// near store's answer stands alone, unless writes need both. What the far store was found to have is remembered for a
/// bounded time, and forgotten when a read fails.
///
/// Keeping what is read from the far store is up to that: see [`crate::Coalescing`].
pub struct TwoLevel {
    near: Arc<dyn BlobStore>,
    far: Arc<dyn BlobStore>,
    writes: FarWrites,
    remembered: Arc<Remembered>,
}

impl TwoLevel {
    /// `remember` is how long an answer "it is there" of the far store holds.
    pub fn new(near: Arc<dyn BlobStore>, far: Arc<dyn BlobStore>, writes: FarWrites, remember: Duration) -> Self {
        Self { near, far, writes, remembered: Arc::new(Remembered::new(remember)) }
    }

    fn is_enough_alone(&self) -> bool {
        !matches!(self.writes, FarWrites::BeforeAnswer)
    }

    /// What follows a write to the near store.
    async fn pass_on(&self, digest: Digest) -> Result<(), StoreError> {
        match &self.writes {
            FarWrites::Off => Ok(()),
            _ if digest.is_empty() || self.remembered.has(&digest) => Ok(()),
            FarWrites::Queued(queue) => {
                queue(digest).await;
                Ok(())
            }
            FarWrites::BeforeAnswer => self.send(digest).await,
        }
    }

    /// Copies a blob from the near store to the far one.
    async fn send(&self, digest: Digest) -> Result<(), StoreError> {
        let body = self.near.read(&digest, ByteRange::ALL).await?.ok_or_else(gone)?;
        self.far.write(digest, body).await?;
        self.remembered.add(std::iter::once(&digest));
        Ok(())
    }

    /// Copies a blob from the far store to the near one; whether it is near now.
    async fn keep(&self, digest: &Digest) -> Result<bool, StoreError> {
        let Some(body) = self.read_far(digest, ByteRange::ALL).await? else {
            return Ok(false);
        };
        match self.near.write(*digest, body).await {
            Ok(()) => Ok(true),
            Err(error @ StoreError::Full { .. }) => Err(error),
            Err(error) => {
                tracing::debug!(%digest, %error, "a failed read of the far store is a miss");
                Ok(false)
            }
        }
    }

    async fn read_far(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        match self.far.read(digest, range).await {
            Ok(Some(body)) if body.whole().is_some() => return Ok(Some(body)),
            Ok(Some(body)) => return Ok(Some(self.forgetting(*digest, body))),
            Ok(None) => {}
            Err(error @ StoreError::Range { .. }) => return Err(error),
            Err(error) => tracing::debug!(%digest, %error, "a failed read of the far store is a miss"),
        }
        self.remembered.forget(digest);
        Ok(None)
    }

    /// The body; what it is of is forgotten if it breaks.
    fn forgetting(&self, digest: Digest, body: BlobBody) -> BlobBody {
        let remembered = Arc::clone(&self.remembered);
        BlobBody::from_stream(body.inspect_err(move |_error| remembered.forget(&digest)))
    }
}

fn gone() -> StoreError {
    StoreError::Unavailable { level: "the near store", source: "the blob was evicted before it was sent on".into() }
}

#[async_trait]
impl BlobStore for TwoLevel {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let unknown = self.remembered.unknown(self.near.find_missing(digests).await?);
        if unknown.is_empty() {
            return Ok(unknown);
        }
        match self.far.find_missing(&unknown).await {
            Ok(missing) => {
                let absent: HashSet<&Digest> = missing.iter().collect();
                self.remembered.add(unknown.iter().filter(|digest| !absent.contains(digest)));
                Ok(missing)
            }
            Err(StoreError::LeftOut { .. } | StoreError::Internal { .. }) if self.is_enough_alone() => Ok(unknown),
            Err(error) => Err(error),
        }
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        match self.near.read(digest, range).await? {
            Some(body) => Ok(Some(body)),
            None => self.read_far(digest, range).await,
        }
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        self.near.write(digest, body).await?;
        self.pass_on(digest).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let digests: Vec<Digest> = blobs.iter().map(|(digest, _)| *digest).collect();
        let written = self.near.write_all(blobs).await;
        let passed = digests.into_iter().zip(written).map(|(digest, written)| async move {
            written?;
            self.pass_on(digest).await
        });
        stream::iter(passed).buffered(MAX_PASSED_ON).collect().await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        if let Some(chunks) = self.near.split(digest).await? {
            return Ok(Some(chunks));
        }
        if !self.keep(digest).await? {
            return Ok(None);
        }
        self.near.split(digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        let mut spliced = self.near.splice(digest, chunks).await;
        if matches!(spliced, Err(StoreError::MissingChunk(_))) {
            for chunk in self.near.find_missing(chunks).await? {
                // A chunk that is nowhere fails the second try.
                self.keep(&chunk).await?;
            }
            spliced = self.near.splice(digest, chunks).await;
        }
        spliced?;
        if matches!(self.writes, FarWrites::BeforeAnswer) {
            match self.far.splice(digest, chunks).await {
                Err(StoreError::MissingChunk(_)) => {}
                spliced => return spliced,
            }
        }
        self.pass_on(digest).await
    }
}

#[cfg(test)]
mod tests;
