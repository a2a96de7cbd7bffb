use bytes::Bytes;
use cache_types::DigestFunction;
use parking_lot::Mutex;

use super::*;
use crate::{Coalescing, Fault, Faulty, MemoryStore, conformance};

const MINUTE: Duration = Duration::from_secs(60);

struct Levels {
    near: Arc<MemoryStore>,
    far: Arc<Faulty<MemoryStore>>,
    store: TwoLevel,
}

impl Levels {
    fn new(writes: FarWrites) -> Self {
        let near = Arc::new(MemoryStore::default());
        let far = Arc::new(Faulty::new(MemoryStore::default()));
        let fetching = Arc::new(Coalescing::new(near.clone(), far.clone()));
        let store = TwoLevel::new(near.clone(), fetching, writes, MINUTE);
        Self { near, far, store }
    }

    async fn far_blob(&self, text: &'static str) -> Digest {
        let digest = digest(text);
        self.far.inner().write(digest, Bytes::from_static(text.as_bytes()).into()).await.expect("stored");
        digest
    }

    async fn missing(&self, digest: Digest) -> Result<Vec<Digest>, StoreError> {
        self.store.find_missing(&[digest]).await
    }

    async fn read(&self, digest: &Digest) -> Option<Bytes> {
        match self.store.read(digest, ByteRange::ALL).await.expect("an answer") {
            Some(body) => body.collect(usize::MAX).await.expect("whole"),
            None => None,
        }
    }
}

fn digest(text: &str) -> Digest {
    Digest::of(DigestFunction::Sha256, text.as_bytes())
}

async fn has(store: &dyn BlobStore, digest: Digest) -> bool {
    store.find_missing(&[digest]).await.expect("asked").is_empty()
}

fn queue(queued: &Arc<Mutex<Vec<Digest>>>) -> FarWrites {
    let queued = Arc::clone(queued);
    FarWrites::Queued(Arc::new(move |digest| {
        queued.lock().push(digest);
        Box::pin(std::future::ready(()))
    }))
}

#[tokio::test]
async fn it_conforms_whatever_becomes_of_writes() {
    for writes in [FarWrites::Off, FarWrites::BeforeAnswer, queue(&Arc::default())] {
        conformance::blob_store(&Levels::new(writes).store, 1).await;
    }
}

#[tokio::test]
async fn a_far_blob_is_read_once_and_near_afterwards() {
    let levels = Levels::new(FarWrites::Off);
    let digest = levels.far_blob("far").await;
    for _ in 0..3 {
        assert_eq!(levels.read(&digest).await.as_deref(), Some(&b"far"[..]));
    }
    assert_eq!(levels.far.calls(), 1);
    assert!(has(&*levels.near, digest).await);
}

#[tokio::test]
async fn writes_go_where_they_are_told() {
    let queued = Arc::new(Mutex::new(Vec::new()));
    for (writes, is_far, is_queued) in
        [(FarWrites::Off, false, false), (FarWrites::BeforeAnswer, true, false), (queue(&queued), false, true)]
    {
        let levels = Levels::new(writes);
        let blob = digest("text");
        levels.store.write(blob, Bytes::from_static(b"text").into()).await.expect("written");
        assert!(has(&*levels.near, blob).await);
        assert_eq!(has(levels.far.inner(), blob).await, is_far);
        assert_eq!(queued.lock().contains(&blob), is_queued);
    }
}

#[tokio::test]
async fn a_write_before_the_answer_fails_with_the_far_store() {
    let levels = Levels::new(FarWrites::BeforeAnswer);
    levels.far.fail(1, Fault::Unavailable);
    let blob = digest("text");
    let written = levels.store.write(blob, Bytes::from_static(b"text").into()).await;
    assert!(matches!(written, Err(StoreError::Unavailable { .. })), "{written:?}");
    levels.store.write(blob, Bytes::from_static(b"text").into()).await.expect("the second try");
    assert!(has(levels.far.inner(), blob).await);
}

#[tokio::test]
async fn presence_is_never_guessed_and_a_failed_read_is_a_miss() {
    for writes in [FarWrites::Off, FarWrites::BeforeAnswer, queue(&Arc::default())] {
        let levels = Levels::new(writes);
        let digest = levels.far_blob("far").await;
        levels.far.fail(1, Fault::Unavailable);
        assert!(matches!(levels.missing(digest).await, Err(StoreError::Unavailable { .. })));
        levels.far.fail(1, Fault::Unavailable);
        assert_eq!(levels.read(&digest).await, None);
        levels.far.fail(1, Fault::Flipped);
        assert_eq!(levels.read(&digest).await, None, "a lie is a miss");
        assert_eq!(levels.read(&digest).await.as_deref(), Some(&b"far"[..]));
    }
}

/// A far store that is known to be away.
struct Away;

#[async_trait]
impl BlobStore for Away {
    async fn find_missing(&self, _: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        Err(StoreError::LeftOut { level: "away" })
    }

    async fn read(&self, _: &Digest, _: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        Err(StoreError::LeftOut { level: "away" })
    }

    async fn write(&self, _: Digest, _: BlobBody) -> Result<(), StoreError> {
        Err(StoreError::LeftOut { level: "away" })
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        blobs.iter().map(|_| Err(StoreError::LeftOut { level: "away" })).collect()
    }

    async fn split(&self, _: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        Err(StoreError::LeftOut { level: "away" })
    }

    async fn splice(&self, _: Digest, _: &[Digest]) -> Result<(), StoreError> {
        Err(StoreError::LeftOut { level: "away" })
    }
}

#[tokio::test]
async fn a_far_store_that_is_left_out_leaves_the_near_one_alone_unless_writes_need_both() {
    let near = || Arc::new(MemoryStore::default());
    for writes in [FarWrites::Off, queue(&Arc::default())] {
        conformance::blob_store(&TwoLevel::new(near(), Arc::new(Away), writes, MINUTE), 1).await;
    }
    let both = TwoLevel::new(near(), Arc::new(Away), FarWrites::BeforeAnswer, MINUTE);
    let blob = digest("text");
    assert!(both.find_missing(&[blob]).await.is_err());
    assert!(both.write(blob, Bytes::from_static(b"text").into()).await.is_err());
    assert!(both.read(&digest("other"), ByteRange::ALL).await.expect("a miss").is_none());
}

#[tokio::test(start_paused = true)]
async fn a_positive_answer_is_remembered_for_its_time_and_forgotten_on_a_failed_read() {
    let levels = Levels::new(FarWrites::Off);
    let blob = levels.far_blob("far").await;
    for _ in 0..3 {
        assert_eq!(levels.missing(blob).await.expect("asked"), []);
    }
    assert_eq!(levels.far.calls(), 1);
    tokio::time::advance(MINUTE).await;
    assert_eq!(levels.missing(blob).await.expect("asked"), []);
    assert_eq!(levels.far.calls(), 2);

    levels.far.inner().forget(&blob);
    assert_eq!(levels.missing(blob).await.expect("asked"), [], "it is remembered");
    assert_eq!(levels.read(&blob).await, None);
    assert_eq!(levels.missing(blob).await.expect("asked"), [blob], "the read told otherwise");
    let absent = digest("absent");
    let before = levels.far.calls();
    for _ in 0..2 {
        assert_eq!(levels.missing(absent).await.expect("asked"), [absent]);
    }
    assert_eq!(levels.far.calls(), before + 2, "an absence is not remembered");
}

#[tokio::test]
async fn chunks_are_fetched_to_split_and_to_splice() {
    let levels = Levels::new(FarWrites::BeforeAnswer);
    let data: Bytes = (0u32..1_250_000).flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let whole = Digest::of(DigestFunction::Sha256, &data);
    levels.far.inner().write(whole, data.clone().into()).await.expect("stored");
    let chunks = levels.store.split(&whole).await.expect("split").expect("it is far");
    assert!(chunks.len() > 1 && has(&*levels.near, whole).await);

    let other = Levels::new(FarWrites::BeforeAnswer);
    let mut rest = data;
    for chunk in &chunks {
        let bytes = rest.split_to(chunk.size_bytes() as usize);
        other.far.inner().write(*chunk, bytes.into()).await.expect("stored");
    }
    other.store.splice(whole, &chunks).await.expect("spliced from far chunks");
    assert!(has(&*other.near, whole).await && has(other.far.inner(), whole).await);
    let nowhere = [digest("nowhere")];
    let spliced = other.store.splice(digest("x"), &nowhere).await;
    assert!(matches!(spliced, Err(StoreError::MissingChunk(_))), "{spliced:?}");
}
