//! The servers that are measured, as child processes.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde::Serialize;
use tempfile::TempDir;
use tonic::transport::{Channel, Endpoint};

/// Calls that share one connection.
const CALLS_PER_CONNECTION: usize = 16;

/// Which server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A bare tonic server over hash maps.
    Floor,
    /// `twofold serve` as it is by default: an acknowledged write survives a power cut.
    Twofold,
    /// `twofold serve --durability process`: an acknowledged write survives the end of the process.
    TwofoldProcess,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Floor => "floor",
            Self::Twofold => "twofold",
            Self::TwofoldProcess => "twofold process",
        }
    }
}

/// A running server.
pub struct Target {
    pub kind: Kind,
    child: Child,
    address: String,
    _data: TempDir,
}

impl Target {
    /// Starts the server on a free port and a new folder below `dir`.
    pub fn start(kind: Kind, server: &Path, dir: &Path) -> anyhow::Result<Self> {
        let data = TempDir::new_in(dir).with_context(|| format!("no folder in {}", dir.display()))?;
        let log = File::create(data.path().join("log"))?;
        let mut command = match kind {
            Kind::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("floor");
                command
            }
            Kind::Twofold | Kind::TwofoldProcess => {
                let mut command = Command::new(server);
                command.args(["serve", "--listen", "127.0.0.1:0", "--max-size", "64GiB", "--data"]);
                command.arg(data.path().join("data"));
                command
            }
        };
        if kind == Kind::TwofoldProcess {
            command.args(["--durability", "process"]);
        }
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log).spawn().with_context(|| {
                format!("cannot start {}; build it: cargo build --release -p twofold", server.display())
            })?;
        let stdout = child.stdout.take().context("piped above")?;
        let first = BufReader::new(stdout).lines().next().transpose()?;
        let Some(address) = first.as_deref().and_then(|line| line.strip_prefix("listening on ")) else {
            bail!("{} did not start: {}", kind.name(), std::fs::read_to_string(data.path().join("log"))?);
        };
        Ok(Self { kind, child, address: address.to_owned(), _data: data })
    }

    /// The connections that so many calls at once use.
    pub async fn connect(&self, concurrency: usize) -> anyhow::Result<Vec<Channel>> {
        let mut channels = Vec::new();
        for _ in 0..concurrency.div_ceil(CALLS_PER_CONNECTION) {
            let endpoint = Endpoint::from_shared(format!("http://{}", self.address))?
                .tcp_nodelay(true)
                .initial_stream_window_size(4 * 1024 * 1024)
                .initial_connection_window_size(16 * 1024 * 1024);
            channels.push(endpoint.connect().await?);
        }
        Ok(channels)
    }

    /// What the process has used so far.
    pub fn usage(&self) -> anyhow::Result<Usage> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The fields after the name, which stands in parentheses: user time is the 12th of them, system time the 13th.
        let (_, fields) = stat.rsplit_once(") ").context("a stat line")?;
        let ticks: Vec<u64> = fields.split(' ').skip(11).take(2).filter_map(|field| field.parse().ok()).collect();
        let cpu_micros = ticks.iter().sum::<u64>() * 1_000_000 / rustix::param::clock_ticks_per_second();
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib: u64 = resident.context("resident memory")?.trim().trim_end_matches(" kB").parse()?;
        Ok(Usage { cpu_micros, resident_bytes: kib * 1024 })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// What a process has used.
#[derive(Clone, Copy)]
pub struct Usage {
    /// User and system time of all threads since the start.
    pub cpu_micros: u64,
    /// Memory now.
    pub resident_bytes: u64,
}
