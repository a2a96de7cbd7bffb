use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::edit::{Edit, Words};
use super::lab::Lab;
use super::measure::{Sample, Timed};
use super::plan::Plan;
use super::verdicts::Verdicts;

/// What a request says where the task goes.
const TASK: &str = "TASK";
/// The repository of the tasks.
const REPOSITORY: &str = "bench";

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(super) enum Phase {
    Plain,
    Unchanged,
    Incremental,
    Sccache,
    Cold,
    Control,
    Warm,
    Hot,
}

impl Phase {
    /// Whether it is measured for each edit.
    pub(super) fn is_of_an_edit(self) -> bool {
        matches!(self, Self::Incremental | Self::Sccache | Self::Warm | Self::Hot)
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Plain => "plain",
            Self::Unchanged => "unchanged",
            Self::Incremental => "incremental",
            Self::Sccache => "sccache",
            Self::Cold => "cold",
            Self::Control => "control",
            Self::Warm => "warm",
            Self::Hot => "hot",
        }
    }
}

/// All steps of one run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) steps: Vec<Step>,
}

impl Run {
    /// The steps whose times count.
    fn counted(&self) -> impl Iterator<Item = (Phase, Option<usize>)> {
        self.steps.iter().filter(|step| step.refused.is_none()).map(|step| (step.phase, step.edit))
    }
}

/// One phase, of one edit where it is one's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Step {
    pub(super) phase: Phase,
    /// Its place in the list of edits.
    pub(super) edit: Option<usize>,
    pub(super) sample: Sample,
    /// Why its times do not count, where they do not.
    pub(super) refused: Option<String>,
}

/// What is measured, and how.
pub(super) struct Bench<'a> {
    pub(super) workspace: &'a Path,
    pub(super) edits: &'a [Edit],
    pub(super) requests: &'a Path,
    pub(super) cargo: &'a [String],
    pub(super) scratch: &'a Path,
}

impl Bench<'_> {
    /// Measures as often as is said, each run with a cache of its own unless the cold phase is measured once. By turns
    /// cargo alone and the cache come first, and the warm steps and the hot. `done` sees what is known after each run.
    pub(super) fn run(
        &self,
        plan: &Plan,
        runs: usize,
        bar: &ProgressBar,
        mut done: impl FnMut(Run) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let mut lab = None;
        let (mut first, mut counted) = (None, BTreeSet::new());
        for n in 0..runs {
            let plan = if n == 0 { plan.clone() } else { plan.again(&counted) };
            bar.set_length(bar.position() + (runs - n) as u64 * plan.len());
            if plan.any(&[Phase::Cold]) || !plan.shares_the_cache() {
                lab = None; // Two at once would need twice the room.
            }
            let lab = match &mut lab {
                Some(lab) => lab,
                none => none.insert(Lab::open(self.scratch)?),
            };
            let mut running = Running { bench: self, lab, plan: &plan, bar, n, first, run: Run::default() };
            running.all()?;
            first = running.first;
            counted.extend(running.run.counted());
            done(running.run)?;
        }
        Ok(())
    }
}

struct Running<'a> {
    bench: &'a Bench<'a>,
    lab: &'a mut Lab,
    plan: &'a Plan,
    bar: &'a ProgressBar,
    /// The number of this run, from zero.
    n: usize,
    /// What the first step's tests said.
    first: Option<Verdicts>,
    run: Run,
}

impl Running<'_> {
    fn all(&mut self) -> anyhow::Result<()> {
        if self.turned() {
            self.cached()?;
            self.alone()?;
        } else {
            self.alone()?;
            self.cached()?;
        }
        self.sccache()
    }

    fn turned(&self) -> bool {
        self.n % 2 == 1
    }

    /// How a model writes an edit in this run when it is asked again.
    fn regenerated(&self) -> Words {
        Words::Regenerated(self.n)
    }

    fn alone(&mut self) -> anyhow::Result<()> {
        if !self.plan.has(Phase::Plain, None) {
            return Ok(());
        }
        let root = self.checkout("plain", |_| Some(Words::Canonical))?;
        self.step(Phase::Plain, None, |running| running.lab.plain(&root, running.bench.cargo))?;
        self.step(Phase::Unchanged, None, |running| running.lab.plain(&root, running.bench.cargo))?;
        for (n, edit) in self.bench.edits.iter().enumerate() {
            if !self.plan.has(Phase::Incremental, Some(n)) {
                continue;
            }
            edit.apply(self.bench.workspace, &root, self.regenerated())?;
            self.step(Phase::Incremental, Some(n), |running| running.lab.plain(&root, running.bench.cargo))?;
        }
        discard(&root)
    }

    fn cached(&mut self) -> anyhow::Result<()> {
        for phase in [Phase::Cold, Phase::Control] {
            if self.plan.has(phase, None) {
                let root = self.checkout(phase.name(), |_| Some(Words::Canonical))?;
                self.step(phase, None, |running| running.lab.cached(&root, running.bench.cargo))?;
                discard(&root)?;
            }
        }
        for n in 0..self.bench.edits.len() {
            let turns = if self.turned() { [Self::hot, Self::warm] } else { [Self::warm, Self::hot] };
            for phase in turns {
                phase(self, n)?;
            }
        }
        Ok(())
    }

    fn warm(&mut self, n: usize) -> anyhow::Result<()> {
        if !self.plan.has(Phase::Warm, Some(n)) {
            return Ok(());
        }
        let root = self.regenerated_checkout("warm", n)?;
        self.step(Phase::Warm, Some(n), |running| running.lab.cached(&root, running.bench.cargo))?;
        discard(&root)
    }

    /// The harness asks before it calls the model, writes what it gets, and builds.
    fn hot(&mut self, n: usize) -> anyhow::Result<()> {
        if !self.plan.has(Phase::Hot, Some(n)) {
            return Ok(());
        }
        self.record(n)?;
        let root = self.checkout(&format!("hot-{n}"), |other| (other != n).then_some(Words::Canonical))?;
        self.step(Phase::Hot, Some(n), |running| {
            let asked = running.look_up(n, &root)?;
            let mut built = running.lab.cached(&root, running.bench.cargo)?;
            built.sample.wall += asked.sample.wall;
            built.sample.cpu += asked.sample.cpu;
            Ok(built)
        })?;
        discard(&root)
    }

    fn sccache(&mut self) -> anyhow::Result<()> {
        if !self.plan.any(&[Phase::Sccache]) || !self.lab.has_sccache() {
            return Ok(());
        }
        if !self.lab.sccache_is_filled() {
            let root = self.checkout("sccache", |_| Some(Words::Canonical))?;
            self.bar.set_message("sccache, to fill it");
            self.lab.fill_sccache(&root, self.bench.cargo)?;
            discard(&root)?;
        }
        for n in 0..self.bench.edits.len() {
            if self.plan.has(Phase::Sccache, Some(n)) {
                let root = self.regenerated_checkout("sccache", n)?;
                self.step(Phase::Sccache, Some(n), |running| running.lab.sccache(&root, running.bench.cargo))?;
                discard(&root)?;
            }
        }
        Ok(())
    }

    /// A checkout in which a model wrote one edit again, in other words.
    fn regenerated_checkout(&self, name: &str, n: usize) -> anyhow::Result<PathBuf> {
        let words = |other| Some(if other == n { self.regenerated() } else { Words::Canonical });
        self.checkout(&format!("{name}-{n}"), words)
    }

    /// Where a checkout of this run goes: what an earlier run left for its own folder is of no use there.
    fn place(&self, name: &str) -> String {
        format!("run-{}/{name}", self.n + 1)
    }

    /// A checkout in which each edit has the words that `words` says, or none.
    fn checkout(&self, name: &str, words: impl Fn(usize) -> Option<Words>) -> anyhow::Result<PathBuf> {
        let root = self.lab.checkout(self.bench.workspace, &self.place(name))?;
        for (n, edit) in self.bench.edits.iter().enumerate() {
            if let Some(words) = words(n) {
                edit.apply(self.bench.workspace, &root, words)?;
            }
        }
        Ok(root)
    }

    /// Measures one step. Its times count only where its tests said what those of the first step said.
    fn step(
        &mut self,
        phase: Phase,
        edit: Option<usize>,
        step: impl FnOnce(&Self) -> anyhow::Result<Timed>,
    ) -> anyhow::Result<()> {
        if !self.plan.has(phase, edit) {
            return Ok(());
        }
        let name = edit.and_then(|n| self.bench.edits.get(n)).map_or("", |edit| edit.name.as_str());
        self.bar.set_message(format!("{} {name}", phase.name()));
        // What the step before left to be written is no work of this one.
        Command::new("sync").status().context("cannot run sync")?;
        let mut timed = step(self).with_context(|| format!("{} {name}", phase.name()))?;
        let verdicts = timed.verdicts();
        timed.sample.verdicts = verdicts.len() as u64;
        if verdicts.len() == 0 {
            bail!("{}: no test ran\n{}", phase.name(), timed.failed.unwrap_or_default());
        }
        let refused = match (&timed.failed, &self.first) {
            (Some(why), _) => Some(format!("failed: {}", last_lines(why))),
            (None, Some(first)) => first.difference(&verdicts).map(|what| format!("tested something else: {what}")),
            (None, None) => {
                self.first = Some(verdicts);
                None
            }
        };
        self.run.steps.push(Step { phase, edit, sample: timed.sample, refused });
        self.bar.inc(1);
        Ok(())
    }

    /// Records what the model did the first time.
    fn record(&self, n: usize) -> anyhow::Result<()> {
        let edit = self.edit(n)?;
        let before = self.checkout(&format!("before-{n}"), |other| (other != n).then_some(Words::Canonical))?;
        let after = self.checkout(&format!("after-{n}"), |_| Some(Words::Canonical))?;
        let request = self.request(n, "request.json")?;
        let response = self.bench.requests.join("response.json");
        let arguments = [
            &["--json", "--api", "anthropic.messages", "--repo", REPOSITORY][..],
            &["--before", text(&before)?, "--after", text(&after)?, "--read", edit.file()],
            &["--completeness", "traced", "--response", text(&response)?, text(&request)?],
        ];
        let recorded = self.lab.prompt("record", &arguments.concat())?;
        let recorded: serde_json::Value = serde_json::from_str(&recorded.output).context("what was recorded")?;
        let key = recorded["key"].as_str().context("the key of what was recorded")?;
        let passed = self.first.as_ref().map_or(0, Verdicts::len).to_string();
        self.lab.prompt("report", &["--exit-code", "0", "--tests-passed", &passed, key])?;
        Ok(())
    }

    fn look_up(&self, n: usize, root: &Path) -> anyhow::Result<Timed> {
        let edit = self.edit(n)?;
        let request = self.request(n, "request-again.json")?;
        let arguments = ["--api", "anthropic.messages", "--task", "--repo", REPOSITORY, "--apply"];
        let asked = self.lab.prompt("lookup", &[&arguments[..], &[text(root)?, text(&request)?]].concat())?;
        // Nothing may be taken on trust: what is built is what was written the first time.
        let canonical = self.lab.folder().join(self.place(&format!("after-{n}"))).join("workspace");
        if std::fs::read(root.join(edit.file()))? != std::fs::read(canonical.join(edit.file()))? {
            bail!("the prompt layer gave back other bytes than were recorded");
        }
        Ok(asked)
    }

    fn edit(&self, n: usize) -> anyhow::Result<&Edit> {
        self.bench.edits.get(n).context("no such edit")
    }

    /// The request for an edit.
    fn request(&self, n: usize, name: &str) -> anyhow::Result<PathBuf> {
        let edit = self.edit(n)?;
        let file = self.bench.requests.join(name);
        let request = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let task = serde_json::to_string(&format!("Change {}: {}.", edit.file(), edit.name))?;
        let path = self.lab.folder().join(name);
        std::fs::write(&path, request.replace(&format!("\"{TASK}\""), &task))?;
        Ok(path)
    }
}

fn discard(root: &Path) -> anyhow::Result<()> {
    std::fs::remove_dir_all(root).with_context(|| format!("cannot delete {}", root.display()))
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
