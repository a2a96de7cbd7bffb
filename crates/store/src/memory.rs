use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest, Hash, Hasher};
use futures::StreamExt;
use parking_lot::RwLock;

use crate::{
    BlobBody, BlobStore, Chunker, InMemory, Inspect, LongPromise, MAX_CHUNK_BYTES, RecordKey, RecordStore, SizeLookup,
    StoreError, write_each,
};

/// A store in memory, unbounded: for tests, and as the plainest statement of what the traits mean.
#[derive(Default)]
pub struct MemoryStore {
    blobs: RwLock<HashMap<Hash, Stored>>,
    records: RwLock<BTreeMap<RecordKey, Bytes>>,
}

struct Stored {
    size_bytes: u64,
    content: Content,
}

#[derive(Clone)]
enum Content {
    Whole(Bytes),
    Chunks(Arc<[Digest]>),
}

impl MemoryStore {
    fn content(&self, digest: &Digest) -> Option<Content> {
        let blobs = self.blobs.read();
        blobs.get(digest.hash()).filter(|stored| stored.size_bytes == digest.size_bytes()).map(|s| s.content.clone())
    }

    /// The whole blob in memory; `None` when it or one of its chunks is not here.
    fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        if digest.is_empty() {
            return Some(Bytes::new());
        }
        match self.content(digest)? {
            Content::Whole(bytes) => Some(bytes),
            Content::Chunks(chunks) => {
                let parts: Option<Vec<Bytes>> = chunks.iter().map(|chunk| self.bytes(chunk)).collect();
                Some(parts?.concat().into())
            }
        }
    }

    fn insert(&self, digest: Digest, content: Content) {
        let stored = Stored { size_bytes: digest.size_bytes(), content };
        self.blobs.write().insert(*digest.hash(), stored);
    }

    /// Forgets a blob, as eviction would.
    pub fn forget(&self, digest: &Digest) {
        self.blobs.write().remove(digest.hash());
    }
}

/// Checks size and hash of bytes in memory.
pub(crate) fn verify(digest: &Digest, data: &[u8]) -> Result<(), StoreError> {
    let mut hasher = Hasher::new(digest.function(), digest.size_bytes());
    hasher.update(data);
    let found = hasher.finish();
    if data.len() as u64 != digest.size_bytes() || found != *digest.hash() {
        return Err(StoreError::Mismatch { expected: *digest, found: format!("{found}/{}", data.len()) });
    }
    Ok(())
}

#[async_trait]
impl BlobStore for MemoryStore {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut seen = HashSet::new();
        Ok(digests.iter().filter(|digest| seen.insert(**digest) && self.bytes(digest).is_none()).copied().collect())
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        let Some(bytes) = self.bytes(digest) else {
            return Ok(None);
        };
        let range = range.within(bytes.len() as u64).map_err(|source| StoreError::Range { digest: *digest, source })?;
        // The range lies within a slice, so both ends fit a `usize`.
        Ok(Some(bytes.slice(range.start as usize..range.end as usize).into()))
    }

    async fn write(&self, digest: Digest, mut body: BlobBody) -> Result<(), StoreError> {
        let mut data = Vec::new();
        while let Some(piece) = body.next().await.transpose()? {
            data.extend_from_slice(&piece);
            if data.len() as u64 > digest.size_bytes() {
                return Err(StoreError::Mismatch { expected: digest, found: "more bytes".to_owned() });
            }
        }
        verify(&digest, &data)?;
        if !digest.is_empty() {
            self.insert(digest, Content::Whole(data.into()));
        }
        Ok(())
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        write_each(self, blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        if digest.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let Some(bytes) = self.bytes(digest) else {
            return Ok(None);
        };
        if bytes.len() <= MAX_CHUNK_BYTES {
            return Ok(Some(vec![*digest]));
        }
        if let Some(Content::Chunks(chunks)) = self.content(digest)
            && chunks.iter().all(|chunk| chunk.size_bytes() <= MAX_CHUNK_BYTES as u64)
        {
            return Ok(Some(chunks.to_vec()));
        }
        let mut chunker = Chunker::default();
        chunker.push(&bytes);
        let mut chunks = Vec::new();
        while let Some(chunk) = chunker.next_chunk().or_else(|| chunker.last_chunk()) {
            let chunk_digest = Digest::of(digest.function(), &chunk);
            self.insert(chunk_digest, Content::Whole(chunk));
            chunks.push(chunk_digest);
        }
        self.insert(*digest, Content::Chunks(chunks.clone().into()));
        Ok(Some(chunks))
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        if self.bytes(&digest).is_some() {
            return Ok(());
        }
        let mut data = Vec::new();
        for chunk in chunks {
            data.extend_from_slice(&self.bytes(chunk).ok_or(StoreError::MissingChunk(*chunk))?);
        }
        verify(&digest, &data)?;
        // A list of what may be lists itself would nest without end: what is small is kept whole.
        let flat = chunks.iter().all(|chunk| matches!(self.content(chunk), Some(Content::Whole(_))));
        let content = if flat && data.len() > MAX_CHUNK_BYTES {
            Content::Chunks(chunks.into())
        } else {
            Content::Whole(data.into())
        };
        self.insert(digest, content);
        Ok(())
    }
}

impl InMemory for MemoryStore {
    fn whole(&self, digests: &[Digest]) -> Vec<Option<Bytes>> {
        digests.iter().map(|digest| self.bytes(digest)).collect()
    }
}

#[async_trait]
impl RecordStore for MemoryStore {
    async fn get(&self, key: &RecordKey) -> Result<Option<Bytes>, StoreError> {
        Ok(self.records.read().get(key).cloned())
    }

    async fn get_all(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let records = self.records.read();
        Ok(keys.iter().map(|key| records.get(key).cloned()).collect())
    }

    fn may_have(&self, key: &RecordKey) -> bool {
        self.records.read().contains_key(key)
    }

    async fn put(&self, key: RecordKey, value: Bytes) -> Result<(), StoreError> {
        self.records.write().insert(key, value);
        Ok(())
    }

    async fn remove(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.records.write().remove(key);
        Ok(())
    }
}

#[async_trait]
impl SizeLookup for MemoryStore {
    async fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError> {
        if *hash == hash.function().empty_hash() {
            return Ok(Some(Digest::empty(hash.function())));
        }
        // What was stored was stored under a digest, so its size fits one.
        Ok(self.blobs.read().get(hash).and_then(|stored| Digest::new(*hash, stored.size_bytes).ok()))
    }
}

/// Memory is not damaged; what is not whole was forgotten.
#[async_trait]
impl Inspect for MemoryStore {
    async fn damaged(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        Ok(digests.iter().filter(|digest| self.bytes(digest).is_none()).copied().collect())
    }
}

/// It evicts nothing, so every promise is kept for ever.
#[async_trait]
impl LongPromise for MemoryStore {
    async fn promise_long(&self, _records: &[RecordKey], _blobs: &[Digest]) -> Result<(), StoreError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[tokio::test]
    async fn a_hash_alone_finds_the_size_of_what_is_here() {
        let store = MemoryStore::default();
        let digest = Digest::of(DigestFunction::Blake3, b"text");
        assert_eq!(store.digest_of(digest.hash()).await.expect("answers"), None);
        store.write(digest, Bytes::from_static(b"text").into()).await.expect("stored");
        assert_eq!(store.digest_of(digest.hash()).await.expect("answers"), Some(digest));
        let empty = Digest::empty(DigestFunction::Sha1);
        assert_eq!(store.digest_of(empty.hash()).await.expect("answers"), Some(empty));
    }
}
