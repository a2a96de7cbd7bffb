use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::ProgressBar;
use serde::{Deserialize, Serialize};

use super::edit::{Edit, Words};
use super::lab::Lab;
use super::measure::{Sample, verdicts};

/// What a request says where the task goes.
const TASK: &str = "TASK";
/// The repository of the tasks.
const REPOSITORY: &str = "bench";

/// All phases of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Run {
    pub(super) sites: Vec<Site>,
}

/// The phases of one edit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Site {
    pub(super) edit: String,
    pub(super) plain: Sample,
    pub(super) cold: Sample,
    pub(super) warm: Sample,
    pub(super) hot: Sample,
}

/// The steps of one run, for its progress.
pub(super) fn steps(edits: usize) -> u64 {
    edits as u64 * 4
}

impl Run {
    /// Measures each edit, each with a cache of its own.
    pub(super) fn measure(
        workspace: &Path,
        fixtures: &Path,
        edits: &[Edit],
        bar: &ProgressBar,
    ) -> anyhow::Result<Self> {
        let sites = edits.iter().map(|edit| {
            let site = Bench { lab: Lab::open()?, workspace, fixtures, edit, bar };
            site.measure().with_context(|| format!("edit {:?}", edit.name))
        });
        Ok(Self { sites: sites.collect::<anyhow::Result<_>>()? })
    }
}

struct Bench<'a> {
    lab: Lab,
    workspace: &'a Path,
    fixtures: &'a Path,
    edit: &'a Edit,
    bar: &'a ProgressBar,
}

impl Bench<'_> {
    fn measure(&self) -> anyhow::Result<Site> {
        let (first, plain) = self.phase("plain", |root| {
            self.edit.apply(root, Words::Canonical)?;
            self.lab.plain(root)
        })?;
        let (again, cold) = self.phase("cold", |root| {
            self.edit.apply(root, Words::Canonical)?;
            self.lab.cached(root)
        })?;
        self.same(&first, &again, "cold")?;
        self.record(&first)?;
        let (again, warm) = self.phase("warm", |root| {
            self.edit.apply(root, Words::Regenerated)?;
            self.lab.cached(root)
        })?;
        self.same(&first, &again, "warm")?;
        // The harness asks before it calls the model, writes what it gets, and builds.
        let (again, hot) = self.phase("hot", |root| {
            let (_, asked) = self.look_up(root)?;
            let (output, mut built) = self.lab.cached(root)?;
            built.wall += asked.wall;
            built.cpu += asked.cpu;
            Ok((output, built))
        })?;
        self.same(&first, &again, "hot")?;
        Ok(Site { edit: self.edit.name.clone(), plain, cold, warm, hot })
    }

    fn phase(
        &self,
        name: &'static str,
        phase: impl FnOnce(&Path) -> anyhow::Result<(String, Sample)>,
    ) -> anyhow::Result<(BTreeMap<String, String>, Sample)> {
        self.bar.set_message(format!("{name}: {}", self.edit.name));
        let root = self.lab.checkout(self.workspace, name)?;
        let (output, sample) = phase(&root)?;
        self.bar.inc(1);
        Ok((verdicts(&output), sample))
    }

    /// Refuses times of phases that did not test the same.
    fn same(
        &self,
        first: &BTreeMap<String, String>,
        again: &BTreeMap<String, String>,
        phase: &str,
    ) -> anyhow::Result<()> {
        if first.is_empty() {
            bail!("no test ran");
        }
        if first != again {
            let differs = first.iter().find(|(name, verdict)| again.get(*name) != Some(verdict));
            bail!("the {phase} phase tested something else than cargo alone: {differs:?}");
        }
        Ok(())
    }

    /// Records what the model did the first time, and that it builds and passes.
    fn record(&self, verdicts: &BTreeMap<String, String>) -> anyhow::Result<()> {
        let before = self.lab.checkout(self.workspace, "before")?;
        let after = self.lab.checkout(self.workspace, "after")?;
        self.edit.apply(&after, Words::Canonical)?;
        let request = self.request("request.json")?;
        let response = self.fixtures.join("response.json");
        let arguments = [
            &["--json", "--api", "anthropic.messages", "--repo", REPOSITORY][..],
            &["--before", text(&before)?, "--after", text(&after)?, "--read", self.edit.file()],
            &["--completeness", "traced", "--response", text(&response)?, text(&request)?],
        ];
        let (recorded, _) = self.lab.prompt("record", &arguments.concat())?;
        let recorded: serde_json::Value = serde_json::from_str(&recorded).context("what was recorded")?;
        let key = recorded["key"].as_str().context("the key of what was recorded")?;
        let passed = verdicts.len().to_string();
        self.lab.prompt("report", &["--exit-code", "0", "--tests-passed", &passed, key])?;
        Ok(())
    }

    fn look_up(&self, root: &Path) -> anyhow::Result<(String, Sample)> {
        let request = self.request("request-again.json")?;
        let arguments = ["--api", "anthropic.messages", "--task", "--repo", REPOSITORY, "--apply"];
        let (output, sample) =
            self.lab.prompt("lookup", &[&arguments[..], &[text(root)?, text(&request)?]].concat())?;
        // Nothing may be taken on trust: what is built is what was written the first time.
        let (applied, canonical) = (root.join(self.edit.file()), self.lab.folder().join("after/workspace"));
        if std::fs::read(applied)? != std::fs::read(canonical.join(self.edit.file()))? {
            bail!("the prompt layer gave back other bytes than were recorded");
        }
        Ok((output, sample))
    }

    /// The request for this edit.
    fn request(&self, name: &str) -> anyhow::Result<PathBuf> {
        let file = self.fixtures.join(name);
        let request = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let task = serde_json::to_string(&format!("Change {}: {}.", self.edit.file(), self.edit.name))?;
        let path = self.lab.folder().join(name);
        std::fs::write(&path, request.replace(&format!("\"{TASK}\""), &task))?;
        Ok(path)
    }
}

fn text(path: &Path) -> anyhow::Result<&str> {
    path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))
}
