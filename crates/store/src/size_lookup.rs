use async_trait::async_trait;
use cache_types::{Digest, Hash};

use crate::StoreError;

/// Finds a blob whose hash is known and whose size is not, as in the URLs of the HTTP caches.
///
/// A trait of its own: a far server of the Remote Execution API cannot answer it.
#[async_trait]
pub trait SizeLookup: Send + Sync {
    /// The digest of the blob with this hash; `None` when there is none. The empty blob of every function is there.
    ///
    /// Promises nothing: the blob may be gone, or lack a chunk, when it is read.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be asked.
    async fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError>;
}
