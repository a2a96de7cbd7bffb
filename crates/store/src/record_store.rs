use async_trait::async_trait;
use bytes::Bytes;

use crate::StoreError;

/// What a record is; part of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// An encoded action result; the key is instance, function and action digest.
    ActionResult = 1,
    /// A value of an HTTP cache: the digest of its bytes and the headers kept with it; the key is the route and the
    /// client's own key.
    HttpValue = 2,
    /// A record of the prompt cache: who wrote it, then its message; the key is made with a secret of the tenant.
    Prompt = 3,
    /// What a Nix cache knows: paths, NARs, uploads, texts, pins; the key is which of these, the cache and its own key.
    Nix = 16,
}

impl RecordKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::ActionResult, Self::HttpValue, Self::Prompt, Self::Nix];

    /// The kind with this number in a key.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}

/// The key of a record.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey {
    /// What the record is.
    pub kind: RecordKind,
    /// The key within its kind; at most 4 KiB.
    pub key: Bytes,
}

/// Small keyed records that name blobs: last write wins, each write atomic and durable before it is acknowledged.
///
/// A record is evicted before the blobs it names, provided its owner asks [`crate::BlobStore::find_missing`] for them after
/// each `get` and before each `put`. Spec: storage §2, R-134, R-161.
#[async_trait]
pub trait RecordStore: Send + Sync {
    /// The record, its life extended; `None` when there is none or it is damaged.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be asked.
    async fn get(&self, key: &RecordKey) -> Result<Option<Bytes>, StoreError>;

    /// Each of these records, as [`RecordStore::get`] gives them, in one go.
    ///
    /// # Errors
    /// As [`RecordStore::get`].
    async fn get_all(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>, StoreError>;

    /// Whether the record may be here, told from memory at once: what it denies is surely not here. Promises nothing.
    fn may_have(&self, key: &RecordKey) -> bool;

    /// Stores the record in place of what was there.
    ///
    /// # Errors
    /// [`StoreError::Full`] when there is no room.
    async fn put(&self, key: RecordKey, value: Bytes) -> Result<(), StoreError>;

    /// Drops the record; success when there is none.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store cannot be asked.
    async fn remove(&self, key: &RecordKey) -> Result<(), StoreError>;
}
