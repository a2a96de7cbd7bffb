use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use cache_types::{ByteRange, Digest, InstanceName};
use futures::{StreamExt, stream};
use store::{BlobStore, StoreError};

use super::far_instance;
use crate::action_cache::completeness::{self, Completeness};
use crate::action_cache::{self, ActionName, Found};
use crate::client::{Guarded, Link};
use crate::core::Core;

/// Blobs on their way to the far server at once.
const MAX_IN_FLIGHT: usize = 16;

/// Sends what is near to the far server.
pub(super) struct Sender {
    far: Guarded,
    instance: InstanceName,
    near: Arc<Core>,
    /// Both levels, for trees that a result names and that are far alone.
    both: Core,
    counts: Counts,
}

/// What was sent since the start, and what was not.
#[derive(Default)]
pub(super) struct Counts {
    blobs: AtomicU64,
    actions: AtomicU64,
    dropped: AtomicU64,
}

impl Counts {
    pub(super) fn blobs(&self) -> u64 {
        self.blobs.load(Ordering::Relaxed)
    }

    pub(super) fn actions(&self) -> u64 {
        self.actions.load(Ordering::Relaxed)
    }

    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Counts one that will not be sent; whether it is the first.
    pub(super) fn drop_one(&self) -> bool {
        self.dropped.fetch_add(1, Ordering::Relaxed) == 0
    }
}

impl Sender {
    /// `both` reads what is on either level and writes near only.
    pub(super) fn new(far: Guarded, instance: InstanceName, near: Arc<Core>, both: Arc<dyn BlobStore>) -> Self {
        let both = Core::new(both, near.records.clone(), crate::Settings::default());
        Self { far, instance, near, both, counts: Counts::default() }
    }

    pub(super) fn far(&self) -> &Guarded {
        &self.far
    }

    pub(super) fn instance(&self) -> &InstanceName {
        &self.instance
    }

    pub(super) fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Sends those blobs that the far server lacks; what became of each that it lacked.
    pub(super) async fn send_blobs(
        &self,
        digests: &[Digest],
    ) -> Result<Vec<(Digest, Result<(), StoreError>)>, StoreError> {
        let missing = self.far.find_missing(digests).await?;
        let sending: Vec<_> = missing.into_iter().map(|digest| self.send_blob(digest)).collect();
        Ok(stream::iter(sending).buffer_unordered(MAX_IN_FLIGHT).collect().await)
    }

    async fn send_blob(&self, digest: Digest) -> (Digest, Result<(), StoreError>) {
        let open = || async { self.near.blobs.read(&digest, ByteRange::ALL).await?.ok_or(StoreError::Damaged(digest)) };
        let sent = self.far.write_from(digest, open).await;
        if sent.is_ok() {
            self.counts.blobs.fetch_add(1, Ordering::Relaxed);
        }
        (digest, sent)
    }

    /// Sends a result after all that it names. What is incomplete near is not sent, which is no fault.
    pub(super) async fn send_action(&self, name: &ActionName) -> Result<(), StoreError> {
        let Some(action) = name.size_bytes.and_then(|size_bytes| Digest::new(name.hash, size_bytes).ok()) else {
            return self.skip(name, "it was stored over HTTP, without the size of its action");
        };
        let Some(instance) = far_instance(&self.instance, &name.instance) else {
            return self.skip(name, "its instance name is too long with that of the upstream before it");
        };
        let Some(record) = self.near.records.get(&name.key()).await? else {
            return self.skip(name, "it is gone");
        };
        let function = name.hash.function();
        let decoded = match name.result(record) {
            Found::Result(encoded) => action_cache::decode(encoded, function),
            Found::OtherAction | Found::Malformed => None,
        };
        let Some((named, _, encoded)) = decoded else {
            return self.skip(name, "it is gone");
        };
        let gathered = completeness::gather(&self.both, named, function).await;
        let Ok((blobs, Completeness::Complete)) = gathered else {
            if self.far.link() != Link::Up {
                return Err(StoreError::LeftOut { level: "the far server" });
            }
            return self.skip(name, "a tree that it names is not here");
        };
        for (digest, sent) in self.send_blobs(&blobs).await? {
            match sent {
                Ok(()) => {}
                Err(StoreError::Damaged(_)) => {
                    tracing::debug!(%digest, "the blob is on neither level");
                    return self.skip(name, "a blob that it names is not here");
                }
                Err(error) => return Err(error),
            }
        }
        self.far.update_action_result(&instance, &action, encoded).await?;
        self.counts.actions.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }

    fn skip(&self, name: &ActionName, reason: &str) -> Result<(), StoreError> {
        self.counts.drop_one();
        tracing::debug!(action = %name.hash, reason, "an action result does not go to the far server");
        Ok(())
    }

    /// Sends a batch; gives back what is worth another try.
    pub(super) async fn send_batch(&self, digests: &HashSet<Digest>) -> Result<Vec<Digest>, StoreError> {
        let digests: Vec<Digest> = digests.iter().copied().collect();
        let mut again = Vec::new();
        for (digest, sent) in self.send_blobs(&digests).await? {
            match sent {
                Ok(()) => {}
                Err(error) if is_passing(&error) => again.push(digest),
                Err(error) => self.give_up(&digest, &error),
            }
        }
        Ok(again)
    }

    /// Counts what the far server will not take.
    pub(super) fn give_up(&self, what: &dyn std::fmt::Display, error: &StoreError) {
        if self.counts.drop_one() {
            tracing::warn!(%what, %error, "the far server does not take everything; later refusals are counted only");
        } else {
            tracing::debug!(%what, %error, "not sent to the far server");
        }
    }
}

/// Whether the far server was away.
pub(super) fn is_away(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. } | StoreError::LeftOut { .. })
}

/// Whether sending again later may help.
pub(super) fn is_passing(error: &StoreError) -> bool {
    is_away(error) || matches!(error, StoreError::Full { .. })
}
