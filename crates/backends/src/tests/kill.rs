use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use futures::StreamExt;

use super::*;

const FOLDER: &str = "TWOFOLD_TEST_FOLDER";
const FIRST: &str = "TWOFOLD_TEST_FIRST";

fn content(seed: u64) -> Bytes {
    let lens = [100, 1500, 5000, 60_000, 900_000, 1_500_000];
    noise(seed, lens[seed as usize % lens.len()] + seed as usize % 7)
}

/// The writer that is killed: tells each blob and record that was acknowledged. Does nothing unless it is asked to.
#[tokio::test(flavor = "multi_thread")]
async fn writer_process() {
    let (Ok(folder), Ok(first)) = (std::env::var(FOLDER), std::env::var(FIRST)) else { return };
    let store = open(Path::new(&folder));
    let first: u64 = first.parse().expect("a number");
    let write = |seed| {
        let store = store.clone();
        async move {
            let digest = put(&store, &content(seed)).await;
            println!("\nblob {seed}");
            store.put(record_key(&seed.to_string()), digest.to_string().into()).await.expect("put");
            println!("\nrecord {seed}");
        }
    };
    futures::stream::iter(first..).for_each_concurrent(8, write).await;
}

fn start_writer(folder: &Path, first: u64) -> Child {
    Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", "tests::kill::writer_process", "--nocapture"])
        .env(FOLDER, folder)
        .env(FIRST, first.to_string())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("started")
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_acknowledged_is_lost_by_a_kill() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (mut blobs, mut records) = (Vec::new(), Vec::new());
    for (round, lines) in [1, 40, 97, 211, 450].into_iter().enumerate() {
        let first = round as u64 * 100_000;
        let mut child = start_writer(folder.path(), first);
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut seen = 0;
        // Killed after a number of acknowledgements, with others on their way; what the pipe still holds counts too.
        for line in output.lines() {
            let line = line.expect("a line");
            let (kind, seed) = line.split_once(' ').unwrap_or_default();
            match (kind, seed.parse::<u64>()) {
                ("blob", Ok(seed)) => blobs.push(seed),
                ("record", Ok(seed)) => records.push(seed),
                _ => continue,
            }
            seen += 1;
            if seen == lines {
                child.kill().expect("killed");
            }
        }
        child.wait().expect("ended");
        let store = open(folder.path());
        for seed in &blobs {
            let data = content(*seed);
            let digest = Digest::of(DigestFunction::Blake3, &data);
            assert!(get(&store, &digest).await == Some(data), "round {round}: blob {seed} is lost");
        }
        for seed in &records {
            let digest = Digest::of(DigestFunction::Blake3, &content(*seed));
            let value = store.get(&record_key(&seed.to_string())).await.expect("asked");
            assert_eq!(value, Some(digest.to_string().into()), "round {round}: record {seed}");
        }
        // What was on its way is whole or not there.
        for seed in first..first + 1000 {
            let data = content(seed);
            let read = get(&store, &Digest::of(DigestFunction::Blake3, &data)).await;
            assert!(read.is_none_or(|read| read == data), "round {round}: blob {seed} is torn");
        }
        assert_eq!(store.stats().quarantined + store.stats().lost, 0, "round {round}");
    }
}
