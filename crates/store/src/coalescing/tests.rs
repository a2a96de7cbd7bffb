use bytes::Bytes;
use cache_types::DigestFunction;
use futures::future::join_all;
use futures::{FutureExt, StreamExt, stream};

use super::*;
use crate::{Fault, Faulty, MemoryStore, conformance};

/// A store whose bodies come in pieces of 64 KiB.
struct InPieces(MemoryStore);

#[async_trait]
impl BlobStore for InPieces {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.0.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        let Some(body) = self.0.read(digest, range).await? else {
            return Ok(None);
        };
        let data = body.collect(usize::MAX).await?.unwrap_or_default();
        let pieces: Vec<_> = data.chunks(64 * 1024).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        Ok(Some(BlobBody::from_stream(stream::iter(pieces))))
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        self.0.write(digest, body).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        self.0.write_all(blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        self.0.split(digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        self.0.splice(digest, chunks).await
    }
}

struct Pair {
    near: Arc<MemoryStore>,
    far: Arc<Faulty<InPieces>>,
    store: Coalescing,
}

impl Pair {
    fn new() -> Self {
        let near = Arc::new(MemoryStore::default());
        let far = Arc::new(Faulty::new(InPieces(MemoryStore::default())));
        let store = Coalescing::new(near.clone(), far.clone());
        Self { near, far, store }
    }

    /// Puts a blob of `len` bytes on the far side.
    async fn far_blob(&self, len: usize) -> (Digest, Bytes) {
        let data: Bytes = (0u32..).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect();
        let digest = Digest::of(DigestFunction::Sha256, &data);
        self.far.inner().write(digest, data.clone().into()).await.expect("stored");
        (digest, data)
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<Bytes>, StoreError> {
        match self.store.read(digest, range).await? {
            Some(body) => body.collect(usize::MAX).await,
            None => Ok(None),
        }
    }

    async fn is_near(&self, digest: &Digest) -> bool {
        self.near.find_missing(&[*digest]).await.expect("asked").is_empty()
    }

    /// Waits until no fetch is under way.
    async fn settle(&self) {
        while !self.store.inner.flights.lock().is_empty() {
            tokio::task::yield_now().await;
        }
    }
}

const SIZES: [usize; 4] = [1, 1024 * 1024, 1024 * 1024 + 1, 9_000_001];

#[tokio::test]
async fn it_conforms() {
    let pair = Pair::new();
    conformance::blob_store(&pair.store, 1).await;
}

#[tokio::test]
async fn many_readers_of_one_blob_make_one_far_read_and_it_is_kept() {
    for size in SIZES {
        let pair = Pair::new();
        let (digest, data) = pair.far_blob(size).await;
        let reads = join_all((0..64).map(|_| pair.read(&digest, ByteRange::ALL))).await;
        for read in reads {
            assert_eq!(read.expect("read"), Some(data.clone()), "{size}");
        }
        assert_eq!(pair.far.calls(), 1, "{size}");
        pair.settle().await;
        assert!(pair.is_near(&digest).await, "{size}");
    }
}

#[tokio::test]
async fn the_first_reader_going_away_fails_nobody() {
    for size in SIZES {
        let pair = Pair::new();
        let (digest, data) = pair.far_blob(size).await;
        let mut leader = Box::pin(pair.read(&digest, ByteRange::ALL));
        assert!((&mut leader).now_or_never().is_none(), "nothing has been fetched yet");
        let follower = pair.read(&digest, ByteRange::ALL);
        drop(leader);
        assert_eq!(follower.await.expect("read"), Some(data), "{size}");
        assert_eq!(pair.far.calls(), 1);
    }
}

#[tokio::test]
async fn a_slow_reader_does_not_hold_up_the_fetch_and_goes_on_near() {
    let pair = Pair::new();
    let (digest, data) = pair.far_blob(20_000_000).await;
    let mut body = pair.store.read(&digest, ByteRange::ALL).await.expect("read").expect("there");
    let first = body.next().await.expect("a piece").expect("no error");
    pair.settle().await;
    assert!(pair.is_near(&digest).await);
    let rest = body.collect(usize::MAX).await.expect("no error").expect("no limit");
    assert_eq!([first, rest].concat(), data);
    assert_eq!(pair.far.calls(), 1);
}

#[tokio::test]
async fn ranges_are_answered_whether_they_reach_the_end_or_not() {
    for size in SIZES {
        let size_bytes = size as u64;
        for (offset, limit) in
            [(0, Some(1)), (size_bytes / 2, None), (size_bytes, None), (size_bytes / 3, Some(size_bytes / 3))]
        {
            let pair = Pair::new();
            let (digest, data) = pair.far_blob(size).await;
            let range = ByteRange::new(offset, limit);
            let span = range.within(size_bytes).expect("inside");
            let wanted = data.slice(span.start as usize..span.end as usize);
            assert_eq!(pair.read(&digest, range).await.expect("read"), Some(wanted), "{size} {offset} {limit:?}");
        }
        let pair = Pair::new();
        let (digest, _) = pair.far_blob(size).await;
        let past = pair.read(&digest, ByteRange::new(size_bytes + 1, None)).await;
        assert!(matches!(past, Err(StoreError::Range { .. })), "{past:?}");
    }
}

#[tokio::test]
async fn a_lie_never_ends_well_and_is_not_kept() {
    for size in SIZES {
        let pair = Pair::new();
        let (digest, data) = pair.far_blob(size).await;
        for range in [ByteRange::ALL, ByteRange::new(size as u64 / 2, None), ByteRange::new(0, Some(1))] {
            pair.far.fail(1, Fault::Flipped);
            assert!(pair.read(&digest, range).await.is_err(), "{size} {range:?}");
            assert!(!pair.is_near(&digest).await);
            pair.settle().await;
        }
        assert_eq!(pair.read(&digest, ByteRange::ALL).await.expect("the truth"), Some(data));
    }
}

#[tokio::test]
async fn a_fetch_that_is_cut_fails_all_its_readers_and_the_next_one_starts_anew() {
    for size in SIZES {
        let pair = Pair::new();
        let (digest, data) = pair.far_blob(size).await;
        pair.far.fail(1, Fault::CutAfter(size as u64 - 1));
        for read in join_all((0..8).map(|_| pair.read(&digest, ByteRange::ALL))).await {
            assert!(matches!(read, Err(StoreError::Unavailable { .. })), "{size}: {read:?}");
        }
        assert!(!pair.is_near(&digest).await);
        pair.settle().await;
        assert_eq!(pair.read(&digest, ByteRange::ALL).await.expect("read"), Some(data));
        assert_eq!(pair.far.calls(), 2);
    }
}

#[tokio::test]
async fn what_is_nowhere_is_a_miss_for_all() {
    let pair = Pair::new();
    let digest = Digest::of(DigestFunction::Sha256, b"nowhere");
    for read in join_all((0..8).map(|_| pair.read(&digest, ByteRange::ALL))).await {
        assert_eq!(read.expect("an answer"), None);
    }
    assert_eq!(pair.far.calls(), 1);
}
