use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::measure::{Sample, timed};

/// A server of its own, and copies of a workspace in folders of their own. All goes when it is dropped.
pub(super) struct Lab {
    server: Child,
    folder: TempDir,
    program: PathBuf,
}

impl Lab {
    /// Starts the server.
    pub(super) fn open() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("twofold-bench-").tempdir()?;
        let program = std::env::current_exe()?;
        let mut server = Command::new(&program)
            .args(["serve", "--log", "error", "--durability", "process", "--data"])
            .arg(folder.path().join("data"))
            .arg("--listen")
            .arg(address(folder.path()))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server")?;
        let mut line = String::new();
        if let Some(stdout) = server.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        let lab = Self { server, folder, program };
        if line.is_empty() {
            bail!("the server ended at once");
        }
        Ok(lab)
    }

    /// A copy of the workspace.
    pub(super) fn checkout(&self, workspace: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let root = self.folder.path().join(name).join("workspace");
        copy(workspace, &root)?;
        Ok(root)
    }

    /// cargo alone.
    pub(super) fn plain(&self, workspace: &Path) -> anyhow::Result<(String, Sample)> {
        let mut command = cargo_environment(Command::new("cargo"));
        timed(command.args(["test", "--workspace", "--offline"]).current_dir(workspace))
    }

    /// cargo over the cache.
    pub(super) fn cached(&self, workspace: &Path) -> anyhow::Result<(String, Sample)> {
        let stats = workspace.join("stats.json");
        let mut command = cargo_environment(Command::new(&self.program));
        command.args(["cargo", "--server", &address(self.folder.path()), "--stats-json"]).arg(&stats);
        command.args(["--", "test", "--workspace", "--offline"]).current_dir(workspace);
        let (output, mut sample) = timed(&mut command)?;
        let stats: Value = serde_json::from_slice(&std::fs::read(stats)?)?;
        let count = |tool: &str, what: &str| match &stats[tool][what] {
            Value::Object(reasons) => reasons.values().filter_map(Value::as_u64).sum(),
            number => number.as_u64().unwrap_or_default(),
        };
        sample.compiled = count("rustc", "misses");
        sample.compile_hits = count("rustc", "hits");
        sample.tested = count("tests", "misses") + count("tests", "not_cached") + count("rustdoc", "misses");
        sample.test_hits = count("tests", "hits") + count("rustdoc", "hits");
        Ok((output, sample))
    }

    /// `twofold prompt COMMAND` on this server.
    pub(super) fn prompt(&self, command: &str, arguments: &[&str]) -> anyhow::Result<(String, Sample)> {
        let mut program = Command::new(&self.program);
        program.args(["prompt", command, "--remote", &address(self.folder.path())]).args(arguments);
        timed(&mut program)
    }

    /// A folder for what belongs to no checkout.
    pub(super) fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        // It was killed or has ended by itself; there is nothing to save.
        let _: std::io::Result<()> = self.server.kill();
        let _: std::io::Result<_> = self.server.wait();
    }
}

fn address(folder: &Path) -> String {
    format!("unix:{}", folder.join("socket").display())
}

/// What the cargo around us says of its own build is not for the one that is measured.
fn cargo_environment(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name == "CARGO" || name == "RUSTC_WRAPPER" || name.starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name.as_ref());
        }
    }
    command.env("CARGO_INCREMENTAL", "0");
    command
}

/// Copies a folder and all below it but what was built. Times are those of the copy, as in a fresh checkout.
fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| format!("cannot read {}", from.display()))? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" && entry.file_name() != ".git" {
                copy(&source, &target)?;
            }
        } else {
            std::fs::copy(&source, &target).with_context(|| format!("cannot copy {}", source.display()))?;
        }
    }
    Ok(())
}
