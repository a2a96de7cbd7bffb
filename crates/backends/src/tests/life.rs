use std::os::unix::fs::MetadataExt;

use super::*;

const LEASE: Duration = Duration::from_secs(3600);

fn open_with(data: &Path, max_size_bytes: u64, clock: &Arc<SetClock>) -> Embedded {
    let clock: Arc<dyn Clock> = Arc::clone(clock) as _;
    Embedded::open_with_clock(settings(data, max_size_bytes), clock).expect("opened")
}

/// What `du` would count.
fn disk_usage(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).map(|entries| entries.flatten().collect::<Vec<_>>()).unwrap_or_default();
    let of = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk_usage(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_gone) => 0,
    };
    entries.into_iter().map(of).sum()
}

/// Watches a folder until it is dropped; tells the most it took.
struct Watch {
    stop: Arc<std::sync::atomic::AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Watch {
    fn start(folder: &Path) -> Self {
        let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let (folder, stopped) = (folder.to_owned(), Arc::clone(&stop));
        let watch = move || {
            let mut most = 0;
            while !stopped.load(Ordering::Relaxed) {
                most = disk_usage(&folder).max(most);
                std::thread::sleep(Duration::from_millis(10));
            }
            most
        };
        Self { stop, thread: Some(std::thread::spawn(watch)) }
    }

    fn most(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().expect("not asked before").join().expect("the watch")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_fed_stays_within_its_bound() {
    // Sizes that go inline, into packs and into files, alone and mixed.
    for lens in [&[1500][..], &[20_000], &[3 << 20], &[1500, 20_000, 200_000, 3 << 20]] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let max = 64 * MIB;
        let clock = SetClock::new();
        let store = open_with(folder.path(), max, &clock);
        let watch = Watch::start(folder.path());
        let (mut fed, mut seed) = (0, 0);
        while fed < 5 * max {
            let len = lens[seed as usize % lens.len()];
            // Few large ones at a time, so that those in flight are a small part of the store.
            let count = (8 * 1024 * 1024 / len as u64).clamp(1, 16);
            let blobs: Vec<Bytes> = (0..count).map(|n| noise(seed * 16 + n, len)).collect();
            let writes = blobs.iter().map(|data| put(&store, data));
            let digests = futures::future::join_all(writes).await;
            assert!(get(&store, &digests[0]).await.as_ref() == Some(&blobs[0]), "what was written just now is there");
            clock.forward(LEASE);
            fed += count * len as u64;
            seed += 1;
        }
        let most = watch.most();
        assert!(most <= max + max / 20, "{lens:?}: {most} bytes of {max}; {:?}", store.stats());
        assert!(store.stats().used_bytes >= max / 2, "{lens:?}: evicted too much: {:?}", store.stats());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_stays_until_its_lease_has_passed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = open_with(folder.path(), 64 * MIB, &clock);
    let mut promised = Vec::new();
    for seed in 0..400 {
        promised.push(put(&store, &noise(seed, 40_000)).await);
    }
    store.put(record_key("promised"), Bytes::from_static(b"value")).await.expect("put");
    assert!(store.get(&record_key("promised")).await.expect("get").is_some());
    assert_eq!(store.find_missing(&promised).await.expect("asked"), []);
    clock.forward(LEASE - Duration::from_secs(60));
    for seed in 1000..6000 {
        put(&store, &noise(seed, 40_000)).await;
    }
    assert!(store.stats().evicted_blobs > 0);
    assert_eq!(store.find_missing(&promised).await.expect("asked"), [], "nothing leased goes");
    assert!(store.get(&record_key("promised")).await.expect("get").is_some());
    assert_eq!(store.stats().youngest_evicted, None);

    clock.forward(LEASE * 2);
    for seed in 10_000..15_000 {
        put(&store, &noise(seed, 40_000)).await;
    }
    assert_eq!(store.find_missing(&promised).await.expect("asked").len(), promised.len());
    assert!(store.stats().youngest_evicted.is_some_and(|age| age >= LEASE), "{:?}", store.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_for_long_outlives_what_is_used_later_and_makes_room_when_nothing_else_can() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = open_with(folder.path(), 64 * MIB, &clock);
    let (mut long, mut short) = (Vec::new(), Vec::new());
    for seed in 0..200 {
        long.push(put(&store, &noise(seed, 40_000)).await);
        short.push(put(&store, &noise(100_000 + seed, 40_000)).await);
    }
    let key = record_key("names them");
    store.put(key.clone(), Bytes::from_static(b"value")).await.expect("put");
    assert_eq!(store.find_missing(&[long.clone(), short.clone()].concat()).await.expect("asked"), []);
    store.promise_long(std::slice::from_ref(&key), &long).await.expect("promised");
    // A promise is dated when it is written down.
    let written_down = || eventually("touches are written", || store.engine().touches.is_empty());
    written_down().await;
    // A look at what is there, that promises nothing.
    let left = |digests: &[Digest]| {
        let key = |digest: &Digest| crate::key::Key::blob(digest.hash());
        digests.iter().filter(|digest| store.engine().index.blob(&key(digest)).expect("asked").is_some()).count()
    };
    let has_record = || store.engine().index.record(&crate::key::Key::record(&key)).expect("asked").is_some();
    let fill = |from: u64| {
        let store = store.clone();
        async move {
            for seed in from..from + 4000 {
                put(&store, &noise(seed, 40_000)).await;
            }
        }
    };
    for day in 1..30 {
        clock.forward(Duration::from_secs(24 * 3600));
        if day % 7 == 1 {
            fill(day * 1_000_000).await;
            assert_eq!((left(&long), left(&short)), (200, 0), "after {day} days");
            assert!(has_record());
        }
    }
    // Asked for again, they are good for as long again.
    assert_eq!(store.find_missing(&long).await.expect("asked"), []);
    written_down().await;
    clock.forward(Duration::from_secs(20 * 24 * 3600));
    fill(100_000_000).await;
    assert_eq!((left(&long), has_record()), (200, false), "the record was not asked for");
    clock.forward(Duration::from_secs(20 * 24 * 3600));
    fill(200_000_000).await;
    assert_eq!(left(&long), 0, "30 days after the last question, they go like others");

    // Nothing else may go: what was promised for long goes when its lease has passed, rather than that writes are refused.
    let mut all = Vec::new();
    for seed in 300_000_000..300_001_200 {
        all.push(put(&store, &noise(seed, 40_000)).await);
        // What is evicted before it is promised is not leased.
        let _ = is_here(&store, &all[all.len() - 1]).await;
        store.promise_long(&[], &all[all.len() - 1..]).await.expect("promised");
    }
    written_down().await;
    clock.forward(LEASE * 2);
    fill(400_000_000).await;
    assert!(store.stats().youngest_evicted.is_some_and(|age| age >= LEASE), "{:?}", store.stats());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_promised_for_long_stays_so_when_it_is_cut() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let life = |digest: &Digest| {
        let row = store.engine().index.blob(&crate::key::Key::blob(digest.hash())).expect("asked");
        row.expect("here").life.queue
    };
    let digest = put(&store, &noise(1, 9 << 20)).await;
    store.promise_long(&[], &[digest]).await.expect("promised");
    eventually("the promise is written", || life(&digest) == crate::row::Queue::Kept).await;
    let chunks = store.split(&digest).await.expect("cut").expect("here");
    assert!(chunks.len() > 1);
    assert_eq!(life(&digest), crate::row::Queue::Kept);
    eventually("its chunks are promised", || chunks.iter().all(|chunk| life(chunk) == crate::row::Queue::Kept)).await;
    // A list that is put over a blob that is here changes nothing.
    store.splice(digest, &chunks).await.expect("here");
    assert_eq!(life(&digest), crate::row::Queue::Kept);
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_are_refused_when_all_is_leased_and_reads_go_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = open_with(folder.path(), 64 * MIB, &clock);
    let mut seed = 0;
    let (error, first) = loop {
        let data = noise(seed, 500_000);
        let digest = Digest::of(DigestFunction::Blake3, &data);
        match store.write(digest, data.into()).await {
            // What is evicted before it is promised is not leased; most is promised in time.
            Ok(()) => drop(is_here(&store, &digest).await),
            Err(error) => break (error, Digest::of(DigestFunction::Blake3, &noise(0, 500_000))),
        }
        seed += 1;
        assert!(seed < 1000, "the bound does not hold");
    };
    let StoreError::Full { reason, .. } = &error else { panic!("{error:?}") };
    assert!(reason.contains("promised") && reason.contains("--max-size"), "{reason}");
    assert!(store.stats().lease_refusals > 0);
    assert!(seed > 80, "only {seed} blobs found room");
    assert_eq!(get(&store, &first).await, Some(noise(0, 500_000)));
    put(&store, &noise(0, 500_000)).await;
    clock.forward(LEASE * 2);
    put(&store, &noise(999, 500_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn records_go_before_the_blobs_they_name() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = open_with(folder.path(), 64 * MIB, &clock);
    let mut pairs = Vec::new();
    for seed in 0..200 {
        let digest = put(&store, &noise(seed, 10_000)).await;
        let key = record_key(&format!("names {seed}"));
        store.put(key.clone(), digest.to_string().into()).await.expect("put");
        pairs.push((key, digest));
    }
    let (mut gone, mut seed) = (false, 1000);
    while !gone {
        for _ in 0..20 {
            put(&store, &noise(seed, 100_000)).await;
            seed += 1;
        }
        let engine = store.engine();
        for (key, digest) in &pairs {
            // The blob is looked at last: what goes in between went after its record. Nothing is promised by this look.
            let record = engine.index.record(&crate::key::Key::record(key)).expect("asked").is_some();
            let blob_gone = engine.index.blob(&crate::key::Key::blob(digest.hash())).expect("asked").is_none();
            if blob_gone {
                gone = true;
                let now = engine.index.record(&crate::key::Key::record(key)).expect("asked").is_some();
                assert!(!now, "the record outlived its blob (it was there before: {record})");
            }
        }
    }
    assert!(store.stats().evicted_records >= 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_gives_space_back_and_loses_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = open_with(folder.path(), 64 * MIB, &clock);
    let mut kept = Vec::new();
    for seed in 0..2000 {
        let digest = put(&store, &noise(seed, 20_000)).await;
        if seed % 4 == 0 {
            kept.push((digest, seed));
        }
    }
    let digests: Vec<Digest> = kept.iter().map(|(digest, _)| *digest).collect();
    assert_eq!(store.find_missing(&digests).await.expect("asked"), []);
    // Three of four in every pack go.
    for seed in 10_000..13_000 {
        put(&store, &noise(seed, 20_000)).await;
    }
    eventually("no pack is less than half live", || {
        let table = store.engine().packs.table.lock();
        table.values().all(|pack| !pack.sealed || pack.live * 2 > pack.len)
    })
    .await;
    for (digest, seed) in &kept {
        assert_eq!(get(&store, digest).await, Some(noise(*seed, 20_000)));
    }
    // Nothing is moved between the two looks.
    store.close();
    let on_disk = disk_usage(&folder.path().join("packs"));
    let stats = store.stats();
    assert!(on_disk.abs_diff(stats.pack_bytes) < 4 * MIB, "{on_disk} on disk; {stats:?}");
    drop(store);
    let store = open_with(folder.path(), 64 * MIB, &clock);
    let reopened = store.stats();
    for (digest, seed) in &kept {
        assert_eq!(get(&store, digest).await, Some(noise(*seed, 20_000)), "after a restart");
    }
    assert_eq!(reopened.pack_bytes, stats.pack_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_stored_once() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let data = noise(1, 20 << 20);
    let digest = put(&store, &data).await;
    let before = store.stats();
    let chunks = store.split(&digest).await.expect("split").expect("here");
    eventually("the whole blob's file is removed", || {
        disk_usage(&folder.path().join("files")) <= store.stats().file_bytes + MIB
    })
    .await;
    let after = store.stats();
    let bytes = |stats: &crate::Stats| stats.pack_bytes + stats.file_bytes;
    assert!(bytes(&after) < bytes(&before) + MIB, "{before:?} {after:?}");
    // A second blob that shares all but one chunk costs one chunk more.
    let mut other = data.to_vec();
    other[10 << 20] ^= 1;
    let other = put(&store, &other.into()).await;
    let others = store.split(&other).await.expect("split").expect("here");
    assert!(others.iter().filter(|chunk| !chunks.contains(chunk)).count() <= 2);
    assert!(bytes(&store.stats()) < bytes(&after) + 5 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_whose_chunk_is_gone_is_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let digest = put(&store, &noise(1, 5 << 20)).await;
    let chunks = store.split(&digest).await.expect("split").expect("here");
    let key = crate::key::Key::blob(chunks[2].hash());
    let place = store.engine().index.blob(&key).expect("asked").expect("here").place;
    let engine = Arc::clone(store.engine());
    let drop_row = crate::op::Change::Drop { key, place, why: crate::op::Why::Damaged };
    tokio::task::spawn_blocking(move || engine.commit_blocking(vec![drop_row])).await.expect("ran").expect("dropped");
    assert!(!is_here(&store, &digest).await);
    assert_eq!(get(&store, &digest).await, None);
    assert_eq!(store.split(&digest).await.expect("split"), None);
    put(&store, &noise(1, 5 << 20)).await;
    assert!(get(&store, &digest).await == Some(noise(1, 5 << 20)), "a new write makes it whole again");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_answered_as_present_can_be_read_while_eviction_runs() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = Embedded::open(settings(folder.path(), 64 * MIB)).expect("opened");
    let feeding = tokio::spawn({
        let store = store.clone();
        async move {
            for seed in 0..6000 {
                // The store may be full of promises at times.
                let data = noise(seed, 30_000);
                store.write(Digest::of(DigestFunction::Blake3, &data), data.into()).await.ok();
            }
        }
    });
    let mut promised = Vec::new();
    let mut seed = 0;
    while !feeding.is_finished() && promised.len() < 1000 {
        let data = noise(seed % 6000, 30_000);
        let digest = Digest::of(DigestFunction::Blake3, &data);
        if is_here(&store, &digest).await {
            promised.push((digest, data));
        }
        seed += 7;
    }
    feeding.await.expect("fed");
    for (digest, data) in promised {
        assert!(get(&store, &digest).await == Some(data), "{digest} was promised and is gone");
    }
}
