//! A bounded store that is fed eight times its size: it keeps its bound, and its promises.

mod harness;

use std::collections::VecDeque;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use harness::{Blob, Client, Random, Server, re, sha256};
use std::sync::Mutex;
use tonic::{Code, Status};

const MIB: u64 = 1 << 20;
const BOUND_BYTES: u64 = 256 * MIB;
const FED_BYTES: u64 = 2048 * MIB;
const LEASE: Duration = Duration::from_secs(2);
const WRITERS: u64 = 4;
/// How long a writer that finds everything leased may go on asking.
const PATIENCE: Duration = Duration::from_secs(60);

/// What was written so far.
#[derive(Default)]
struct Written {
    blobs: Mutex<Vec<re::Digest>>,
    actions: Mutex<Vec<re::Digest>>,
    fed_bytes: AtomicU64,
    refusals: AtomicU64,
    done: AtomicBool,
}

impl Written {
    fn is_done(&self) -> bool {
        self.done.load(Ordering::SeqCst)
    }

    fn any(list: &Mutex<Vec<re::Digest>>, random: &mut Random) -> Option<re::Digest> {
        let list = list.lock().expect("no holder panics");
        let at = random.below(list.len().max(1) as u64);
        list.get(usize::try_from(at).expect("an index")).cloned()
    }
}

/// Sends again while the server has no room that is not leased.
async fn until_room<T, F>(written: &Written, send: impl Fn() -> F) -> T
where
    F: Future<Output = Result<T, Status>>,
{
    let start = Instant::now();
    loop {
        match send().await {
            Ok(answer) => return answer,
            Err(status) if status.code() == Code::ResourceExhausted && start.elapsed() < PATIENCE => {
                written.refusals.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
            Err(status) => panic!("a write failed after {:?}: {status}", start.elapsed()),
        }
    }
}

/// Writes blobs of all classes, and results that name three of them, until all is fed.
async fn feed(client: Client, mut random: Random, written: Arc<Written>) {
    let mut recent = VecDeque::new();
    while written.fed_bytes.load(Ordering::Relaxed) < FED_BYTES {
        let bound = match random.below(8) {
            0..=1 => 4 << 10,
            2..=4 => 256 << 10,
            5..=6 => 1 << 20,
            _ => 4 << 20,
        };
        let size = usize::try_from(1 + random.below(bound)).expect("a small number");
        let blob = Blob::random(&mut random, size);
        until_room(&written, || client.write(&blob)).await;
        written.fed_bytes.fetch_add(size as u64, Ordering::Relaxed);
        written.blobs.lock().expect("no holder panics").push(blob.digest.clone());
        recent.push_back(blob.digest);
        if recent.len() == 3 {
            let output_files = recent
                .drain(..)
                .map(|digest| re::OutputFile { path: digest.hash.clone(), digest: Some(digest), ..Default::default() })
                .collect();
            let result = re::ActionResult { output_files, ..Default::default() };
            let action = sha256(&random.bytes(32));
            until_room(&written, || client.update_action_result(&action, result.clone())).await;
            written.actions.lock().expect("no holder panics").push(action);
        }
    }
}

/// Reads a blob that must be there.
async fn must_read(client: &Client, digest: &re::Digest, why: &str) -> Result<(), String> {
    match client.read(digest).await {
        Ok(data) if sha256(&data) == *digest => Ok(()),
        Ok(data) => Err(format!("{why}: {digest:?} reads as {} other bytes", data.len())),
        Err(status) => Err(format!("{why}: {digest:?}: {status}")),
    }
}

/// Looks action results up; what a served one names is read at once.
async fn use_results(client: Client, mut random: Random, written: Arc<Written>) -> (u64, u64) {
    let (mut hits, mut misses) = (0, 0);
    while !written.is_done() {
        let Some(action) = Written::any(&written.actions, &mut random) else {
            tokio::task::yield_now().await;
            continue;
        };
        match client.action_result(&action).await {
            Ok(result) => {
                hits += 1;
                for file in &result.output_files {
                    let digest = file.digest.as_ref().expect("a digest");
                    must_read(&client, digest, "a served action result names it")
                        .await
                        .unwrap_or_else(|error| panic!("{error}"));
                }
            }
            Err(status) if status.code() == Code::NotFound => misses += 1,
            Err(status) => panic!("GetActionResult: {status}"),
        }
    }
    (hits, misses)
}

/// Asks for blobs of any age, and reads those that are promised late in their lease.
async fn hold_to_promises(client: Client, mut random: Random, written: Arc<Written>) -> (u64, u64) {
    let mut promised: VecDeque<(Instant, re::Digest)> = VecDeque::new();
    let (mut promises, mut kept) = (0, 0);
    while !written.is_done() || !promised.is_empty() {
        if !written.is_done() && promised.len() < 200 {
            let asked: Vec<re::Digest> = (0..20).filter_map(|_| Written::any(&written.blobs, &mut random)).collect();
            let asked_at = Instant::now();
            let missing = client.find_missing(&asked).await.expect("FindMissingBlobs");
            let there = asked.into_iter().filter(|digest| !missing.contains(digest));
            promised.extend(there.map(|digest| (asked_at, digest)));
        }
        while let Some((asked_at, digest)) = promised.front().cloned() {
            if asked_at.elapsed() < LEASE.mul_f64(0.6) && !written.is_done() {
                break;
            }
            promised.pop_front();
            promises += 1;
            let read = must_read(&client, &digest, "it was promised").await;
            // A promise was made after the question left, so an answer within the lease from then must be the blob.
            match read {
                Ok(()) => kept += 1,
                Err(error) => {
                    assert!(asked_at.elapsed() > LEASE, "{:?} after the question: {error}", asked_at.elapsed())
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    (promises, kept)
}

/// What a folder takes: allocated, and by the files' lengths.
fn disk_use(folder: &Path) -> (u64, u64) {
    let (mut allocated, mut apparent) = (0, 0);
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // Files and folders may go while they are counted.
        for entry in std::fs::read_dir(&folder).into_iter().flatten().flatten() {
            let Ok(metadata) = entry.metadata() else { continue };
            allocated += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders.push(entry.path());
            } else {
                apparent += metadata.len();
            }
        }
    }
    (allocated, apparent)
}

/// Measures the folder until all is fed; the most that it took.
fn watch(folder: &Path, written: &Written) -> (u64, u64) {
    let (mut most_allocated, mut most_apparent) = (0, 0);
    while !written.is_done() {
        let (allocated, apparent) = disk_use(folder);
        (most_allocated, most_apparent) = (most_allocated.max(allocated), most_apparent.max(apparent));
        std::thread::sleep(Duration::from_millis(20));
    }
    (most_allocated, most_apparent)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_store_of_256_mib_that_is_fed_2_gib_keeps_its_bound_and_its_promises() {
    let server = Server::start(&["--max-size", "256MiB", "--lease", "2s"]);
    let written = Arc::new(Written::default());
    let (folder, watched) = (server.folder().to_owned(), written.clone());
    let watcher = std::thread::spawn(move || watch(&folder, &watched));
    let results = tokio::spawn(use_results(server.client(), Random::new(100), written.clone()));
    let promises = tokio::spawn(hold_to_promises(server.client(), Random::new(101), written.clone()));
    let start = Instant::now();
    let writers: Vec<_> =
        (0..WRITERS).map(|seed| tokio::spawn(feed(server.client(), Random::new(seed), written.clone()))).collect();
    let mut failed = None;
    for writer in writers {
        failed = writer.await.err().or(failed);
    }
    let seconds = start.elapsed().as_secs_f64();
    written.done.store(true, Ordering::SeqCst);
    let (allocated, apparent) = watcher.join().expect("the watcher");
    let (hits, misses) = results.await.expect("the user of action results");
    let (promises, kept) = promises.await.expect("the asker");
    assert!(failed.is_none(), "{failed:?}");

    let all = written.blobs.lock().expect("no holder panics").clone();
    let missing = server.client().find_missing(&all).await.expect("FindMissingBlobs");
    let (allocated_now, apparent_now) = disk_use(server.folder());
    let mib = |bytes: u64| bytes as f64 / MIB as f64;
    println!(
        "fed {:.0} MiB in {seconds:.1} s, {} writes asked to wait; folder at most {:.1} MiB allocated, {:.1} MiB by length, \
         now {:.1} and {:.1}; {} of {} blobs evicted; action results {hits} served, {misses} missed; {kept} of {promises} \
         promised blobs read",
        mib(written.fed_bytes.load(Ordering::Relaxed)),
        written.refusals.load(Ordering::Relaxed),
        mib(allocated),
        mib(apparent),
        mib(allocated_now),
        mib(apparent_now),
        missing.len(),
        all.len(),
    );
    assert!(allocated <= BOUND_BYTES * 105 / 100, "the folder took {:.1} MiB", mib(allocated));
    assert!(!missing.is_empty() && missing.len() < all.len());
    assert!(allocated_now >= BOUND_BYTES / 2, "far more was evicted than the bound asks for");
    assert!(hits > 0 && misses > 0 && kept > 0);
}
