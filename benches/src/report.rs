//! The figures, as a table and as JSON.

use std::path::Path;
use std::process::Command;

use anyhow::Context;
use serde::Serialize;
use serde_json::{Value, json};

use crate::Options;
use crate::load::Load;
use crate::target::Kind;
use crate::work::Work;

const MIB: f64 = 1024.0 * 1024.0;

/// What one server did in one work at one concurrency, over all rounds.
pub struct Figures {
    pub concurrency: usize,
    work: Work,
    kind: Kind,
    load: Load,
    cpu_micros: u64,
    resident_bytes: u64,
}

/// The figures as they are printed and kept.
#[derive(Serialize, Clone)]
struct Row {
    work: String,
    concurrency: usize,
    server: Kind,
    calls: u64,
    seconds: f64,
    calls_per_second: f64,
    mib_per_second: f64,
    p50_micros: u32,
    p99_micros: u32,
    cpu_micros_per_call: f64,
    resident_bytes: u64,
    /// Of the floor's calls a second.
    rate_to_floor: f64,
    /// Of the floor's CPU time for a call.
    cpu_to_floor: f64,
}

impl Figures {
    pub fn new(work: Work, concurrency: usize, kind: Kind) -> Self {
        Self { concurrency, work, kind, load: Load::default(), cpu_micros: 0, resident_bytes: 0 }
    }

    /// Adds a round.
    pub fn add(&mut self, load: Load, cpu_micros: u64, resident_bytes: u64) {
        self.load.add(load);
        self.cpu_micros += cpu_micros;
        self.resident_bytes = self.resident_bytes.max(resident_bytes);
    }

    fn row(mut self) -> Row {
        self.load.latencies_micros.sort_unstable();
        let calls = self.load.calls.max(1) as f64;
        let seconds = self.load.elapsed.as_secs_f64();
        Row {
            work: self.work.name(),
            concurrency: self.concurrency,
            server: self.kind,
            calls: self.load.calls,
            seconds,
            calls_per_second: self.load.calls as f64 / seconds,
            mib_per_second: self.load.payload_bytes as f64 / MIB / seconds,
            p50_micros: percentile(&self.load.latencies_micros, 50),
            p99_micros: percentile(&self.load.latencies_micros, 99),
            cpu_micros_per_call: self.cpu_micros as f64 / calls,
            resident_bytes: self.resident_bytes,
            rate_to_floor: 1.0,
            cpu_to_floor: 1.0,
        }
    }
}

/// The value that this share of the sorted values does not exceed.
fn percentile(sorted: &[u32], percent: usize) -> u32 {
    let at = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(at).copied().unwrap_or_default()
}

/// All rows so far, and what they were measured on.
pub struct Report {
    about: Value,
    rows: Vec<Row>,
}

impl Report {
    /// Prints what is measured on what, and the head of the table.
    pub fn start(server: &Path, options: &Options) -> Self {
        let about = json!({
            "machine": machine(),
            "commit": output("git", &["rev-parse", "--short=12", "HEAD"]),
            "server": output(&server.display().to_string(), &["--version"]),
            "unix_seconds": std::time::SystemTime::now()
                .duration_since(std::time::UNIX_EPOCH)
                .map_or(0, |since| since.as_secs()),
            "seconds_per_round": options.seconds,
            "rounds": options.rounds,
        });
        println!("{about}");
        println!(
            "{:<30} {:>4}  {:<15} {:>9} {:>9} {:>9} {:>9} {:>10} {:>8} {:>7} {:>7}",
            "work", "at", "server", "calls/s", "MiB/s", "p50 µs", "p99 µs", "CPU µs", "RSS MiB", "x rate", "x CPU"
        );
        Self { about, rows: Vec::new() }
    }

    /// Prints the servers of one work and concurrency; the floor comes first.
    pub fn add(&mut self, figures: Vec<Figures>) {
        let mut rows: Vec<Row> = figures.into_iter().map(Figures::row).collect();
        if let Some(floor) = rows.iter().find(|row| row.server == Kind::Floor).cloned() {
            for row in &mut rows {
                row.rate_to_floor = row.calls_per_second / floor.calls_per_second;
                row.cpu_to_floor = row.cpu_micros_per_call / floor.cpu_micros_per_call.max(f64::MIN_POSITIVE);
            }
        }
        for row in rows {
            println!(
                "{:<30} {:>4}  {:<15} {:>9.0} {:>9.1} {:>9} {:>9} {:>10.1} {:>8.0} {:>7.2} {:>7.2}",
                row.work,
                row.concurrency,
                row.server.name(),
                row.calls_per_second,
                row.mib_per_second,
                row.p50_micros,
                row.p99_micros,
                row.cpu_micros_per_call,
                row.resident_bytes as f64 / MIB,
                row.rate_to_floor,
                row.cpu_to_floor,
            );
            self.rows.push(row);
        }
    }

    /// Writes the file, if one is asked for.
    pub fn finish(self, file: Option<&Path>) -> anyhow::Result<()> {
        let Some(file) = file else { return Ok(()) };
        let all = json!({ "about": self.about, "rows": self.rows });
        std::fs::write(file, format!("{all:#}\n")).with_context(|| format!("cannot write {}", file.display()))
    }
}

/// What a command prints, one line of it; empty when it cannot run.
fn output(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).output().map(|output| output.stdout).unwrap_or_default();
    String::from_utf8_lossy(&output).lines().next().unwrap_or_default().to_owned()
}

fn machine() -> Value {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
    };
    json!({
        "cpu": field(&read("/proc/cpuinfo"), "model name"),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "memory": field(&read("/proc/meminfo"), "MemTotal"),
        "linux": read("/proc/sys/kernel/osrelease").trim().split('-').next(),
    })
}
