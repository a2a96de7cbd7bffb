use std::fmt::Write;
use std::path::Path;

use anyhow::Context;
use serde::{Deserialize, Serialize};

use super::measure::Sample;
use super::phases::{Run, Site};

/// The figures of some runs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Report {
    /// The version of this program.
    pub(super) version: String,
    /// Processors of the machine.
    pub(super) processors: usize,
    pub(super) runs: Vec<Run>,
}

/// A ratio of two phases, and its name.
pub(super) type Ratio = (&'static str, fn(&Site) -> f64);

/// The ratios that are told and compared: how much faster each phase is than the cold one.
pub(super) const RATIOS: &[Ratio] = &[
    ("cold/hot", |site| site.cold.wall / site.hot.wall),
    ("cold/warm", |site| site.cold.wall / site.warm.wall),
    ("plain/cold", |site| site.plain.wall / site.cold.wall),
];

impl Report {
    pub(super) fn of(runs: Vec<Run>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), processors, runs }
    }

    /// Reads what an earlier run wrote.
    pub(super) fn read(file: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("{} holds no figures of twofold bench", file.display()))
    }

    /// The names of the edits, in order.
    pub(super) fn edits(&self) -> Vec<&str> {
        self.runs.first().iter().flat_map(|run| &run.sites).map(|site| site.edit.as_str()).collect()
    }

    /// All that was measured of one edit, a site for each run.
    pub(super) fn sites<'a>(&'a self, edit: &'a str) -> impl Iterator<Item = &'a Site> {
        self.runs.iter().flat_map(|run| &run.sites).filter(move |site| site.edit == edit)
    }

    /// A table for people.
    pub(super) fn table(&self) -> String {
        let mut table = String::new();
        for edit in self.edits() {
            // Writing to a string does not fail.
            let _: std::fmt::Result = self.table_of(edit, &mut table);
        }
        table
    }

    fn table_of(&self, edit: &str, out: &mut String) -> std::fmt::Result {
        type Phase = (&'static str, fn(&Site) -> &Sample);
        let phases: &[Phase] = &[
            ("plain", |site| &site.plain),
            ("cold", |site| &site.cold),
            ("warm", |site| &site.warm),
            ("hot", |site| &site.hot),
        ];
        writeln!(out, "{edit}")?;
        writeln!(out, "  phase   wall s (min-max)         CPU s  compiled  from cache  tests run  replayed")?;
        for (name, phase) in phases {
            let samples: Vec<&Sample> = self.sites(edit).map(phase).collect();
            let wall = spread(samples.iter().map(|sample| sample.wall));
            let cpu = spread(samples.iter().map(|sample| sample.cpu));
            let last = samples.last().copied().cloned().unwrap_or_default();
            let counts = if *name == "plain" {
                format!("{:>8}  {:>10}  {:>9}  {:>8}", "all", "-", "all", "-")
            } else {
                format!("{:>8}  {:>10}  {:>9}  {:>8}", last.compiled, last.compile_hits, last.tested, last.test_hits)
            };
            writeln!(out, "  {name:<6} {:>7.2} ({:.2}-{:.2}) {:>16.2}  {counts}", wall.1, wall.0, wall.2, cpu.1)?;
        }
        for (name, ratio) in RATIOS {
            let (least, median, most) = spread(self.sites(edit).map(ratio));
            writeln!(out, "  {name:<10} {median:.2} ({least:.2}-{most:.2})")?;
        }
        writeln!(out)
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
