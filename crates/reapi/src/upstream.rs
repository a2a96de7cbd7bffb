//! The far server behind a near store: blobs through [`store::TwoLevel`], action results here.
//!
//! | module | owns |
//! |---|---|
//! | `fetch` | action results that are not near |
//! | `send` | what goes to the far server: blobs first, then the action results that name them |
//! | `queue` | what is sent later, and what becomes of it when the server stops |

mod fetch;
mod queue;
mod send;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cache_types::InstanceName;
use store::{BlobStore, Coalescing, FarWrites, RecordStore, StoreError, TwoLevel};

use crate::action_cache::ActionName;
use crate::client::{self, Address, Guarded, Link};
use crate::core::Core;
use queue::{Entry, Queue};
use send::Sender;

/// When what is written near goes to the far server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UpstreamWrite {
    /// Soon after it was acknowledged.
    Async,
    /// Before it is acknowledged.
    Sync,
    /// Never.
    Off,
}

/// How a far server is used.
#[derive(Clone, Debug)]
pub struct UpstreamSettings {
    /// Where it listens.
    pub address: Address,
    /// How it is spoken to. Its instance is that of blobs, and stands before the instance of each action result;
    /// `no_progress` is how long a call may take to be answered.
    pub client: client::Settings,
    /// When it is written to.
    pub write: UpstreamWrite,
    /// How long its word that a blob is there holds without being asked again.
    pub remember: Duration,
    /// The most blobs and action results that wait to be sent.
    pub queue: usize,
    /// The file that keeps what could not be sent before the server stopped.
    pub unsent: PathBuf,
}

/// A far server and the near store in front of it.
pub struct Upstream {
    address: Address,
    near: Arc<Core>,
    blobs: Arc<dyn BlobStore>,
    sender: Arc<Sender>,
    write: UpstreamWrite,
    queue: Option<Arc<Queue>>,
}

/// How things stand with a far server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpstreamStats {
    /// Where it is.
    pub address: String,
    /// Whether it answers.
    pub link: Link,
    /// Blobs and action results that wait to be sent.
    pub queued: usize,
    /// Blobs sent since the start.
    pub sent_blobs: u64,
    /// Action results sent since the start.
    pub sent_actions: u64,
    /// What was not sent: refused, gone from the near store, or over the bound of the queue.
    pub dropped: u64,
}

impl Upstream {
    /// Starts to connect in the background, and to send what an earlier run left unsent. Runs under a tokio runtime.
    pub fn start(settings: UpstreamSettings, blobs: Arc<dyn BlobStore>, records: Arc<dyn RecordStore>) -> Arc<Self> {
        let near = Arc::new(Core::new(blobs.clone(), records, crate::Settings::default()));
        let instance = settings.client.instance.clone();
        let far = Guarded::start(settings.address.clone(), settings.client);
        let fetching: Arc<dyn BlobStore> = Arc::new(Coalescing::new(blobs.clone(), Arc::new(far.clone())));
        let both = TwoLevel::new(blobs.clone(), fetching.clone(), FarWrites::Off, settings.remember);
        let sender = Arc::new(Sender::new(far, instance, near.clone(), Arc::new(both)));
        let queue = (settings.write == UpstreamWrite::Async)
            .then(|| Queue::start(sender.clone(), settings.queue, settings.unsent));
        let writes = match (&queue, settings.write) {
            (Some(queue), _) => {
                let queue = queue.clone();
                FarWrites::Queued(Arc::new(move |digest| {
                    let queue = queue.clone();
                    Box::pin(async move { queue.push(Entry::Blob(digest)).await })
                }))
            }
            (None, UpstreamWrite::Sync) => FarWrites::BeforeAnswer,
            (None, _) => FarWrites::Off,
        };
        let two_level = Arc::new(TwoLevel::new(blobs, fetching, writes, settings.remember));
        Arc::new(Self { address: settings.address, near, blobs: two_level, sender, write: settings.write, queue })
    }

    /// Both levels as one store.
    pub(crate) fn blobs(&self) -> Arc<dyn BlobStore> {
        self.blobs.clone()
    }

    pub(crate) fn near_blobs(&self) -> &Arc<dyn BlobStore> {
        &self.near.blobs
    }

    /// Passes on a result that has been stored near.
    pub(crate) async fn pass_on(&self, name: &ActionName) -> Result<(), StoreError> {
        match (&self.queue, self.write) {
            (Some(queue), _) => {
                queue.push(Entry::Action(name.clone())).await;
                Ok(())
            }
            (None, UpstreamWrite::Sync) => self.sender.send_action(name).await,
            (None, _) => Ok(()),
        }
    }

    /// Sends what waits, for no longer than `limit`, and writes down what is left. Takes nothing more afterwards.
    pub async fn drain(&self, limit: Duration) {
        if let Some(queue) = &self.queue {
            queue.drain(limit).await;
        }
    }

    /// How things stand.
    pub fn stats(&self) -> UpstreamStats {
        let counts = self.sender.counts();
        UpstreamStats {
            address: self.address.to_string(),
            link: self.sender.far().link(),
            queued: self.queue.as_ref().map_or(0, |queue| queue.len()),
            sent_blobs: counts.blobs(),
            sent_actions: counts.actions(),
            dropped: counts.dropped(),
        }
    }
}

/// The instance of an action result on the far server: the prefix, then the caller's.
fn far_instance(prefix: &InstanceName, instance: &InstanceName) -> Option<InstanceName> {
    match (prefix.as_str(), instance.as_str()) {
        ("", _) => Some(instance.clone()),
        (_, "") => Some(prefix.clone()),
        // Together they may be too long for a name.
        (prefix, instance) => InstanceName::parse(&format!("{prefix}/{instance}")).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_prefix_stands_before_the_callers_instance() {
        let name = |text: &str| InstanceName::parse(text).expect("a name");
        for (prefix, instance, far) in [("", "", ""), ("", "a", "a"), ("p", "", "p"), ("p/q", "a/b", "p/q/a/b")] {
            assert_eq!(far_instance(&name(prefix), &name(instance)), Some(name(far)));
        }
        let long = name(&"x".repeat(1024));
        assert_eq!(far_instance(&name("p"), &long), None);
    }
}
