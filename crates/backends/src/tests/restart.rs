use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn everything_is_there_after_a_restart() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blobs: Vec<Bytes> = [1, 2000, 3000, 70_000, 1 << 20, 3 << 20].into_iter().map(|len| noise(1, len)).collect();
    let long = noise(2, 9 << 20);
    let (mut digests, chunks);
    {
        let store = open(folder.path());
        digests = Vec::new();
        for data in &blobs {
            digests.push(put(&store, data).await);
        }
        let digest = put(&store, &long).await;
        chunks = store.split(&digest).await.expect("split").expect("here");
        store.put(record_key("kept"), Bytes::from_static(b"value")).await.expect("put");
    }
    for round in 0..3 {
        let store = open(folder.path());
        assert_eq!(store.stats().blobs, digests.len() as u64 + chunks.len() as u64 + 1, "round {round}");
        for (digest, data) in digests.iter().zip(&blobs) {
            assert!(get(&store, digest).await.as_ref() == Some(data), "round {round}");
        }
        let digest = Digest::of(DigestFunction::Blake3, &long);
        assert_eq!(store.split(&digest).await.expect("split"), Some(chunks.clone()));
        assert!(get(&store, &digest).await.as_ref() == Some(&long));
        let value = store.get(&record_key("kept")).await.expect("get");
        assert_eq!(value.as_deref(), Some(&b"value"[..]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_orderly_restart_goes_on_with_the_same_pack() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for seed in 0..5 {
        let store = open(folder.path());
        put(&store, &noise(seed, 10_000)).await;
    }
    assert_eq!(std::fs::read_dir(folder.path().join("packs")).expect("packs").count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_never_share_a_folder() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let Err(second) = Embedded::open(settings(folder.path(), 1024 * MIB)) else {
        panic!("a second store was opened");
    };
    let text = format!("{second} {:?}", std::error::Error::source(&second).map(ToString::to_string));
    assert!(text.contains("uses the data folder"), "{text}");
    drop(store);
    open(folder.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_newer_format_is_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let mut batch = store.engine().index.batch();
    batch.put_meta("format", &99u32.to_le_bytes());
    batch.write(crate::index::Sync::Yes).expect("written");
    drop(store);
    assert!(Embedded::open(settings(folder.path(), 1024 * MIB)).is_err());
}

/// The rows of the order of eviction, and the entries in them.
fn listed(store: &Embedded) -> (usize, usize) {
    let view = store.engine().index.view();
    (view.rows("lru").count(), store.engine().index.listed().count())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_format_is_read_and_is_the_present_one_then() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let open = || Embedded::open_with_clock(settings(folder.path(), 64 * MIB), clock.clone()).expect("opened");
    let store = open();
    let old: Vec<Bytes> = (0..50).map(|seed| noise(seed, 1000)).collect();
    let mut digests = Vec::new();
    for data in &old {
        digests.push(put(&store, data).await);
    }
    assert_eq!(listed(&store), (50, 50), "written alone, each has its row, as in format 1");
    let mut batch = store.engine().index.batch();
    batch.put_meta("format", &1u32.to_le_bytes());
    batch.write(crate::index::Sync::Yes).expect("written");
    drop(store);

    let store = open();
    assert_eq!(store.engine().index.meta("format").expect("asked"), Some(2u32.to_le_bytes().to_vec()));
    for (digest, data) in digests.iter().zip(&old) {
        assert!(get(&store, digest).await.as_ref() == Some(data));
    }
    drop(store);
    let store = open();
    assert_eq!(listed(&store), (100, 100), "what was read has a second place, and the first is out of date");
    clock.forward(Duration::from_secs(8000));
    let goal = crate::Goal { max_bytes: Some(0), ..Default::default() };
    let collected = store.collect(goal, Arc::default()).await.expect("collected");
    assert_eq!((collected.evicted.blobs, store.stats().blobs, listed(&store)), (50, 0, (0, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn blobs_of_one_moment_share_rows_of_the_order_and_leave_it_one_by_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = Embedded::open_with_clock(settings(folder.path(), 64 * MIB), clock.clone()).expect("opened");
    let blobs: Vec<Bytes> = (0..300).map(|seed| noise(seed, 500)).collect();
    let digest = |data: &Bytes| Digest::of(DigestFunction::Blake3, data);
    let batch = blobs.iter().map(|data| (digest(data), data.clone())).collect();
    assert!(store.write_all(batch).await.iter().all(Result::is_ok));
    assert_eq!(listed(&store), (3, 300));
    let check = || store.check(crate::Mending::LookOnly, Arc::default());
    assert_eq!(check().await.expect("checked").faults(), 0);

    // What is promised has a row of its own from then on, and stays when the others go.
    clock.forward(Duration::from_secs(100));
    let promised: Vec<Digest> = blobs[..10].iter().map(digest).collect();
    assert_eq!(store.find_missing(&promised).await.expect("asked"), []);
    assert_eq!(check().await.expect("checked").faults(), 0);
    assert_eq!(listed(&store), (13, 310), "ten entries of the shared rows are out of date");
    let goal = crate::Goal { max_bytes: Some(0), ..Default::default() };
    let collected = store.collect(goal, Arc::default()).await.expect("collected");
    assert_eq!((collected.evicted.blobs, collected.held.blobs, listed(&store)), (290, 10, (10, 10)));
    for (digest, data) in promised.iter().zip(&blobs) {
        assert!(get(&store, digest).await.as_ref() == Some(data));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_older_program_wrote_is_taken_over_and_it_is_told_so() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let data = noise(1, 5000);
    let digest = put(&store, &data).await;
    let mut batch = store.engine().index.batch();
    batch.put_meta("format", &1u32.to_le_bytes());
    batch.write(crate::index::Sync::Yes).expect("written");
    drop(store);
    let store = open(folder.path());
    assert_eq!(get(&store, &digest).await, Some(data));
    // The older program refuses a number that it does not know, by the rule of the test above.
    let format = store.engine().index.meta("format").expect("read").expect("a number");
    assert_eq!(format, 2u32.to_le_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closed_store_refuses_writes_and_still_reads() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let data = noise(1, 5000);
    let digest = put(&store, &data).await;
    store.close();
    store.close();
    assert_eq!(get(&store, &digest).await, Some(data));
    let late = noise(2, 5000);
    let refused = store.write(Digest::of(DigestFunction::Blake3, &late), late.into()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_nothing_names_are_swept_after_start() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let digest = put(&store, &noise(1, 3 << 20)).await;
    drop(store);
    let orphans = ["packs", "files"].map(|name| folder.path().join(name).join(ulid::Ulid::generate().to_string()));
    let upload = folder.path().join("tmp/upload");
    for path in orphans.iter().chain([&upload]) {
        std::fs::write(path, b"left behind").expect("written");
    }
    let store = open(folder.path());
    assert!(!upload.exists());
    eventually("orphans are removed", || orphans.iter().all(|path| !path.exists())).await;
    assert!(get(&store, &digest).await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_that_is_dropped_leaves_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let data = noise(1, 5 << 20);
    let digest = Digest::of(DigestFunction::Blake3, &data);
    let start = futures::stream::iter([Ok(data.slice(..3 << 20))]);
    let body = store::BlobBody::from_stream(futures::StreamExt::chain(start, futures::stream::pending()));
    let upload = tokio::time::timeout(Duration::from_millis(300), store.write(digest, body)).await;
    assert!(upload.is_err(), "the upload never ends");
    let tmp = folder.path().join("tmp");
    eventually("the upload's file is removed", || std::fs::read_dir(&tmp).expect("tmp").count() == 0).await;
    assert_eq!(store.stats().reserved_bytes, 0);
    assert!(!is_here(&store, &digest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_beside_writers_leaves_new_packs_alone() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    // A small store has small packs, so many are begun.
    let small = settings(folder.path(), 64 * MIB);
    let store = Embedded::open(small.clone()).expect("opened");
    let engine = store.engine().clone();
    let sweeping = tokio::task::spawn_blocking(move || {
        while !engine.stopping.load(std::sync::atomic::Ordering::Acquire) {
            crate::sweep::sweep(&engine);
        }
    });
    let mut digests = Vec::new();
    for seed in 0..300 {
        digests.push(put(&store, &noise(seed, 100_000)).await);
    }
    store.close();
    sweeping.await.expect("the sweep");
    drop(store);
    let store = Embedded::open(small).expect("opened again");
    for (seed, digest) in digests.iter().enumerate() {
        assert!(get(&store, digest).await == Some(noise(seed as u64, 100_000)), "blob {seed} is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn absence_is_known_without_the_index_and_never_said_of_what_is_here() {
    const AT_ONCE: u64 = 500;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let says = |store: &Embedded, digest: &Digest| store.engine().absence.of([digest]) == [true];
    let gone = Digest::of(DigestFunction::Blake3, b"gone");
    eventually("an empty index was gone through", || says(&store, &gone)).await;
    // More than the first filter has places, so that a second is made while these are written.
    let mut written = Vec::new();
    for batch in 0..80 {
        let blobs: Vec<Bytes> = (0..AT_ONCE).map(|n| noise(batch * AT_ONCE + n, 40)).collect();
        let digests = futures::future::join_all(blobs.iter().map(|data| put(&store, data))).await;
        assert_eq!(store.find_missing(&digests).await.expect("asked"), []);
        written.extend(digests);
    }
    assert!(written.iter().all(|digest| !says(&store, digest)));
    assert_eq!(store.find_missing(&[gone, written[0], gone]).await.expect("asked"), [gone]);
    store.close();
    drop(store);
    let store = open(folder.path());
    assert_eq!(store.find_missing(&[gone, written[0], gone]).await.expect("asked"), [gone]);
    eventually("the index was gone through", || says(&store, &gone)).await;
    assert!(written.iter().all(|digest| !says(&store, digest)));
    assert!(store.engine().purge_blob(*written[1].hash()).await.expect("purged"));
    let missing = store.find_missing(&[written[1], written[2], gone]).await.expect("asked");
    assert_eq!(missing.len(), 2, "{missing:?}");
}
