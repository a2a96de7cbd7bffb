use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;
use crate::{Checked, Goal, Mending, Work};

/// Sizes of every class: in the index, in a pack, in a file of its own.
const LENS: [usize; 6] = [100, 1500, 20_000, 300_000, 1_500_000, 4 << 20];

struct Filled {
    blobs: Vec<(Digest, Bytes)>,
    records: u64,
}

/// Some of everything: blobs, lists of chunks, records, some of them deleted.
async fn fill(store: &Embedded) -> Filled {
    let mut blobs = Vec::new();
    for seed in 0..60 {
        let data = noise(seed, LENS[seed as usize % LENS.len()] + seed as usize);
        blobs.push((put(store, &data).await, data));
    }
    let cut = blobs.iter().find(|(digest, _)| digest.size_bytes() > 4 << 20).expect("a large blob").0;
    assert!(store.split(&cut).await.expect("split").expect("here").len() > 1);
    for n in 0..100 {
        store.put(record_key(&format!("r{n}")), noise(n, 300)).await.expect("put");
    }
    for n in 0..10 {
        store.remove(&record_key(&format!("r{n}"))).await.expect("removed");
    }
    assert!(store.purge_blob(blobs.pop().expect("many").0.hash()).await.expect("purged"));
    Filled { blobs, records: 90 }
}

async fn check(store: &Embedded, mending: Mending) -> Checked {
    store.check(mending, Arc::default()).await.expect("checked")
}

async fn assert_clean(store: &Embedded) {
    let found = check(store, Mending::LookOnly).await;
    assert_eq!(found.faults(), 0, "{found:?}");
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let mut files: Vec<PathBuf> = entries.filter(|path| path.is_file()).collect();
    files.sort();
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_in_use_checks_clean() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let filled = fill(&store).await;
    let found = check(&store, Mending::LookOnly).await;
    assert_eq!(found.faults(), 0, "{found:?}");
    assert!(found.blobs >= filled.blobs.len() as u64 && found.records == filled.records, "{found:?}");
    drop(store);
    assert_clean(&open(folder.path())).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_beside_writes_and_evictions_finds_nothing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = Embedded::open_with_clock(settings(folder.path(), 64 * MIB), clock.clone()).expect("opened");
    let done = std::sync::atomic::AtomicBool::new(false);
    let feed = async {
        for seed in 0..600 {
            put(&store, &noise(seed, LENS[seed as usize % LENS.len()])).await;
            store.put(record_key(&format!("r{}", seed % 50)), noise(seed, 200)).await.expect("put");
            clock.forward(Duration::from_secs(600));
        }
        done.store(true, Ordering::Relaxed);
    };
    let look = async {
        let mut checks = 0;
        while !done.load(Ordering::Relaxed) {
            let found = check(&store, Mending::Mend).await;
            assert_eq!(found.faults(), 0, "{found:?}");
            checks += 1;
        }
        checks
    };
    let ((), checks) = futures::future::join(feed, look).await;
    assert!(checks > 0 && store.stats().evicted_blobs > 0, "{checks} checks, {:?}", store.stats());
    assert_clean(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_found_put_aside_and_mended() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let filled = fill(&store).await;
    drop(store);
    flip(&files(&folder.path().join("packs"))[0], 100_000);
    flip(&files(&folder.path().join("files"))[0], 1_200_000);
    std::fs::remove_file(&files(&folder.path().join("files"))[1]).expect("removed");
    let orphan = folder.path().join("files").join(ulid::Ulid::generate().to_string());
    let store = open(folder.path());
    assert!(store.check(Mending::LookOnly, Arc::default()).await.is_ok(), "the sweep at start is over");
    std::fs::write(&orphan, b"an orphan").expect("written");

    let found = check(&store, Mending::LookOnly).await;
    let figures = |found: &Checked| (found.damaged_blobs, found.lost_blobs, found.orphan_files, found.faults());
    assert_eq!(figures(&found), (2, 1, 1, 4), "{found:?}");
    let again = check(&store, Mending::Mend).await;
    assert_eq!(figures(&again), figures(&found), "a look changes nothing");
    assert!(!orphan.exists());
    eventually("both are put aside", || files(&folder.path().join("quarantine")).len() == 2).await;
    assert_clean(&store).await;
    let mut missing = 0;
    for (digest, data) in &filled.blobs {
        match get(&store, digest).await {
            Some(read) => assert!(read == *data),
            None => missing += 1,
        }
    }
    assert_eq!(missing, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_sums_and_lost_places_in_the_order_are_set_right() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let filled = fill(&store).await;
    let engine = store.engine();
    let key = crate::key::Key::blob(filled.blobs[2].0.hash());
    let row = engine.index.blob(&key).expect("asked").expect("here");
    let pack = *engine.packs.table.lock().keys().next().expect("a pack");
    let file = ulid::Ulid::generate();
    let mut batch = engine.index.batch();
    batch.delete_lru(row.life, &key);
    batch.put_segment(crate::index::SegmentKind::File, file, 5);
    batch.write(crate::index::Sync::No).expect("written");
    engine.packs.table.lock().get_mut(&pack).expect("the pack").live += 1000;
    engine.totals.lock().records += 7;

    let found = check(&store, Mending::Mend).await;
    assert_eq!((found.unlisted, found.wrong_sums, found.faults()), (1, 3, 4), "{found:?}");
    assert_clean(&store).await;
    assert_eq!(store.stats().records, filled.records);
}

/// Damages the index of a copy, mends it, and says how many blobs and records are left.
async fn mend_index(pristine: &Path, filled: &Filled, damage: impl FnOnce(&Path)) -> (usize, usize) {
    let copy = tempfile::tempdir().expect("a temporary folder");
    let status = std::process::Command::new("cp").arg("-a").arg(pristine.join(".")).arg(copy.path()).status();
    assert!(status.expect("cp").success());
    damage(&copy.path().join("index"));
    let work = Work::default();
    let (store, rebuilt) = Embedded::open_mending(settings(copy.path(), 1024 * MIB), &work).expect("mended");
    let found = check(&store, Mending::Mend).await;
    assert_clean(&store).await;
    let (mut blobs, mut records) = (0, 0);
    for (digest, data) in &filled.blobs {
        if let Some(read) = get(&store, digest).await {
            assert!(read == *data, "{rebuilt:?} {found:?}");
            blobs += 1;
        }
    }
    for n in 10..100 {
        if let Some(read) = store.get(&record_key(&format!("r{n}"))).await.expect("asked") {
            assert!(read == noise(n, 300));
            records += 1;
        }
    }
    for n in 0..10 {
        assert_eq!(store.get(&record_key(&format!("r{n}"))).await.expect("asked"), None, "a removed record came back");
    }
    put(&store, &noise(1000, 5000)).await;
    drop(store);
    assert_clean(&open(copy.path())).await;
    (blobs, records)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_is_made_anew_from_what_it_tells_and_from_the_bytes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let filled = fill(&store).await;
    store.erase_purged().await.expect("flushed");
    for n in 10..100 {
        store.put(record_key(&format!("r{n}")), noise(n, 300)).await.expect("put");
    }
    drop(store);
    let in_bytes = filled.blobs.iter().filter(|(digest, _)| digest.size_bytes() > 2048).count() - 1;
    let all = filled.blobs.len();
    let gone = mend_index(folder.path(), &filled, |index| std::fs::remove_dir_all(index).expect("removed")).await;
    assert_eq!(gone.1, 0);
    assert!(gone.0 >= in_bytes, "{gone:?} of {in_bytes}");
    let manifest = |index: &Path| std::fs::write(index.join("CURRENT"), b"MANIFEST-999999\n").expect("written");
    assert_eq!(mend_index(folder.path(), &filled, manifest).await, (all, 90), "its tables tell all");

    let (mut blobs, mut records, rounds) = (0, 0, 30u64);
    for round in 0..rounds {
        let left = mend_index(folder.path(), &filled, |index| {
            let files = files(index);
            let files: Vec<_> = files.iter().filter(|path| path.metadata().is_ok_and(|meta| meta.len() > 0)).collect();
            let path = files[round as usize % files.len()];
            let len = path.metadata().expect("metadata").len();
            flip(path, round.wrapping_mul(0x9e37_79b9_7f4a_7c15) % len);
        });
        let left = left.await;
        assert!(left.0 >= in_bytes, "round {round}: {left:?} of {in_bytes}");
        (blobs, records) = (blobs + left.0, records + left.1);
    }
    println!("{rounds} bits: {blobs} of {} blobs and {records} of {} records kept", all as u64 * rounds, 90 * rounds);
    assert!(records as u64 > 90 * rounds / 2);
}

#[test]
fn two_checks_at_once_are_one_too_many() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _inside = runtime.enter();
    let store = open(folder.path());
    let _running = store.engine().checking.lock();
    let refused = runtime.block_on(store.check(Mending::Mend, Arc::default()));
    assert!(matches!(refused, Err(StoreError::Unavailable { .. })), "{refused:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn eviction_on_request_reaches_its_goal_as_far_as_leases_let_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let store = Embedded::open_with_clock(settings(folder.path(), 1024 * MIB), clock.clone()).expect("opened");
    let mut digests = Vec::new();
    for seed in 0..60 {
        digests.push(put(&store, &noise(seed, if seed % 2 == 0 { 200_000 } else { 2 << 20 })).await);
        clock.forward(Duration::from_secs(60));
    }
    for digest in &digests[..10] {
        assert!(is_here(&store, digest).await, "the oldest are promised now");
    }
    let by_age = Goal { unused_for: Some(Duration::from_secs(30 * 60)), max_bytes: None };
    let planned = store.plan(by_age).await.expect("planned");
    assert_eq!((planned.evicted.blobs, planned.held.blobs), (21, 0), "{planned:?}");
    assert!(is_here(&store, &digests[12]).await, "a plan changes nothing; this is promised too now");
    let done = store.collect(by_age, Arc::default()).await.expect("collected");
    assert_eq!((done.evicted.blobs, done.held.blobs), (20, 0), "{done:?}");
    assert!(done.bytes_after < done.bytes_before);

    let to_nothing = Goal { max_bytes: Some(0), unused_for: None };
    let planned = store.plan(to_nothing).await.expect("planned");
    let done = store.collect(to_nothing, Arc::default()).await.expect("collected");
    assert_eq!((done.evicted.blobs, done.held.blobs), (29, 11), "{done:?}");
    assert_eq!((planned.evicted, planned.held), (done.evicted, done.held));
    for digest in digests[..10].iter().chain([&digests[12]]) {
        assert!(is_here(&store, digest).await);
    }
    // Of the packs only what the leased ones need is left.
    let stats = store.stats();
    assert!(stats.dead_bytes <= stats.pack_bytes / 2, "{stats:?}");
    clock.forward(Duration::from_secs(3 * 3600));
    let done = store.collect(to_nothing, Arc::default()).await.expect("collected");
    assert_eq!((done.evicted.blobs, done.held.blobs, store.stats().blobs), (11, 0, 0), "{done:?}");
    assert_clean(&store).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_written_a_moment_ago_is_kept_and_writes_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let clock = SetClock::new();
    let evict_floor = Duration::from_secs(300);
    let settings = Settings { evict_floor, ..settings(folder.path(), 64 * MIB) };
    let store = Embedded::open_with_clock(settings, clock.clone()).expect("opened");
    let mut kept = Vec::new();
    let refused = loop {
        let data = noise(kept.len() as u64, 1 << 20);
        let digest = Digest::of(DigestFunction::Blake3, &data);
        match store.write(digest, data.into()).await {
            Ok(()) => kept.push(digest),
            Err(error) => break error,
        }
        assert!(kept.len() < 64, "more than the store holds");
    };
    assert!(refused.to_string().contains("--evict-floor"), "{refused}");
    assert!(store.find_missing(&kept).await.expect("asked").is_empty());
    let engine = Arc::clone(store.engine());
    let written = tokio::task::spawn_blocking(move || engine.barrier().is_ok());
    assert!(written.await.expect("the promises are written"));
    clock.forward(Duration::from_secs(3 * 3600));
    put(&store, &noise(1000, 1 << 20)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn purged_records_and_blobs_are_gone_and_changed_ones_stay() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    for n in 0..3000 {
        store.put(record_key(&format!("r{n:04}")), noise(n, 50)).await.expect("put");
    }
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = store.records_after(after).await.expect("listed");
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        all.extend(page);
    }
    assert_eq!(all.len(), 3000);
    assert!(all.is_sorted() && all[7].1 == noise(7, 50));
    store.put(record_key("r0001"), noise(1, 60)).await.expect("put");
    assert!(store.get(&record_key("r0000")).await.expect("asked").is_some(), "from now on in memory");
    assert_eq!(store.purge_records(all[..10].to_vec()).await.expect("purged"), 9);
    assert_eq!(store.get(&record_key("r0000")).await.expect("asked"), None);
    assert!(store.get(&record_key("r0001")).await.expect("asked").is_some());
    store.erase_purged().await.expect("erased");
    let data = noise(1, 5000);
    let digest = put(&store, &data).await;
    assert!(is_here(&store, &digest).await && get(&store, &digest).await.is_some(), "leased and in memory");
    assert!(store.purge_blob(digest.hash()).await.expect("purged"));
    assert!(!store.purge_blob(digest.hash()).await.expect("purged"));
    assert!(!is_here(&store, &digest).await);
    assert_eq!(get(&store, &digest).await, None);
    assert_clean(&store).await;
}
