use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest, Hash};
use futures::StreamExt;

use crate::{
    BlobBody, BlobStore, Histogram, InMemory, Inspect, LongPromise, RecordKey, RecordStore, SizeLookup, StoreError,
};

/// The methods of the storage traits, as they are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreCall {
    /// [`BlobStore::find_missing`]
    FindMissing,
    /// [`BlobStore::read`], up to the first byte.
    Read,
    /// [`BlobStore::write`], the time that the sender takes included.
    Write,
    /// [`BlobStore::write_all`], of whose failures each blob counts.
    WriteAll,
    /// [`BlobStore::split`]
    Split,
    /// [`BlobStore::splice`]
    Splice,
    /// [`RecordStore::get`] and [`RecordStore::get_all`]
    GetRecord,
    /// [`RecordStore::put`]
    PutRecord,
    /// [`RecordStore::remove`]
    RemoveRecord,
    /// [`SizeLookup::digest_of`]
    DigestOf,
}

impl StoreCall {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::FindMissing,
        Self::Read,
        Self::Write,
        Self::WriteAll,
        Self::Split,
        Self::Splice,
        Self::GetRecord,
        Self::PutRecord,
        Self::RemoveRecord,
        Self::DigestOf,
    ];

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::FindMissing => "find_missing",
            Self::Read => "read",
            Self::Write => "write",
            Self::WriteAll => "write_all",
            Self::Split => "split",
            Self::Splice => "splice",
            Self::GetRecord => "get_record",
            Self::PutRecord => "put_record",
            Self::RemoveRecord => "remove_record",
            Self::DigestOf => "digest_of",
        }
    }
}

/// What a [`Metered`] store counts.
#[derive(Debug, Default)]
pub struct StoreMeters {
    latencies: [Histogram; StoreCall::ALL.len()],
    failures: [AtomicU64; StoreCall::ALL.len()],
    read_bytes: AtomicU64,
    written_bytes: AtomicU64,
}

impl StoreMeters {
    /// How long calls took.
    pub fn latency(&self, call: StoreCall) -> &Histogram {
        &self.latencies[call as usize]
    }

    /// How many calls ended with an error, misses not counted.
    pub fn failures(&self, call: StoreCall) -> u64 {
        self.failures[call as usize].load(Ordering::Relaxed)
    }

    /// The bytes that bodies of reads gave.
    pub fn read_bytes(&self) -> u64 {
        self.read_bytes.load(Ordering::Relaxed)
    }

    /// The bytes of blobs and records whose writing succeeded, what was here already included.
    pub fn written_bytes(&self) -> u64 {
        self.written_bytes.load(Ordering::Relaxed)
    }

    fn count<T>(&self, call: StoreCall, since: Instant, answer: &Result<T, StoreError>) {
        self.latencies[call as usize].observe(since.elapsed());
        if answer.is_err() {
            self.failures[call as usize].fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// A store whose calls are counted and timed.
#[derive(Clone)]
pub struct Metered<S> {
    inner: S,
    meters: Arc<StoreMeters>,
}

impl<S> Metered<S> {
    /// Wraps `inner`; what it does is added to `meters`.
    pub fn new(inner: S, meters: Arc<StoreMeters>) -> Self {
        Self { inner, meters }
    }
}

/// Counts the bytes of a body as they leave.
fn counted(body: BlobBody, meters: &Arc<StoreMeters>) -> BlobBody {
    if let Some(whole) = body.whole() {
        meters.read_bytes.fetch_add(whole.len() as u64, Ordering::Relaxed);
        return body;
    }
    let meters = Arc::clone(meters);
    BlobBody::from_stream(body.inspect(move |piece| {
        if let Ok(piece) = piece {
            meters.read_bytes.fetch_add(piece.len() as u64, Ordering::Relaxed);
        }
    }))
}

#[async_trait]
impl<S: BlobStore> BlobStore for Metered<S> {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let since = Instant::now();
        let missing = self.inner.find_missing(digests).await;
        self.meters.count(StoreCall::FindMissing, since, &missing);
        missing
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        let since = Instant::now();
        let body = self.inner.read(digest, range).await;
        self.meters.count(StoreCall::Read, since, &body);
        Ok(body?.map(|body| counted(body, &self.meters)))
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        let since = Instant::now();
        let written = self.inner.write(digest, body).await;
        self.meters.count(StoreCall::Write, since, &written);
        if written.is_ok() {
            self.meters.written_bytes.fetch_add(digest.size_bytes(), Ordering::Relaxed);
        }
        written
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let since = Instant::now();
        let sizes: Vec<u64> = blobs.iter().map(|(digest, _)| digest.size_bytes()).collect();
        let written = self.inner.write_all(blobs).await;
        self.meters.latencies[StoreCall::WriteAll as usize].observe(since.elapsed());
        let failures = written.iter().filter(|written| written.is_err()).count();
        self.meters.failures[StoreCall::WriteAll as usize].fetch_add(failures as u64, Ordering::Relaxed);
        let bytes = sizes.iter().zip(&written).filter(|(_, written)| written.is_ok()).map(|(size, _)| size).sum();
        self.meters.written_bytes.fetch_add(bytes, Ordering::Relaxed);
        written
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        let since = Instant::now();
        let chunks = self.inner.split(digest).await;
        self.meters.count(StoreCall::Split, since, &chunks);
        chunks
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        let since = Instant::now();
        let spliced = self.inner.splice(digest, chunks).await;
        self.meters.count(StoreCall::Splice, since, &spliced);
        spliced
    }
}

impl<S: InMemory> InMemory for Metered<S> {
    /// Each blob that is given counts as a read.
    fn whole(&self, digests: &[Digest]) -> Vec<Option<Bytes>> {
        let since = Instant::now();
        let found = self.inner.whole(digests);
        let each = since.elapsed() / u32::try_from(digests.len().max(1)).unwrap_or(u32::MAX);
        let mut read_bytes = 0;
        for bytes in found.iter().flatten() {
            read_bytes += bytes.len() as u64;
            self.meters.latencies[StoreCall::Read as usize].observe(each);
        }
        self.meters.read_bytes.fetch_add(read_bytes, Ordering::Relaxed);
        found
    }
}

#[async_trait]
impl<S: RecordStore> RecordStore for Metered<S> {
    async fn get(&self, key: &RecordKey) -> Result<Option<Bytes>, StoreError> {
        let since = Instant::now();
        let record = self.inner.get(key).await;
        self.meters.count(StoreCall::GetRecord, since, &record);
        record
    }

    async fn get_all(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        let since = Instant::now();
        let records = self.inner.get_all(keys).await;
        self.meters.count(StoreCall::GetRecord, since, &records);
        records
    }

    /// It takes no time, so it is not counted.
    fn may_have(&self, key: &RecordKey) -> bool {
        self.inner.may_have(key)
    }

    async fn put(&self, key: RecordKey, value: Bytes) -> Result<(), StoreError> {
        let (since, len) = (Instant::now(), value.len() as u64);
        let put = self.inner.put(key, value).await;
        self.meters.count(StoreCall::PutRecord, since, &put);
        if put.is_ok() {
            self.meters.written_bytes.fetch_add(len, Ordering::Relaxed);
        }
        put
    }

    async fn remove(&self, key: &RecordKey) -> Result<(), StoreError> {
        let since = Instant::now();
        let removed = self.inner.remove(key).await;
        self.meters.count(StoreCall::RemoveRecord, since, &removed);
        removed
    }
}

/// Nothing is handed on, so not counted as reads.
#[async_trait]
impl<S: Inspect> Inspect for Metered<S> {
    async fn damaged(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.damaged(digests).await
    }
}

/// Seldom asked, so not counted.
#[async_trait]
impl<S: LongPromise> LongPromise for Metered<S> {
    async fn promise_long(&self, records: &[RecordKey], blobs: &[Digest]) -> Result<(), StoreError> {
        self.inner.promise_long(records, blobs).await
    }
}

#[async_trait]
impl<S: SizeLookup> SizeLookup for Metered<S> {
    async fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError> {
        let since = Instant::now();
        let digest = self.inner.digest_of(hash).await;
        self.meters.count(StoreCall::DigestOf, since, &digest);
        digest
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;
    use crate::{Fault, Faulty, MemoryStore, conformance};

    #[tokio::test]
    async fn it_conforms() {
        let store = Metered::new(MemoryStore::default(), Arc::default());
        conformance::blob_store(&store, 1).await;
        conformance::record_store(&store, 1).await;
    }

    #[tokio::test]
    async fn calls_bytes_and_failures_are_counted_and_misses_are_no_failures() {
        let (meters, faulty) = (Arc::new(StoreMeters::default()), Faulty::new(MemoryStore::default()));
        faulty.fail(4, Fault::Unavailable);
        let store = Metered::new(faulty, Arc::clone(&meters));
        let data = Bytes::from(vec![7; 5000]);
        let digest = Digest::of(DigestFunction::Sha256, &data);
        assert!(store.read(&digest, ByteRange::ALL).await.expect("asked").is_none());
        store.write(digest, data.into()).await.expect("written");
        let body = store.read(&digest, ByteRange::ALL).await.expect("asked").expect("here");
        body.collect(5000).await.expect("read");
        assert!(store.find_missing(&[digest]).await.is_err());
        let counts = StoreCall::ALL.map(|call| (meters.latency(call).latencies().count(), meters.failures(call)));
        assert_eq!(counts[..4], [(1, 1), (2, 0), (1, 0), (0, 0)]);
        assert_eq!((meters.read_bytes(), meters.written_bytes()), (5000, 5000));
    }
}
