use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::harness::{Blob, Client, Random, Server, say};

/// The rounds of the well-behaved client that are measured before an attack and during it.
const ROUNDS: u64 = 150;

const MIB: u64 = 1 << 20;

/// A well-behaved client: asks, reads and writes small blobs one after the other, and checks each answer.
struct Bystander {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    task: JoinHandle<Vec<Duration>>,
}

impl Bystander {
    fn start(client: Client, blob: Blob, seed: u64) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (stop.clone(), rounds.clone());
        let task = tokio::spawn(async move {
            let mut latencies = Vec::new();
            let mut random = Random::new(seed);
            while !stopped.load(Ordering::Relaxed) {
                let new = Blob::random(&mut random, 1000);
                for call in 0..3 {
                    let start = Instant::now();
                    match call {
                        0 => assert!(client.has(&blob.digest).await),
                        1 => assert!(client.read(&blob.digest).await.expect("a read") == blob.data),
                        _ => assert_eq!(client.write(&new).await.expect("a write"), new.digest.size_bytes),
                    }
                    latencies.push(start.elapsed());
                }
                counted.fetch_add(1, Ordering::Relaxed);
            }
            latencies
        });
        Self { stop, rounds, task }
    }

    /// Waits until it has done so many rounds more.
    async fn wait(&self, rounds: u64) {
        let until = self.rounds.load(Ordering::Relaxed) + rounds;
        while self.rounds.load(Ordering::Relaxed) < until && !self.task.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends it; its median latency.
    async fn finish(self) -> Duration {
        self.stop.store(true, Ordering::Relaxed);
        let mut latencies = self.task.await.expect("each answer of the well-behaved client is right");
        latencies.sort();
        latencies[latencies.len() / 2]
    }
}

/// What an attack leaves open until the well-behaved client has been served beside it.
pub type Held = Box<dyn std::any::Any + Send>;

/// Runs an attack on a thread of its own beside a well-behaved client: all of whose answers are right, and the memory of the
/// server grows by no more than `bound_mib`. Reports the client's median latency before and during the attack.
pub async fn beside(server: &Server, name: &str, bound_mib: u64, attack: impl FnOnce() -> Held + Send + 'static) {
    let blob = Blob::random(&mut Random::new(1), 20_000);
    let client = server.client();
    client.write(&blob).await.expect("stored");
    let before = Bystander::start(client.clone(), blob.clone(), 2);
    before.wait(ROUNDS).await;
    let before = before.finish().await;

    let start_bytes = server.resident_bytes();
    let pid = server.pid();
    let (over, peak) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let (watched, seen) = (over.clone(), peak.clone());
    let watch = std::thread::spawn(move || {
        while !watched.load(Ordering::Relaxed) {
            seen.fetch_max(super::harness::resident_bytes(pid), Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(10));
        }
    });
    let during = Bystander::start(client.clone(), blob.clone(), 3);
    let held = tokio::task::spawn_blocking(attack).await.expect("the attack itself");
    during.wait(ROUNDS).await;
    let during = during.finish().await;
    over.store(true, Ordering::Relaxed);
    watch.join().expect("a thread that reads a file");
    drop(held);

    let grown_mib = peak.load(Ordering::Relaxed).saturating_sub(start_bytes) / MIB;
    let ratio = during.as_secs_f64() / before.as_secs_f64();
    say(format!(
        "{name}: +{grown_mib} MiB of {bound_mib} at most; p50 of another client {before:.0?} before, {during:.0?} during ({ratio:.2}x)"
    ));
    assert!(grown_mib <= bound_mib, "{name}: {grown_mib} MiB more, and {bound_mib} are the bound");
    if std::env::var_os("TWOFOLD_LONG").is_some_and(|value| value == "1") {
        assert!(ratio <= 2.0, "{name}: the median latency of another client is {ratio:.2} times what it was");
    }
    assert!(client.read(&blob.digest).await.expect("served after the attack") == blob.data);
}
