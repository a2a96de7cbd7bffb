//! How long a narinfo takes, one request after the other on a connection that is kept.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::Client;
use crate::folder::Paths;
use crate::server::{Cache, Nginx, Twofold};

/// Asked before the clock starts, so that both have the file in memory.
const WARM_UP: usize = 20;

#[derive(Default)]
struct Sum {
    times: Vec<Duration>,
    cpu_micros: u64,
}

/// (path, server) → what it took.
#[derive(Default)]
pub struct Figures(BTreeMap<(&'static str, &'static str), Sum>);

impl Figures {
    pub fn round(&mut self, paths: &Paths, nginx: &Nginx, twofold: &Twofold, requests: usize) -> anyhow::Result<()> {
        for path in &paths.0 {
            for (name, cache) in [("nginx", nginx as &dyn Cache), ("twofold", twofold)] {
                let mut client = Client::connect(cache)?;
                for _ in 0..WARM_UP {
                    client.get(&path.narinfo, |_| ())?;
                }
                let cpu = cache.cpu_micros()?;
                let sum = self.0.entry((path.name, name)).or_default();
                for _ in 0..requests {
                    let start = Instant::now();
                    client.get(&path.narinfo, |_| ())?;
                    sum.times.push(start.elapsed());
                }
                sum.cpu_micros += cache.cpu_micros()? - cpu;
            }
        }
        Ok(())
    }

    /// Prints a table; the figures.
    pub fn report(mut self) -> Value {
        println!("{:<31} {:<8} {:>9} {:>9} {:>9}", "narinfo of", "server", "p50 µs", "p99 µs", "CPU µs");
        let mut rows = Vec::new();
        for ((path, server), sum) in &mut self.0 {
            sum.times.sort();
            let at = |percent: usize| {
                let at = (sum.times.len() * percent).div_ceil(100).saturating_sub(1);
                sum.times.get(at).map_or(0.0, |time| time.as_secs_f64() * 1e6)
            };
            let cpu = sum.cpu_micros as f64 / sum.times.len() as f64;
            println!("{path:<31} {server:<8} {:>9.1} {:>9.1} {cpu:>9.1}", at(50), at(99));
            rows.push(json!({
                "path": path, "server": server, "requests": sum.times.len(), "p50_micros": at(50),
                "p99_micros": at(99), "cpu_micros": cpu,
            }));
        }
        rows.into()
    }
}
