//! How soon a full store serves after a start, and what a stored blob costs in memory. 20,000 blobs; `TWOFOLD_LONG=1` makes
//! it a million, and only then the figures say something.

mod harness;

use std::time::{Duration, Instant};

use futures::{StreamExt, TryStreamExt};
use harness::{Blob, Client, Random, Server, re, say, sha256};

/// Blobs of one call.
const BATCH: usize = 500;
const CALLS_AT_ONCE: usize = 8;
/// What a stored blob may cost in resident memory.
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
        let each = resident / self.digests.len() as u64;
        say(format_args!("{what}; {:.1} MiB resident, {each} bytes a blob", resident as f64 / f64::from(1 << 20)));
        each
    }
}

fn ms(time: Duration) -> String {
    format!("{:.0} ms", time.as_secs_f64() * 1000.0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_serves_at_once_and_takes_little_memory() {
    let batches = if is_long() { 1_000_000 / BATCH } else { 20_000 / BATCH };
    let mut server = Server::start(&["--max-size", "40GiB"]);
    let start = Instant::now();
    let client = server.client();
    let calls = futures::stream::iter(0..batches).map(|number| tokio::spawn(write_batch(client.clone(), number)));
    let digests: Vec<Vec<re::Digest>> = calls.buffered(CALLS_AT_ONCE).try_collect().await.expect("a writer");
    let digests = digests.concat();
    say(format_args!("{} blobs written in {:.1} s", digests.len(), start.elapsed().as_secs_f64()));

    let mut figures = Figures { server: &mut server, digests: &digests };
    figures.say("after writing");
    assert!(figures.server.terminate().success());
    figures.start("SIGTERM").await;
    let mut most = 0;
    for round in 1..=2 {
        find_all(&figures.server.client(), &digests).await;
        most = most.max(figures.say(&format!("all found, time {round}")));
    }
    read_all(&figures.server.client(), &digests).await;
    most = most.max(figures.say("all read"));
    figures.server.kill();
    figures.start("SIGKILL").await;
    assert!(!is_long() || most <= MAX_RESIDENT_BYTES, "{most} bytes resident for each blob");
}
