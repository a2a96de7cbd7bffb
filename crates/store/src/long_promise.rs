use std::time::Duration;

use async_trait::async_trait;
use cache_types::Digest;

use crate::{RecordKey, StoreError};

/// How long a long promise counts: as long as Nix remembers that a cache has a path. Spec: nix-binary-cache N-45.
pub const LONG_PROMISE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// Promises for long, to clients that remember for weeks what was here.
///
/// A trait of its own: only a store that evicts can keep it, and only some layers ask for it.
#[async_trait]
pub trait LongPromise: Send + Sync {
    /// Those of these records and blobs that are here leave in the order of eviction as if they were used
    /// [`LONG_PROMISE`] later than they were, from now on and at every use. Before their lease has passed they do not leave
    /// at all; after that, a store that has nothing older left to evict takes them rather than to refuse writes.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be asked.
    async fn promise_long(&self, records: &[RecordKey], blobs: &[Digest]) -> Result<(), StoreError>;
}
