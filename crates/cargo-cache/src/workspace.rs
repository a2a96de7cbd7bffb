use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

/// The workspace that a command works on, as `cargo metadata` describes it.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Workspace {
    /// The folder of the root manifest.
    #[serde(rename = "workspace_root")]
    pub(crate) root: PathBuf,
    /// Where cargo builds.
    #[serde(rename = "target_directory")]
    pub(crate) target: PathBuf,
    /// The members.
    pub(crate) packages: Vec<Package>,
}

/// A member.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Package {
    pub(crate) name: String,
    pub(crate) manifest_path: PathBuf,
    #[serde(default)]
    pub(crate) targets: Vec<Target>,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) metadata: Metadata,
}

/// A target of a member.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) kind: Vec<String>,
    pub(crate) src_path: PathBuf,
}

/// The part of `[package.metadata]` that is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Metadata {
    #[serde(default)]
    pub(crate) twofold: Declared,
}

/// `[package.metadata.twofold]`: what a package says of its tests.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Declared {
    /// Whether results of its tests are cached.
    #[serde(default = "yes")]
    pub(crate) test_cache: bool,
    /// Test targets, by name, that always run: those that need a network, or the time.
    #[serde(default)]
    pub(crate) uncached_tests: Vec<String>,
    /// Files and folders outside of the package that its tests read, relative to its manifest.
    #[serde(default)]
    pub(crate) test_inputs: Vec<PathBuf>,
}

impl Default for Declared {
    fn default() -> Self {
        Self { test_cache: true, uncached_tests: Vec::new(), test_inputs: Vec::new() }
    }
}

fn yes() -> bool {
    true
}

/// `null` stands for nothing said.
fn or_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// Why the workspace is not known.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WorkspaceError {
    #[error("cannot run {cargo}")]
    Cargo { cargo: String, source: std::io::Error },
    #[error("cargo metadata: {0}")]
    Refused(String),
    #[error("cargo metadata printed something else than expected")]
    Malformed(#[from] serde_json::Error),
}

impl Workspace {
    /// Asks cargo, with the arguments of the command that choose a manifest and a target folder.
    pub(crate) fn find(cargo: &str, arguments: &[String]) -> Result<Self, WorkspaceError> {
        let mut command = Command::new(cargo);
        command.args(["metadata", "--no-deps", "--format-version", "1"]);
        if let Some(manifest) = value_of(arguments, "--manifest-path") {
            command.args(["--manifest-path", &manifest]);
        }
        let output = command.output().map_err(|source| WorkspaceError::Cargo { cargo: cargo.to_owned(), source })?;
        if !output.status.success() {
            return Err(WorkspaceError::Refused(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        let mut workspace: Self = serde_json::from_slice(&output.stdout)?;
        if let Some(target) = value_of(arguments, "--target-dir") {
            workspace.target = std::path::absolute(&target).unwrap_or_else(|_| PathBuf::from(target));
        }
        Ok(workspace)
    }

    /// The member whose manifest is in this folder.
    pub(crate) fn package_in(&self, folder: &Path) -> Option<&Package> {
        self.packages.iter().find(|package| package.folder() == folder)
    }

    /// The folders of the members.
    pub(crate) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.packages.iter().map(Package::folder)
    }
}

impl Package {
    /// The folder of the manifest.
    pub(crate) fn folder(&self) -> &Path {
        self.manifest_path.parent().unwrap_or(Path::new("/"))
    }

    /// The names of its programs and examples, which its tests may run.
    pub(crate) fn programs(&self) -> BTreeMap<PathBuf, &str> {
        let of_kind = |target: &Target, kind: &str| target.kind.iter().any(|found| found == kind);
        let folder = |target: &Target| if of_kind(target, "example") { "examples" } else { "" };
        let runs = self.targets.iter().filter(|target| of_kind(target, "bin") || of_kind(target, "example"));
        runs.map(|target| (Path::new(folder(target)).join(&target.name), target.name.as_str())).collect()
    }
}

/// The value of a flag, in either form.
fn value_of(arguments: &[String], flag: &str) -> Option<String> {
    let mut arguments = arguments.iter().take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        if argument == flag {
            return arguments.next().cloned();
        }
        if let Some(value) = argument.strip_prefix(flag).and_then(|rest| rest.strip_prefix('=')) {
            return Some(value.to_owned());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_package_declares_is_read() {
        let package = |metadata: &str| {
            let text = format!(r#"{{"name": "a", "manifest_path": "/w/a/Cargo.toml", "metadata": {metadata}}}"#);
            serde_json::from_str::<Package>(&text)
        };
        assert!(package("null").expect("no metadata").metadata.twofold.test_cache);
        assert!(package(r#"{"other": 1}"#).expect("metadata of others").metadata.twofold.test_cache);
        let declared = package(r#"{"twofold": {"test-cache": false, "test-inputs": ["../data"]}}"#).expect("ours");
        assert!(!declared.metadata.twofold.test_cache);
        assert_eq!(declared.metadata.twofold.test_inputs, [PathBuf::from("../data")]);
        assert!(package(r#"{"twofold": {"tests": false}}"#).is_err());
    }

    #[test]
    fn flags_are_found_in_both_forms_and_not_behind_two_dashes() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        for text in ["test --target-dir x", "test --target-dir=x -- --target-dir=y"] {
            assert_eq!(value_of(&words(text), "--target-dir").as_deref(), Some("x"));
        }
        assert_eq!(value_of(&words("test -- --target-dir x"), "--target-dir"), None);
    }
}
