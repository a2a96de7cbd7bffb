//! Downloads as a client makes them: the narinfo, then the NAR.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::folder::{Paths, StorePath};
use crate::server::{Cache, Nginx, Twofold};

const MIB: f64 = 1024.0 * 1024.0;
/// Downloads of one path after the first, in a round.
const AGAIN: usize = 3;

/// Whether a server has answered for the path since it was started.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum When {
    First,
    Again,
}

#[derive(Default)]
struct Sum {
    bytes: u64,
    times: Vec<Duration>,
    cpu_micros: u64,
}

/// (path, when, server) → what it took.
#[derive(Default)]
pub struct Figures(BTreeMap<(&'static str, When, &'static str), Sum>);

impl Figures {
    /// Downloads every path from both, the one first that was second in the round before; twofold has just been started.
    pub fn round(&mut self, paths: &Paths, nginx: &Nginx, twofold: &Twofold, round: usize) -> anyhow::Result<()> {
        let mut servers: [(&'static str, &dyn Cache); 2] = [("nginx", nginx), ("twofold", twofold)];
        if round % 2 == 1 {
            servers.reverse();
        }
        for path in &paths.0 {
            for (name, cache) in servers {
                self.download(path, When::First, name, cache)?;
            }
            for _ in 0..AGAIN {
                for (name, cache) in servers {
                    self.download(path, When::Again, name, cache)?;
                }
            }
        }
        if round == 0 {
            paths.compare(nginx, twofold)?;
            // What was not compared yet does not count.
            self.0.clear();
        }
        Ok(())
    }

    fn download(&mut self, path: &StorePath, when: When, name: &'static str, cache: &dyn Cache) -> anyhow::Result<()> {
        let mut client = Client::connect(cache)?;
        let cpu = cache.cpu_micros()?;
        let start = Instant::now();
        client.get(&path.narinfo, |_| ())?;
        let bytes = client.get(&path.nar, |_| ())?;
        let took = start.elapsed();
        let sum = self.0.entry((path.name, when, name)).or_default();
        sum.bytes = bytes;
        sum.times.push(took);
        sum.cpu_micros += cache.cpu_micros()? - cpu;
        Ok(())
    }

    /// Prints a table; the figures.
    pub fn report(mut self) -> Value {
        println!(
            "{:<24} {:<6} {:<8} {:>9} {:>9} {:>9} {:>9} {:>9} {:>7}",
            "download", "", "server", "MiB", "p50 ms", "p99 ms", "MiB/s", "CPU ms", "x nginx"
        );
        let mut rows = Vec::new();
        let mut floor = 0.0;
        for ((path, when, server), sum) in &mut self.0 {
            sum.times.sort();
            let at = |percent: usize| {
                let at = (sum.times.len() * percent).div_ceil(100).saturating_sub(1);
                sum.times.get(at).map_or(0.0, Duration::as_secs_f64)
            };
            let rate = sum.bytes as f64 / MIB / at(50);
            if *server == "nginx" {
                floor = rate;
            }
            let when = if *when == When::First { "first" } else { "again" };
            let cpu = sum.cpu_micros as f64 / 1000.0 / sum.times.len() as f64;
            println!(
                "{path:<24} {when:<6} {server:<8} {:>9.1} {:>9.2} {:>9.2} {rate:>9.0} {cpu:>9.2} {:>7.2}",
                sum.bytes as f64 / MIB,
                at(50) * 1000.0,
                at(99) * 1000.0,
                rate / floor
            );
            rows.push(json!({
                "path": path, "when": when, "server": server, "bytes": sum.bytes, "downloads": sum.times.len(),
                "p50_ms": at(50) * 1000.0, "p99_ms": at(99) * 1000.0, "mib_per_second": rate, "cpu_ms": cpu,
                "rate_to_nginx": rate / floor,
            }));
        }
        rows.into()
    }
}
