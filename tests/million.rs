//! How soon a full store serves after a start, and what a stored blob costs in memory. 20,000 blobs; `TWOFOLD_LONG=1` makes
//! it a million, and only then the figures say something.
//!
//! The caches of the server have bounds that do not depend on the number of blobs, and half a million blobs fill them. So a
//! blob costs what the second half of the million adds; what all of the process takes is printed beside it.

mod harness;

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use harness::{Blob, Client, Random, Server, re, say, sha256};

/// Blobs of one call.
const BATCH: usize = 500;
const CALLS_AT_ONCE: usize = 8;
/// What a stored blob more may cost in resident memory.
const MAX_RESIDENT_BYTES: u64 = 100;

fn is_long() -> bool {
    std::env::var_os("TWOFOLD_LONG").is_some_and(|value| value == "1")
}

/// The blobs of a batch: half of them are held by the index itself, half by packs.
fn batch(number: usize) -> Vec<Blob> {
    let mut random = Random::new(number as u64);
    (0..BATCH)
        .map(|n| {
            let len = if n % 2 == 0 { 100 + random.below(900) } else { 2100 + random.below(2000) };
            Blob::random(&mut random, usize::try_from(len).expect("a small number"))
        })
        .collect()
}

async fn write_batch(client: Client, number: usize) -> Vec<re::Digest> {
    let blobs = batch(number);
    for response in client.batch_update(&blobs).await.expect("BatchUpdateBlobs") {
        let status = response.status.unwrap_or_default();
        assert_eq!(status.code, 0, "{}", status.message);
    }
    blobs.into_iter().map(|blob| blob.digest).collect()
}

async fn find_all(client: &Client, digests: &[re::Digest]) {
    for part in digests.chunks(10_000) {
        assert!(client.find_missing(part).await.expect("FindMissingBlobs").is_empty());
    }
}

async fn read_all(client: &Client, digests: &[re::Digest]) {
    let calls = digests.chunks(BATCH).map(|part| async move {
        for answer in client.batch_read(part, &[]).await? {
            assert_eq!(answer.digest, Some(sha256(&answer.data)));
        }
        Ok::<(), tonic::Status>(())
    });
    let all: Vec<_> = calls.collect();
    futures::stream::iter(all).buffer_unordered(CALLS_AT_ONCE).try_collect::<()>().await.expect("BatchReadBlobs");
}

struct Figures<'a> {
    server: &'a mut Server,
    digests: &'a [re::Digest],
}

impl Figures<'_> {
    /// Starts the server again and says how long that takes: until it listens, and until it has answered.
    async fn start(&mut self, how: &str) {
        let start = Instant::now();
        self.server.restart();
        let listening = start.elapsed();
        find_all(&self.server.client(), &self.digests[..100]).await;
        self.say(&format!("started after {how}: listens in {}, answered in {}", ms(listening), ms(start.elapsed())));
    }

    fn say(&self, what: &str) -> u64 {
        let resident = self.server.resident_bytes();
        let (mib, each) = (resident as f64 / f64::from(1 << 20), resident / self.digests.len() as u64);
        say(format_args!("{} blobs, {what}; {mib:.1} MiB resident, {each} bytes a blob", self.digests.len()));
        resident
    }

    /// The most that is resident after a start, asking for all twice and reading all.
    async fn use_all(&mut self) -> u64 {
        self.say("after writing");
        assert!(self.server.terminate().success());
        self.start("SIGTERM").await;
        let mut most = 0;
        for round in 1..=2 {
            find_all(&self.server.client(), self.digests).await;
            most = most.max(self.say(&format!("all found, time {round}")));
        }
        read_all(&self.server.client(), self.digests).await;
        most.max(self.say("all read"))
    }
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

async fn write_batches(client: &Client, batches: std::ops::Range<usize>) -> Vec<re::Digest> {
    let start = Instant::now();
    let calls = futures::stream::iter(batches).map(|number| tokio::spawn(write_batch(client.clone(), number)));
    let digests: Vec<Vec<re::Digest>> = calls.buffered(CALLS_AT_ONCE).try_collect().await.expect("a writer");
    let digests = digests.concat();
    say(format_args!("{} blobs written in {:.1} s", digests.len(), start.elapsed().as_secs_f64()));
    digests
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_serves_at_once_and_takes_little_memory() {
    let batches = if is_long() { 1_000_000 / BATCH } else { 20_000 / BATCH };
    let mut server = Server::start(&["--max-size", "40GiB"]);
    let mut digests = write_batches(&server.client(), 0..batches / 2).await;
    let half = Figures { server: &mut server, digests: &digests }.use_all().await;

    digests.extend(write_batches(&server.client(), batches / 2..batches).await);
    let mut figures = Figures { server: &mut server, digests: &digests };
    let whole = figures.use_all().await;
    figures.server.kill();
    figures.start("SIGKILL").await;

    let each = whole.saturating_sub(half) / (digests.len() as u64 / 2);
    say(format_args!("a blob more takes {each} bytes"));
    assert!(!is_long() || each <= MAX_RESIDENT_BYTES, "{each} bytes resident for each blob");
}
