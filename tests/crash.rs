//! What SIGKILL and flipped bits may do to a server's data: nothing that was acknowledged goes, and nothing wrong is
//! served. `TWOFOLD_LONG=1` kills ten times as often.

mod harness;

use std::collections::HashSet;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::{StreamExt, TryStreamExt};
use harness::{Blob, Client, Random, Server, re, sha256, tool};
use tokio::sync::mpsc;
use tonic::{Code, Status};

const WRITERS: u64 = 6;
const READS_AT_ONCE: usize = 16;

fn rounds(in_ci: u64) -> u64 {
    if std::env::var_os("TWOFOLD_LONG").is_some_and(|value| value == "1") { in_ci * 10 } else { in_ci }
}

/// What a writer sent, and what of it was acknowledged.
#[derive(Default)]
struct Sent {
    blobs: Vec<re::Digest>,
    acknowledged: Vec<re::Digest>,
    results: Vec<(re::Digest, re::ActionResult)>,
    acknowledged_results: usize,
}

impl Sent {
    fn add(&mut self, other: Self) {
        self.blobs.extend(other.blobs);
        self.acknowledged.extend(other.acknowledged);
        // Acknowledged ones come first.
        let (done, open) = other.results.split_at(other.acknowledged_results);
        self.results.splice(self.acknowledged_results..self.acknowledged_results, done.iter().cloned());
        self.results.extend_from_slice(open);
        self.acknowledged_results += other.acknowledged_results;
    }
}

/// A size of every class that a store may treat differently: in the index, in a pack, in a file of its own.
fn any_size(random: &mut Random) -> usize {
    let bound = match random.below(10) {
        0..=2 => 2 << 10,
        3..=5 => 64 << 10,
        6..=7 => 600 << 10,
        8 => 1200 << 10,
        _ => 5 << 20,
    };
    usize::try_from(1 + random.below(bound)).expect("a small number")
}

fn any_blob(random: &mut Random) -> Blob {
    let size = any_size(random);
    Blob::new(if random.below(2) == 0 { random.bytes(size) } else { random.text(size) })
}

/// The result of a new action with these outputs.
fn new_result(random: &mut Random, outputs: &[re::Digest]) -> (re::Digest, re::ActionResult) {
    let output_files = outputs
        .iter()
        .enumerate()
        .map(|(index, digest)| re::OutputFile {
            path: format!("out/{index}"),
            digest: Some(digest.clone()),
            ..Default::default()
        })
        .collect();
    let execution_metadata = Some(re::ExecutedActionMetadata { worker: "crash".to_owned(), ..Default::default() });
    let result = re::ActionResult { output_files, execution_metadata, ..Default::default() };
    (sha256(&random.bytes(32)), result)
}

/// Sends blobs and results one after the other until the server is gone; each acknowledgement is told.
async fn write_on(client: Client, mut random: Random, told: mpsc::UnboundedSender<()>) -> (Sent, Status) {
    let mut sent = Sent::default();
    loop {
        if let Err(status) = write_one(&client, &mut random, &mut sent).await {
            return (sent, status);
        }
        // Nobody listens any more once the server is to be killed.
        told.send(()).ok();
    }
}

async fn write_one(client: &Client, random: &mut Random, sent: &mut Sent) -> Result<(), Status> {
    match random.below(10) {
        0..=2 => {
            let blobs: Vec<Blob> = (0..1 + random.below(20))
                .map(|_| {
                    let size = usize::try_from(1 + random.below(20_000)).expect("a small number");
                    Blob::random(random, size)
                })
                .collect();
            sent.blobs.extend(blobs.iter().map(|blob| blob.digest.clone()));
            for response in client.batch_update(&blobs).await? {
                let status = response.status.unwrap_or_default();
                assert_eq!(status.code, 0, "{}", status.message);
                sent.acknowledged.extend(response.digest);
            }
        }
        3..=6 => {
            let blob = any_blob(random);
            sent.blobs.push(blob.digest.clone());
            client.write(&blob).await?;
            sent.acknowledged.push(blob.digest);
        }
        7 => {
            let blob = any_blob(random);
            sent.blobs.push(blob.digest.clone());
            client.write_zstd(&blob).await?;
            sent.acknowledged.push(blob.digest);
        }
        _ => {
            let recent = sent.acknowledged.len().saturating_sub(3);
            let outputs = sent.acknowledged.get(recent..).unwrap_or_default();
            let (action, result) = new_result(random, outputs);
            sent.results.push((action.clone(), result.clone()));
            client.update_action_result(&action, result).await?;
            sent.acknowledged_results += 1;
        }
    }
    Ok(())
}

/// Reads blobs that must be there, and compares them with their digests.
async fn read_all(client: &Client, digests: &[re::Digest]) {
    let reads: Vec<_> = digests
        .iter()
        .map(|digest| async move {
            let data = client.read(digest).await.map_err(|status| format!("{digest:?}: {status}"))?;
            if sha256(&data) == *digest { Ok(()) } else { Err(format!("{digest:?} reads back as {:?}", sha256(&data))) }
        })
        .collect();
    let all: Result<(), String> =
        futures::stream::iter(reads).buffer_unordered(READS_AT_ONCE).try_collect::<()>().await;
    all.unwrap_or_else(|error| panic!("{error}"));
}

/// The digests that FindMissingBlobs calls present.
async fn present(client: &Client, digests: &[re::Digest]) -> Vec<re::Digest> {
    let mut found = Vec::new();
    for part in digests.chunks(10_000) {
        let missing = client.find_missing(part).await.expect("FindMissingBlobs");
        let missing: HashSet<&str> = missing.iter().map(|digest| digest.hash.as_str()).collect();
        found.extend(part.iter().filter(|digest| !missing.contains(digest.hash.as_str())).cloned());
    }
    found
}

/// All that was acknowledged is there, and all that is there is whole.
async fn check(client: &Client, sent: &Sent) {
    let found = present(client, &sent.blobs).await;
    let hashes: HashSet<&str> = found.iter().map(|digest| digest.hash.as_str()).collect();
    let lost: Vec<_> = sent.acknowledged.iter().filter(|digest| !hashes.contains(digest.hash.as_str())).collect();
    assert!(lost.is_empty(), "{} of {} acknowledged blobs are lost: {lost:?}", lost.len(), sent.acknowledged.len());
    read_all(client, &found).await;
    for (number, (action, result)) in sent.results.iter().enumerate() {
        match client.action_result(action).await {
            Ok(stored) => assert_eq!(stored, *result),
            Err(status) if status.code() == Code::NotFound && number >= sent.acknowledged_results => {}
            Err(status) => panic!("acknowledged action result {number} of {}: {status}", sent.acknowledged_results),
        }
    }
}

/// Writes from several sides until so many acknowledgements came, kills the server in the midst of it, starts it anew.
async fn kill_while_writing(server: &mut Server, random: &mut Random, acknowledgements: u64) -> Sent {
    let (tell, mut told) = mpsc::unbounded_channel();
    let killed = Arc::new(AtomicBool::new(false));
    let writers: Vec<_> = (0..WRITERS)
        .map(|_| {
            let (client, random, tell, killed) =
                (server.client(), Random::new(random.next()), tell.clone(), killed.clone());
            tokio::spawn(async move {
                let (sent, status) = write_on(client, random, tell).await;
                assert!(killed.load(Ordering::SeqCst), "a write failed before the kill: {status}");
                sent
            })
        })
        .collect();
    drop(tell);
    for _ in 0..acknowledgements {
        assert!(told.recv().await.is_some(), "all writers have stopped:\n{}", server.log());
    }
    killed.store(true, Ordering::SeqCst);
    server.kill();
    let mut all = Sent::default();
    for writer in writers {
        all.add(writer.await.expect("a writer"));
    }
    server.restart();
    all
}

async fn survive_kills(rounds: u64, seed: u64, args: &[&str]) {
    let mut random = Random::new(seed);
    let mut server = Server::start(args);
    let mut all = Sent::default();
    for round in 0..rounds {
        let acknowledgements = 1 + random.below(120);
        let sent = kill_while_writing(&mut server, &mut random, acknowledgements).await;
        check(&server.client(), &sent).await;
        all.add(sent);
        if round % 10 == 9 {
            println!("{} kills, {} blobs acknowledged", round + 1, all.acknowledged.len());
        }
    }
    check(&server.client(), &all).await;
    println!(
        "{rounds} kills ({args:?}): {} blobs and {} action results acknowledged, none lost; {} blobs were under way",
        all.acknowledged.len(),
        all.acknowledged_results,
        all.blobs.len() - all.acknowledged.len()
    );
    assert!(all.acknowledged_results > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_sigkill() {
    survive_kills(rounds(20), 1, &["--max-size", "40GiB"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_sigkill_without_fsync() {
    survive_kills(rounds(10), 2, &["--max-size", "40GiB", "--durability", "process"]).await;
}

/// Files below `folder`, those of the index apart from the rest.
fn files(folder: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut index, mut rest) = (Vec::new(), Vec::new());
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        // RocksDB's folder is the one with a file CURRENT.
        let of_index = folder.join("CURRENT").is_file();
        for entry in std::fs::read_dir(&folder).expect("a folder of the store") {
            let entry = entry.expect("a folder of the store");
            let metadata = entry.metadata().expect("a file's length");
            // Keys and secrets beside the store: a server without them must not start with others in their place.
            let is_secret = entry.path().extension().is_some_and(|extension| extension == "secret");
            if metadata.is_dir() {
                folders.push(entry.path());
            } else if metadata.len() > 0 && !is_secret {
                if of_index { index.push(entry.path()) } else { rest.push(entry.path()) }
            }
        }
    }
    index.sort();
    rest.sort();
    (index, rest)
}

/// Flips one bit of a file.
fn flip(path: &Path, random: &mut Random) {
    let file = File::options().read(true).write(true).open(path).expect("a file of the store");
    let at = random.below(file.metadata().expect("a file's length").len());
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    byte[0] ^= 1 << random.below(8);
    file.write_all_at(&byte, at).expect("the flipped byte");
}

/// What a server said about one blob or result.
#[derive(Default)]
struct Told {
    right: usize,
    refused: usize,
}

/// Asks for everything; what is served is right. Misses and errors are no wrong bytes.
async fn ask_for_all(client: &Client, sent: &Sent) -> Told {
    let mut told = Told::default();
    for digest in &sent.blobs {
        match client.read(digest).await {
            Ok(data) => {
                assert_eq!(sha256(&data), *digest, "a damaged blob was served");
                told.right += 1;
            }
            Err(_) => told.refused += 1,
        }
    }
    for part in sent.blobs.chunks(20) {
        let part: Vec<re::Digest> = part.iter().filter(|digest| digest.size_bytes < 150_000).cloned().collect();
        let Ok(answers) = client.batch_read(&part, &[]).await else { continue };
        for answer in answers.iter().filter(|answer| answer.status.as_ref().is_none_or(|status| status.code == 0)) {
            assert_eq!(answer.digest.as_ref(), Some(&sha256(&answer.data)), "a damaged blob was served in a batch");
        }
    }
    for (action, result) in &sent.results {
        match client.action_result(action).await {
            Ok(stored) => {
                assert_eq!(stored, *result, "a damaged action result was served");
                told.right += 1;
            }
            Err(_) => told.refused += 1,
        }
    }
    told
}

/// Writes a little of everything and stops the server.
async fn filled_folder(random: &mut Random) -> (Server, Sent) {
    let mut server = Server::start(&["--max-size", "4GiB"]);
    let client = server.client();
    let mut sent = Sent::default();
    while sent.blobs.len() < 150 || sent.results.len() < 10 {
        write_one(&client, random, &mut sent).await.expect("a write");
    }
    assert!(server.terminate().success());
    (server, sent)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_is_never_served() {
    let mut random = Random::new(3);
    let (pristine, sent) = filled_folder(&mut random).await;
    let all = sent.blobs.len() + sent.results.len();
    let mut refusals_to_start = 0;
    for round in 0..rounds(16) {
        let copy = tempfile::tempdir().expect("a temporary folder");
        let folder = copy.path().join("data");
        tool::copy_folder(pristine.folder(), &folder);
        let (index, rest) = files(&folder);
        let in_index = round % 4 == 3;
        if in_index {
            let path = index.get(usize::try_from(random.below(index.len() as u64)).expect("small")).expect("a file");
            flip(path, &mut random);
        } else {
            // Every file of blobs gets one, the large ones more.
            for path in &rest {
                let flips = 1 + std::fs::metadata(path).expect("a file's length").len() / (2 << 20);
                (0..flips).for_each(|_| flip(path, &mut random));
            }
        }
        let started = catch_unwind(AssertUnwindSafe(|| Server::start_in(&folder, &["--max-size", "4GiB"])));
        let Ok(server) = started else {
            assert!(in_index, "damage outside of the index kept the server from starting");
            refusals_to_start += 1;
            continue;
        };
        let told = ask_for_all(&server.client(), &sent).await;
        assert_eq!(told.right + told.refused, all);
        assert!(in_index || told.refused > 0, "the damage hit nothing");
        assert!(in_index || told.right > 0, "a few bits took everything away");
        println!("round {round}: {} of {all} served right, {} refused", told.right, told.refused);
    }
    println!("{refusals_to_start} damaged indexes were refused at start");
}

/// Asks for upkeep without end, in the midst of which the server is killed: everything that changes rows and files, and
/// nothing that is to go.
fn upkeep_on(server: &Server, stop: Arc<AtomicBool>) -> Vec<std::thread::JoinHandle<u64>> {
    let remote = server.url();
    [vec!["fsck"], vec!["gc", "--unused-for", "1h", "--max-size", "100GiB"], vec!["purge", "--instance", "doomed"]]
        .map(|args| {
            let (remote, stop) = (remote.clone(), stop.clone());
            std::thread::spawn(move || {
                let mut done = 0;
                while !stop.load(Ordering::SeqCst) {
                    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_twofold"));
                    let run = tool::run(command.args(&args).args(["--remote", &remote, "--json"]));
                    // The kill may come before the flag.
                    assert!(run.code == 0 || !run.output.contains("faults\":"), "{args:?}: {}", run.output);
                    done += u64::from(run.code == 0);
                }
                done
            })
        })
        .into()
}

/// Results that a purge takes away again.
async fn write_doomed(client: Client, mut random: Random, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::SeqCst) {
        let (action, result) = new_result(&mut random, &[]);
        if client.update_action_result(&action, result).await.is_err() {
            return;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_sigkill_during_upkeep() {
    let mut random = Random::new(4);
    let mut server = Server::start(&["--max-size", "40GiB"]);
    let (mut all, mut done) = (Sent::default(), 0);
    for _ in 0..rounds(6) {
        let stop = Arc::new(AtomicBool::new(false));
        let upkeep = upkeep_on(&server, stop.clone());
        let doomed = write_doomed(server.client().instance("doomed"), Random::new(random.next()), stop.clone());
        let doomed = tokio::spawn(doomed);
        let acknowledgements = 100 + random.below(200);
        let sent = kill_while_writing(&mut server, &mut random, acknowledgements).await;
        stop.store(true, Ordering::SeqCst);
        done += tokio::task::block_in_place(|| {
            upkeep.into_iter().map(|thread| thread.join().expect("upkeep")).sum::<u64>()
        });
        doomed.await.expect("the writer of what is purged");
        check(&server.client(), &sent).await;
        all.add(sent);
    }
    check(&server.client(), &all).await;
    println!("{done} runs of upkeep came to their end; {} blobs acknowledged, none lost", all.acknowledged.len());
    assert!(server.terminate().success());
    let fsck = std::process::Command::new(env!("CARGO_BIN_EXE_twofold"))
        .arg("fsck")
        .arg("--data")
        .arg(server.folder())
        .status();
    assert!(fsck.expect("the built program").success(), "the kills left faults");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_index_that_is_made_anew_survives_sigkill() {
    let mut random = Random::new(5);
    let (pristine, sent) = filled_folder(&mut random).await;
    let copy = tempfile::tempdir().expect("a temporary folder");
    let folder = copy.path().join("data");
    tool::copy_folder(pristine.folder(), &folder);
    let fsck = || {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_twofold"));
        command.arg("fsck").arg("--data").arg(&folder).stdout(std::process::Stdio::null());
        command
    };
    let mut killed = 0;
    for round in 0..rounds(20) {
        std::fs::write(folder.join("index/CURRENT"), b"MANIFEST-000000\n").expect("the damage");
        let mut child = fsck().spawn().expect("the built program");
        std::thread::sleep(std::time::Duration::from_millis(round * 7 % 120));
        child.kill().expect("a signal");
        killed += u64::from(child.wait().expect("its end").code().is_none());
    }
    assert!(killed > 0);
    fsck().status().expect("the built program");
    assert!(fsck().status().expect("the built program").success());
    let server = Server::start_in(&folder, &["--max-size", "4GiB"]);
    check(&server.client(), &sent).await;
}
