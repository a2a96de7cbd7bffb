use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::verdicts::Verdicts;

/// Clock ticks in a second, as `/proc` counts: fixed for programs on Linux.
const TICKS: f64 = 100.0;

/// What a step took, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Seconds by the clock.
    pub(super) wall: f64,
    /// Seconds of processors, of all processes that the step waited for and of the cache.
    pub(super) cpu: f64,
    /// Compilations that ran.
    pub(super) compiled: u64,
    /// Compilations that were answered from the cache.
    pub(super) compile_hits: u64,
    /// Test executables and documentation tests that ran.
    pub(super) tested: u64,
    /// Those that were replayed.
    pub(super) test_hits: u64,
    /// Calls that are never cached, with the reason.
    pub(super) not_cached: std::collections::BTreeMap<String, u64>,
    /// Files of an earlier target folder that were put back before cargo began.
    #[serde(default)]
    pub(super) snapshot_files: u64,
    /// Single tests with a verdict.
    pub(super) verdicts: u64,
}

/// What a command printed, and how long it took.
pub(super) struct Timed {
    pub(super) output: String,
    pub(super) sample: Sample,
    /// What it said when it failed.
    pub(super) failed: Option<String>,
}

impl Timed {
    /// What each test said.
    pub(super) fn verdicts(&self) -> Verdicts {
        Verdicts::read(&self.output)
    }
}

/// Runs a command to its end; its output, and the times.
pub(super) fn timed(command: &mut Command) -> anyhow::Result<Timed> {
    let (cpu, start) = (cpu_of_children()?, Instant::now());
    let ran = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let sample = Sample { wall: start.elapsed().as_secs_f64(), cpu: cpu_of_children()? - cpu, ..Sample::default() };
    let failed = (!ran.status.success()).then(|| String::from_utf8_lossy(&ran.stderr).into_owned());
    Ok(Timed { output: String::from_utf8_lossy(&ran.stdout).into_owned(), sample, failed })
}

/// User and system time of the processes that this one waited for, in seconds.
fn cpu_of_children() -> anyhow::Result<f64> {
    times_of("self", 13)
}

/// User and system time of a process that still runs, in seconds.
pub(super) fn cpu_of(process: u32) -> anyhow::Result<f64> {
    times_of(&process.to_string(), 11)
}

/// The sum of two neighbouring fields of a process's state, counted from behind its name.
fn times_of(process: &str, first: usize) -> anyhow::Result<f64> {
    let file = format!("/proc/{process}/stat");
    let stat = std::fs::read_to_string(&file).context("the times of processes are read from /proc")?;
    // The name, in brackets, may hold blanks.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks = |n: usize| fields.split_whitespace().nth(n).and_then(|field| field.parse::<f64>().ok());
    let both = ticks(first).zip(ticks(first + 1));
    let (user, system) = both.with_context(|| format!("{file} has another form than expected"))?;
    Ok((user + system) / TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_output_of_a_command_are_taken() {
        let ran = timed(Command::new("sh").args(["-c", "echo running 1 test; echo test a ... ok"])).expect("a shell");
        assert_eq!((ran.verdicts().len(), ran.failed), (1, None));
        assert!(ran.sample.wall > 0.0 && ran.sample.cpu >= 0.0);
        assert!(cpu_of(std::process::id()).expect("our own times") >= 0.0);
        let failed = timed(Command::new("sh").args(["-c", "echo why >&2; exit 3"])).expect("a shell");
        assert_eq!(failed.failed.as_deref(), Some("why\n"));
    }
}
