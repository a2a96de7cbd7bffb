mod flight;

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use self::flight::{Outcome, Progress, Reader, shared};
use crate::memory::verify;
use crate::verifying::hashed;
use crate::{BlobBody, BlobStore, StoreError};

/// Blobs up to this size are fetched whole, and verified before their first byte is passed on.
const WHOLE_BYTES: u64 = 1024 * 1024;

/// All fetches together hold so much in memory at most.
const ROOM_KIB: u32 = 128 * 1024;

/// A far store whose blobs pass through a near one: each is fetched once however many ask for it, verified, and kept near.
///
/// A fetch belongs to no reader: it goes on when those who asked have gone away, and those who ask meanwhile join it. Up to
/// 1 MiB a blob is verified before its first byte is passed on; a larger one streams through, its last piece held back
/// until the near store has verified and stored it. A reader slower than the fetch goes on from the near store. Ranges that
/// end before the blob does wait for the whole of it. Only `read` is about the near store; the other calls go far.
pub struct Coalescing {
    inner: Arc<Inner>,
    fetches: Mutex<JoinSet<()>>,
}

struct Inner {
    near: Arc<dyn BlobStore>,
    far: Arc<dyn BlobStore>,
    flights: Mutex<HashMap<Digest, watch::Receiver<Progress>>>,
    room: Semaphore,
}

impl Coalescing {
    /// Fetches from `far` into `near`.
    pub fn new(near: Arc<dyn BlobStore>, far: Arc<dyn BlobStore>) -> Self {
        let room = Semaphore::new(usize::try_from(ROOM_KIB).unwrap_or(usize::MAX));
        let inner = Inner { near, far, flights: Mutex::default(), room };
        Self { inner: Arc::new(inner), fetches: Mutex::default() }
    }

    /// The fetch of a blob that is under way, or a new one.
    fn join(&self, digest: Digest) -> watch::Receiver<Progress> {
        let mut flights = self.inner.flights.lock();
        if let Some(flight) = flights.get(&digest) {
            return flight.clone();
        }
        let (progress, flight) = watch::channel(Progress::default());
        flights.insert(digest, flight.clone());
        drop(flights);
        let landing = Landing { inner: Arc::clone(&self.inner), digest };
        let mut fetches = self.fetches.lock();
        while fetches.try_join_next().is_some() {}
        fetches.spawn(async move { landing.inner.fetch(digest, progress).await });
        flight
    }
}

/// Takes a fetch off the list when it ends, however it ends.
struct Landing {
    inner: Arc<Inner>,
    digest: Digest,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.inner.flights.lock().remove(&self.digest);
    }
}

impl Inner {
    async fn fetch(&self, digest: Digest, progress: watch::Sender<Progress>) {
        let kib = digest.size_bytes().min(flight::WINDOW_BYTES) / 1024 + 1;
        // The semaphore is never closed, and what one fetch takes fits it.
        let _room = self.room.acquire_many(u32::try_from(kib).unwrap_or(ROOM_KIB)).await.ok();
        let body = match self.far.read(&digest, ByteRange::ALL).await {
            Ok(Some(body)) => body,
            Ok(None) => return end(&progress, Outcome::Missing),
            Err(error) => return end(&progress, Outcome::Failed(error.into())),
        };
        if digest.size_bytes() <= WHOLE_BYTES {
            self.fetch_whole(digest, body, &progress).await;
        } else {
            self.pass_through(digest, body, progress).await;
        }
    }

    /// Fetches a small blob, passes it on once it is verified, and keeps it.
    async fn fetch_whole(&self, digest: Digest, body: BlobBody, progress: &watch::Sender<Progress>) {
        let data = match body.collect(usize::try_from(WHOLE_BYTES).unwrap_or(usize::MAX)).await {
            Ok(data) => data.unwrap_or_default(),
            Err(error) => return end(progress, Outcome::Failed(error.into())),
        };
        if verify(&digest, &data).is_err() {
            return end(progress, Outcome::Failed(lied(digest).into()));
        }
        end(progress, Outcome::Whole(data.clone()));
        if let Err(error) = self.near.write(digest, data.into()).await {
            tracing::debug!(%digest, %error, "a fetched blob is not kept");
        }
    }

    /// Writes a large blob near while those who wait for it look on.
    async fn pass_through(&self, digest: Digest, body: BlobBody, progress: watch::Sender<Progress>) {
        let progress = Arc::new(progress);
        let watched = Arc::clone(&progress);
        let passing = body.inspect(move |piece| {
            if let Ok(piece) = piece {
                watched.send_modify(|progress| progress.push(piece.clone()));
            }
        });
        let outcome = match self.near.write(digest, BlobBody::from_stream(passing)).await {
            Ok(()) => Outcome::Kept,
            Err(StoreError::Mismatch { .. }) => Outcome::Failed(lied(digest).into()),
            Err(StoreError::Full { .. }) => Outcome::NotKept,
            Err(error) => Outcome::Failed(error.into()),
        };
        end(&progress, outcome);
    }

    /// A blob that the near store has no room for, straight from the far one.
    async fn read_past(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        if range != ByteRange::ALL {
            let reason = "a range of a blob that cannot be kept near cannot be verified".to_owned();
            return Err(StoreError::Full { needed_bytes: digest.size_bytes(), reason });
        }
        let body = self.far.read(digest, range).await?;
        Ok(body.map(|body| hashed(*digest, body)))
    }
}

fn end(progress: &watch::Sender<Progress>, outcome: Outcome) {
    progress.send_modify(|progress| progress.outcome = Some(outcome));
}

/// The far store sent other bytes than it was asked for.
fn lied(digest: Digest) -> StoreError {
    tracing::warn!(%digest, "the far store sent other bytes than the digest names; they go nowhere");
    StoreError::Damaged(digest)
}

#[async_trait]
impl BlobStore for Coalescing {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.far.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        if digest.is_empty() {
            return self.inner.near.read(digest, range).await;
        }
        let size_bytes = digest.size_bytes();
        // A range that starts past the end is an error only where the blob is there.
        let span = range.within(size_bytes);
        let streams =
            size_bytes > WHOLE_BYTES && span.as_ref().is_ok_and(|span| span.end == size_bytes && span.start < span.end);
        let mut flight = self.join(*digest);
        let outcome = {
            let ready = |progress: &Progress| progress.outcome.is_some() || (streams && progress.has_begun());
            let progress = flight.wait_for(ready).await.map_err(|_| flight::lost())?;
            progress.outcome.clone()
        };
        match (outcome, span) {
            (Some(Outcome::Missing), _) => Ok(None),
            (Some(Outcome::Failed(error)), _) => Err(shared(&error)),
            (_, Err(source)) => Err(StoreError::Range { digest: *digest, source }),
            // The span lies within the blob, all of which is in memory.
            (Some(Outcome::Whole(data)), Ok(span)) => {
                Ok(Some(data.slice(span.start as usize..span.end as usize).into()))
            }
            (Some(Outcome::Kept), _) => self.inner.near.read(digest, range).await,
            (Some(Outcome::NotKept), _) => self.inner.read_past(digest, range).await,
            (None, Ok(span)) => {
                let near = Arc::clone(&self.inner.near);
                Ok(Some(Reader::new(near, *digest, span.start, flight).into_body()))
            }
        }
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        self.inner.far.write(digest, body).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        self.inner.far.write_all(blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        self.inner.far.split(digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        self.inner.far.splice(digest, chunks).await
    }
}

#[cfg(test)]
mod tests;
