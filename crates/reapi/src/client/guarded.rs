mod link;

use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest, InstanceName};
use futures::TryStreamExt;
use store::{BlobBody, BlobStore, StoreError, write_each};
use tokio::task::JoinSet;

use super::status::LEVEL;
use super::{Address, RemoteStore, Settings};
use link::Guard;
pub use link::Link;

/// A far server that may be slow or away: no call waits for it longer than a budget, and after failures it is left out
/// until it answers again.
///
/// It is connected to in the background, from the start and after each time it was left out; until then calls fail with
/// [`StoreError::LeftOut`] at once. A digest whose function the server does not offer is missing there. Clones share one.
#[derive(Clone)]
pub struct Guarded {
    guard: Arc<Guard>,
    // Aborted with the last clone.
    _watch: Arc<JoinSet<()>>,
}

impl Guarded {
    /// Starts to connect. `settings.no_progress` is the budget of a call; runs under a tokio runtime.
    pub fn start(address: Address, settings: Settings) -> Self {
        let guard = Arc::new(Guard::new(settings.no_progress));
        let mut watch = JoinSet::new();
        watch.spawn(link::watch(Arc::clone(&guard), address, settings));
        Self { guard, _watch: Arc::new(watch) }
    }

    /// How things stand with the server.
    pub fn link(&self) -> Link {
        self.guard.link()
    }

    /// Waits until the server answers.
    pub async fn until_up(&self) {
        self.guard.until_up().await;
    }

    /// As [`RemoteStore::action_result`].
    ///
    /// # Errors
    /// Those, and [`StoreError::LeftOut`].
    pub async fn action_result(&self, instance: &InstanceName, action: &Digest) -> Result<Option<Bytes>, StoreError> {
        self.bounded(|remote| async move {
            if !offers(&remote, action) {
                return Ok(None);
            }
            remote.action_result(instance, action).await
        })
        .await
    }

    /// As [`RemoteStore::update_action_result`].
    ///
    /// # Errors
    /// Those, and [`StoreError::LeftOut`].
    pub async fn update_action_result(
        &self,
        instance: &InstanceName,
        action: &Digest,
        encoded: Bytes,
    ) -> Result<(), StoreError> {
        self.bounded(|remote| async move { remote.update_action_result(instance, action, encoded).await }).await
    }

    /// As [`RemoteStore::write_from`].
    ///
    /// # Errors
    /// Those, and [`StoreError::LeftOut`].
    pub async fn write_from<F, Fut>(&self, digest: Digest, open: F) -> Result<(), StoreError>
    where
        F: Fn() -> Fut + Send,
        Fut: Future<Output = Result<BlobBody, StoreError>> + Send,
    {
        self.guarded(|remote| async move { remote.write_from(digest, open).await }).await
    }

    /// One call, its outcome noted.
    async fn guarded<T, Fut>(&self, call: impl FnOnce(RemoteStore) -> Fut) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let remote = self.guard.remote().await?;
        let result = call(remote).await;
        self.guard.note(result.as_ref().err());
        result
    }

    /// One call that takes no longer than the budget, retries and all.
    async fn bounded<T, Fut>(&self, call: impl FnOnce(RemoteStore) -> Fut) -> Result<T, StoreError>
    where
        Fut: Future<Output = Result<T, StoreError>>,
    {
        let budget = self.guard.budget();
        self.guarded(|remote| async move {
            match tokio::time::timeout(budget, call(remote)).await {
                Ok(result) => result,
                Err(_elapsed) => Err(StoreError::Unavailable { level: LEVEL, source: Slow(budget).into() }),
            }
        })
        .await
    }
}

/// Whether the server keeps blobs under the digest's function; one that names none is taken to keep any.
fn offers(remote: &RemoteStore, digest: &Digest) -> bool {
    let offered = &remote.capabilities().digest_functions;
    offered.is_empty() || offered.contains(&digest.function())
}

#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct Slow(Duration);

#[async_trait]
impl BlobStore for Guarded {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.bounded(|remote| async move {
            let (asked, not_offered): (Vec<Digest>, Vec<Digest>) =
                digests.iter().partition(|digest| offers(&remote, digest));
            let mut missing = remote.find_missing(&asked).await?;
            missing.extend(not_offered.into_iter().collect::<HashSet<_>>());
            Ok(missing)
        })
        .await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        let body = self
            .bounded(|remote| async move {
                if !offers(&remote, digest) {
                    return Ok(None);
                }
                remote.read(digest, range).await
            })
            .await?;
        Ok(body.map(|body| match body.whole() {
            Some(_) => body,
            None => {
                let guard = Arc::clone(&self.guard);
                BlobBody::from_stream(body.inspect_err(move |error| guard.note(Some(error))))
            }
        }))
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        self.guarded(|remote| async move { remote.write(digest, body).await }).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        write_each(self, blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        self.guarded(|remote| async move { remote.split(digest).await }).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        self.guarded(|remote| async move { remote.splice(digest, chunks).await }).await
    }
}
