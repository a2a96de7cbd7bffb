use std::collections::BTreeMap;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Clock ticks in a second, as `/proc` counts: fixed for programs on Linux.
const TICKS: f64 = 100.0;

/// What a phase took, and what it did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sample {
    /// Seconds by the clock.
    pub(super) wall: f64,
    /// Seconds of processors, of all processes that the phase waited for.
    pub(super) cpu: f64,
    /// Compilations that ran.
    pub(super) compiled: u64,
    /// Compilations that were answered from the cache.
    pub(super) compile_hits: u64,
    /// Test executables and documentation tests that ran.
    pub(super) tested: u64,
    /// Those that were replayed.
    pub(super) test_hits: u64,
}

/// Runs a command to its end; its output, and the times.
pub(super) fn timed(command: &mut Command) -> anyhow::Result<(String, Sample)> {
    let (cpu, start) = (cpu_of_children()?, Instant::now());
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {command:?}"))?;
    let sample = Sample { wall: start.elapsed().as_secs_f64(), cpu: cpu_of_children()? - cpu, ..Sample::default() };
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    if !output.status.success() {
        bail!("{command:?} failed:\n{text}");
    }
    Ok((text, sample))
}

/// User and system time of the processes that this one waited for, in seconds.
fn cpu_of_children() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").context("the times of processes are read from /proc")?;
    // The name, in brackets, may hold blanks. The 14th and 15th fields after it are cutime and cstime.
    let fields = stat.rsplit_once(')').map(|(_, fields)| fields).unwrap_or_default();
    let ticks = |n: usize| fields.split_whitespace().nth(n).and_then(|field| field.parse::<f64>().ok());
    let both = ticks(13).zip(ticks(14)).context("/proc/self/stat has another form than expected")?;
    Ok((both.0 + both.1) / TICKS)
}

/// Each test's verdict, as the test harnesses print it.
pub(super) fn verdicts(output: &str) -> BTreeMap<String, String> {
    let lines = output.lines().filter_map(|line| line.strip_prefix("test "));
    let verdicts = lines.filter_map(|line| line.rsplit_once(" ... "));
    verdicts.map(|(name, verdict)| (name.to_owned(), verdict.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_output_of_a_command_are_taken() {
        let (output, sample) = timed(Command::new("sh").args(["-c", "echo test a ... ok"])).expect("a shell");
        assert_eq!(verdicts(&output), [("a".to_owned(), "ok".to_owned())].into());
        assert!(sample.wall > 0.0 && sample.cpu >= 0.0);
        assert!(timed(&mut Command::new("false")).is_err());
    }
}
