use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::measure::Sample;
use super::phases::{Phase, Run, Step};

/// The figures of some runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The version of this program.
    pub(super) version: String,
    /// Processors of the machine.
    pub(super) processors: usize,
    /// The arguments of cargo.
    pub(super) cargo: Vec<String>,
    /// What was changed.
    pub(super) edits: Vec<String>,
    pub(super) runs: Vec<Run>,
}

/// Phases whose times are divided by each other.
pub(super) const RATIOS: &[(Phase, Phase)] = &[
    (Phase::Cold, Phase::Hot),
    (Phase::Cold, Phase::Warm),
    (Phase::Incremental, Phase::Hot),
    (Phase::Incremental, Phase::Warm),
    (Phase::Sccache, Phase::Warm),
];
/// The same where no edit is concerned.
pub(super) const COMMON_RATIOS: &[(Phase, Phase)] = &[(Phase::Cold, Phase::Control), (Phase::Cold, Phase::Plain)];

impl Report {
    pub(super) fn new(cargo: &[String], edits: Vec<String>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { version, processors, cargo: cargo.to_vec(), edits, runs: Vec::new() }
    }

    /// Reads what an earlier run wrote.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} holds no figures of twofold bench", file.display()))
    }

    /// What was measured of one phase, of one edit where the phase has one, a sample for each run that counts.
    pub(super) fn samples(&self, phase: Phase, edit: Option<usize>) -> Vec<&Sample> {
        self.runs.iter().filter_map(|run| run.sample(phase, edit)).collect()
    }

    /// A ratio of two phases, for each run that has one of them; what was measured once stands for all runs.
    pub(super) fn ratios(&self, (over, under): (Phase, Phase), edit: Option<usize>) -> Vec<f64> {
        let sample = |run: &Run, phase| match run.measured(phase, edit) {
            true => run.sample(phase, edit).map(|sample| sample.wall),
            false => self.runs.iter().find_map(|run| run.sample(phase, edit)).map(|sample| sample.wall),
        };
        let has_one = |run: &&Run| run.measured(over, edit) || run.measured(under, edit);
        self.runs.iter().filter(has_one).filter_map(|run| Some(sample(run, over)? / sample(run, under)?)).collect()
    }

    /// The iteration of "edit, run tests" from which the cache has paid back what recording cost, against cargo that stays
    /// in one folder; `None` where it never does.
    pub(super) fn break_even(&self, edit: usize) -> Option<u32> {
        let wall = |phase| {
            let samples = self.samples(phase, Some(edit));
            (!samples.is_empty()).then(|| spread(samples.iter().map(|sample| sample.wall)).1)
        };
        let extra = wall(Phase::Cold)? - wall(Phase::Plain)?;
        let saved = wall(Phase::Incremental)? - wall(Phase::Hot)?;
        (saved > 0.0).then(|| 1 + (extra.max(0.0) / saved).ceil() as u32)
    }

    /// Steps whose times do not count, with the reason.
    pub(super) fn refused(&self) -> Vec<String> {
        let steps = self.runs.iter().enumerate().flat_map(|(n, run)| run.steps.iter().map(move |step| (n, step)));
        let told = steps.filter_map(|(n, step)| Some((n, step, step.refused.as_ref()?)));
        told.map(|(n, step, why)| format!("not counted: run {}, {}{}: {why}", n + 1, step.phase.name(), self.of(step)))
            .collect()
    }

    fn of(&self, step: &Step) -> String {
        step.edit.and_then(|n| self.edits.get(n)).map(|edit| format!(" ({edit})")).unwrap_or_default()
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        // Writing to a string does not fail.
        let _: std::fmt::Result = self.write(&mut table);
        table
    }

    fn write(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "cargo {}", self.cargo.join(" "))?;
        writeln!(out, "{} runs, {} processors, twofold {}\n", self.runs.len(), self.processors, self.version)?;
        writeln!(
            out,
            "  step         runs   wall s (min-max)            CPU s  compiled  from cache  tested  replayed  verdicts"
        )?;
        for phase in [Phase::Plain, Phase::Unchanged, Phase::Cold, Phase::Control] {
            self.line(phase, None, out)?;
        }
        self.write_ratios(COMMON_RATIOS, None, out)?;
        for (n, edit) in self.edits.iter().enumerate() {
            writeln!(out, "\n{edit}")?;
            for phase in [Phase::Incremental, Phase::Sccache, Phase::Warm, Phase::Hot] {
                self.line(phase, Some(n), out)?;
            }
            self.write_ratios(RATIOS, Some(n), out)?;
            if let Some(iteration) = self.break_even(n) {
                writeln!(out, "  pays back from iteration {iteration} on")?;
            }
        }
        let hot = (0..self.edits.len()).flat_map(|n| self.samples(Phase::Hot, Some(n)));
        if let Some(reasons) = hot.last().map(|sample| &sample.not_cached).filter(|reasons| !reasons.is_empty()) {
            writeln!(out, "\nnever cached, in the hot phase:")?;
            for (reason, n) in reasons {
                writeln!(out, "  {n:>4}  {reason}")?;
            }
        }
        Ok(())
    }

    fn line(&self, phase: Phase, edit: Option<usize>, out: &mut String) -> std::fmt::Result {
        let samples = self.samples(phase, edit);
        let Some(last) = samples.last() else {
            return Ok(());
        };
        let (least, wall, most) = spread(samples.iter().map(|sample| sample.wall));
        let cpu = spread(samples.iter().map(|sample| sample.cpu)).1;
        let counts = if matches!(phase, Phase::Cold | Phase::Control | Phase::Warm | Phase::Hot) {
            let Sample { compiled, compile_hits, tested, test_hits, .. } = last;
            format!("{compiled:>8}  {compile_hits:>10}  {tested:>6}  {test_hits:>8}")
        } else {
            format!("{:>8}  {:>10}  {:>6}  {:>8}", "", "", "", "")
        };
        let range = format!("({least:.2}-{most:.2})");
        let (name, verdicts) = (phase.name(), last.verdicts);
        writeln!(out, "  {name:<12} {:>4} {wall:>8.2} {range:<18} {cpu:>8.2}  {counts}  {verdicts:>8}", samples.len())
    }

    fn write_ratios(&self, ratios: &[(Phase, Phase)], edit: Option<usize>, out: &mut String) -> std::fmt::Result {
        for (over, under) in ratios {
            let measured = self.ratios((*over, *under), edit);
            if !measured.is_empty() {
                let (least, median, most) = spread(measured.into_iter());
                writeln!(out, "  {}/{} {median:.2} ({least:.2}-{most:.2})", over.name(), under.name())?;
            }
        }
        Ok(())
    }
}

impl Run {
    /// The sample of a step, where its times count.
    fn sample(&self, phase: Phase, edit: Option<usize>) -> Option<&Sample> {
        self.step(phase, edit).filter(|step| step.refused.is_none()).map(|step| &step.sample)
    }

    /// Whether a step was measured, also where its times do not count.
    fn measured(&self, phase: Phase, edit: Option<usize>) -> bool {
        self.step(phase, edit).is_some()
    }

    fn step(&self, phase: Phase, edit: Option<usize>) -> Option<&Step> {
        let edit = edit.filter(|_| phase.is_of_an_edit());
        self.steps.iter().find(|step| step.phase == phase && step.edit == edit)
    }
}

/// The least, the median and the greatest; zeros of nothing.
pub(super) fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    match (sorted.first(), sorted.last()) {
        (Some(least), Some(most)) => (*least, median(&sorted), *most),
        _ => (0.0, 0.0, 0.0),
    }
}

/// The median of values in order.
pub(super) fn median(sorted: &[f64]) -> f64 {
    let at = |n: usize| sorted.get(n).copied().unwrap_or_default();
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { at(middle) } else { (at(middle.wrapping_sub(1)) + at(middle)) / 2.0 }
}
