use bytes::Bytes;
use cache_types::Digest;

/// Small blobs that a store has in memory, many at a time and without waiting.
///
/// A trait of its own: a far server of the Remote Execution API has none, and [`crate::BlobStore::read`] answers for the rest.
pub trait InMemory: Send + Sync {
    /// The bytes of each digest that are in memory, verified, in their order. They are promised as by a read.
    ///
    /// `None` says nothing about the blob.
    fn whole(&self, digests: &[Digest]) -> Vec<Option<Bytes>>;
}
