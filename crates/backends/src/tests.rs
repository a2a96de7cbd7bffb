use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_types::{ByteRange, Digest, DigestFunction};
use store::{BlobStore, Inspect, LongPromise, RecordKey, RecordKind, RecordStore, SizeLookup, StoreError, conformance};

use crate::{Clock, Durability, Embedded, Eviction, Settings};

mod damage;
mod disk;
mod kill;
mod life;
mod restart;
mod upkeep;

const MIB: u64 = 1024 * 1024;

/// A clock that tests set.
struct SetClock(AtomicU64);

impl SetClock {
    fn new() -> Arc<Self> {
        Arc::new(Self(AtomicU64::new(1_800_000_000)))
    }

    fn forward(&self, time: Duration) {
        self.0.fetch_add(time.as_secs(), Ordering::Relaxed);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Duration {
        Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

fn settings(data: &Path, max_size_bytes: u64) -> Settings {
    let lease = Duration::from_secs(3600);
    Settings {
        data: data.to_owned(),
        max_size_bytes,
        lease,
        evict_floor: Duration::ZERO,
        eviction: Eviction::Bounded,
        durability: Durability::Process,
    }
}

fn open(data: &Path) -> Embedded {
    Embedded::open(settings(data, 1024 * MIB)).expect("opened")
}

/// Bytes that do not compress.
fn noise(seed: u64, len: usize) -> Bytes {
    let mut data = Vec::with_capacity(len + 8);
    let mut state = seed.wrapping_mul(0xd134_2543_de82_ef95);
    while data.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        data.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    data.truncate(len);
    data.into()
}

async fn put(store: &Embedded, data: &Bytes) -> Digest {
    let digest = Digest::of(DigestFunction::Blake3, data);
    store.write(digest, data.clone().into()).await.expect("written");
    digest
}

async fn get(store: &Embedded, digest: &Digest) -> Option<Bytes> {
    let body = store.read(digest, ByteRange::ALL).await.expect("read")?;
    body.collect(usize::MAX).await.expect("the whole body")
}

async fn is_here(store: &Embedded, digest: &Digest) -> bool {
    store.find_missing(&[*digest]).await.expect("asked").is_empty()
}

fn record_key(name: &str) -> RecordKey {
    RecordKey { kind: RecordKind::ActionResult, key: name.to_owned().into() }
}

/// Waits for what the threads do on their own.
async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(60), "never came true: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_when_acknowledgements_survive_the_loss_of_power() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let durability = Durability::PowerLoss;
    let store = Embedded::open(Settings { durability, ..settings(folder.path(), 1024 * MIB) }).expect("opened");
    conformance::blob_store(&store, 1).await;
    conformance::record_store(&store, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn it_conforms_when_acknowledgements_survive_the_end_of_the_process() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    conformance::blob_store(&store, 1).await;
    conformance::record_store(&store, 1).await;
    store.close();
    drop(store);
    let store = open(folder.path());
    conformance::blob_store(&store, 2).await;
    conformance::record_store(&store, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_small_store_conforms_too() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(settings(folder.path(), 256 * MIB)).expect("opened");
    conformance::blob_store(&store, 0).await;
    conformance::record_store(&store, 0).await;
    assert_eq!(store.stats().evicted_blobs, 0, "the suite fits, so nothing of it goes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_blob_larger_than_the_store_is_refused_at_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(settings(folder.path(), 64 * MIB)).expect("opened");
    let digest = Digest::new(*Digest::of(DigestFunction::Blake3, b"x").hash(), 65 * MIB).expect("a size");
    let body = store::BlobBody::from_stream(futures::stream::pending());
    let refused = store.write(digest, body).await;
    assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hash_alone_finds_the_size_of_what_is_here() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    for (function, len) in [(DigestFunction::Sha256, 10), (DigestFunction::Blake3, 100_000), (DigestFunction::Sha1, 0)]
    {
        let data = noise(7, len);
        let digest = Digest::of(function, &data);
        let before = store.digest_of(digest.hash()).await.expect("answers");
        assert_eq!(before, digest.is_empty().then_some(digest));
        store.write(digest, data.into()).await.expect("stored");
        assert_eq!(store.digest_of(digest.hash()).await.expect("answers"), Some(digest));
    }
}
