use std::path::Path;

use anyhow::{Context, bail};
use serde::Deserialize;

/// A change to one file, as a model wrote it first and as it writes it when it is asked again.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Edit {
    /// What it is, for people.
    pub(super) name: String,
    /// The file, relative to the workspace.
    file: String,
    /// The text that is replaced; it occurs once.
    from: String,
    /// What was written first.
    canonical: String,
    /// What is written when it is asked again, once and once more.
    regenerated: Vec<String>,
}

/// Which of the texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Words {
    Canonical,
    /// That of a run, by its number.
    Regenerated(usize),
}

impl Edit {
    /// Reads a list of them.
    pub(super) fn read(file: &Path) -> anyhow::Result<Vec<Self>> {
        let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let edits: Vec<Self> =
            serde_json::from_str(&text).with_context(|| format!("{} is no list of edits", file.display()))?;
        if edits.is_empty() {
            bail!("{} has no edits", file.display());
        }
        Ok(edits)
    }

    /// Writes the file, as it is in `workspace` but for the change, into a copy of the workspace.
    pub(super) fn apply(&self, workspace: &Path, copy: &Path, words: Words) -> anyhow::Result<()> {
        let (original, path) = (workspace.join(&self.file), copy.join(&self.file));
        let text = std::fs::read_to_string(&original).with_context(|| format!("cannot read {}", original.display()))?;
        if text.matches(&self.from).count() != 1 {
            bail!("{}: the text of the edit {:?} does not occur once", self.file, self.name);
        }
        let to = match words {
            Words::Canonical => &self.canonical,
            Words::Regenerated(run) => {
                let texts = self.regenerated.len().max(1);
                self.regenerated.get(run % texts).with_context(|| format!("{:?} is never written again", self.name))?
            }
        };
        std::fs::write(&path, text.replace(&self.from, to)).with_context(|| format!("cannot write {}", path.display()))
    }

    /// How many times a model may be asked again before it writes what it wrote.
    pub(super) fn texts(&self) -> usize {
        self.regenerated.len()
    }

    /// The file, for those who read it.
    pub(super) fn file(&self) -> &str {
        &self.file
    }
}
