use std::fmt::Error;
use std::time::{Duration, SystemTime};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::Sources;
use super::families::{Families, to_f64};

/// This process under the names that Prometheus gives to any.
#[derive(Debug)]
pub(super) struct Processes(pub(super) Sources);

/// What the system tells about this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) resident_bytes: u64,
    pub(crate) cpu: Duration,
    pub(crate) threads: u64,
}

impl Process {
    /// Asks the system; `None` where there is no `/proc`.
    pub(crate) fn now() -> Option<Self> {
        let ticks = rustix::param::clock_ticks_per_second().max(1);
        let page = u64::try_from(rustix::param::page_size()).ok()?;
        Self::parse(&std::fs::read_to_string("/proc/self/stat").ok()?, ticks, page)
    }

    /// Reads a line of `/proc/PID/stat`. Spec: proc_pid_stat(5).
    fn parse(stat: &str, ticks_per_second: u64, page_bytes: u64) -> Option<Self> {
        // The name in brackets may hold anything; the fields after it are numbers, the state first.
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<&str> = rest.split_ascii_whitespace().collect();
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        let ticks = field(14)?.checked_add(field(15)?)?;
        Some(Self {
            resident_bytes: field(24)?.saturating_mul(page_bytes),
            cpu: Duration::from_secs_f64(ticks as f64 / ticks_per_second as f64),
            threads: field(20)?,
        })
    }
}

impl Collector for Processes {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut families = Families(encoder);
        let version = vec![("version", env!("CARGO_PKG_VERSION"))];
        families.gauges("twofold_build_info", "The version that runs", [(version, 1.0)])?;
        let began = SystemTime::now().checked_sub(self.0.since.elapsed());
        let began = began.and_then(|time| time.duration_since(SystemTime::UNIX_EPOCH).ok());
        let began = began.map(|time| time.as_secs_f64());
        families.gauge("process_start_time_seconds", "When the process began, since 1970", began)?;
        let process = Process::now();
        let resident = process.map(|process| to_f64(process.resident_bytes));
        families.gauge("process_resident_memory_bytes", "Resident memory", resident)?;
        families.gauge("process_threads", "Threads", process.map(|process| to_f64(process.threads)))?;
        let files = std::fs::read_dir("/proc/self/fd").ok().map(|files| to_f64(files.count() as u64));
        families.gauge("process_open_fds", "Open file descriptors", files)?;
        let most = rustix::process::getrlimit(rustix::process::Resource::Nofile).current.map(to_f64);
        families.gauge("process_max_fds", "The limit of open file descriptors", most)?;
        let cpu = process.map(|process| (Vec::new(), process.cpu.as_secs_f64()));
        families.counters("process_cpu_seconds", "CPU time", cpu)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_spaces_and_brackets_does_not_move_the_fields() {
        let stat =
            "7 (a ) b) S 1 7 7 0 -1 4194560 900 0 3 0 250 50 0 0 20 0 9 0 5555 123456 300 18446744073709551615 1";
        let process = Process::parse(stat, 100, 4096).expect("a line");
        assert_eq!(process, Process { resident_bytes: 300 * 4096, cpu: Duration::from_secs(3), threads: 9 });
        for broken in ["", "7 (a", "7 (a) S 1 2 3", "7 (a) S x x x x x x x x x x x x x x x x x x x x x x"] {
            assert_eq!(Process::parse(broken, 100, 4096), None, "{broken}");
        }
    }

    #[test]
    fn this_process_uses_memory() {
        assert!(Process::now().expect("Linux").resident_bytes > 100_000);
    }
}
