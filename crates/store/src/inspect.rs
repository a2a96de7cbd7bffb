use async_trait::async_trait;
use cache_types::Digest;

use crate::StoreError;

/// A look at stored bytes, for those who promise many blobs at once and must not find one damaged on the way.
///
/// A trait of its own: a far server keeps its checksums to itself.
#[async_trait]
pub trait Inspect: Send + Sync {
    /// Those of these blobs whose bytes are not here, or not as they were stored, by the checksums that a read goes by. All
    /// of them are read. What is damaged is a miss from then on. Promises nothing.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be asked.
    async fn damaged(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError>;
}
