use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

use super::measure::{Timed, cpu_of, timed};

/// A server of its own, and copies of a workspace in folders of their own. All goes when it is dropped.
pub(super) struct Lab {
    server: Child,
    folder: TempDir,
    program: PathBuf,
    sccache_is_filled: bool,
}

impl Lab {
    /// Starts the server.
    pub(super) fn open(scratch: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("twofold-bench-").tempdir_in(scratch)?;
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
        let lab = Self { server, folder, program, sccache_is_filled: false };
        if line.is_empty() {
            bail!("the server ended at once");
        }
        Ok(lab)
    }

    /// A copy of the workspace, as fresh as if it had just been checked out.
    pub(super) fn checkout(&self, workspace: &Path, name: &str) -> anyhow::Result<PathBuf> {
        let root = self.folder.path().join(name).join("workspace");
        copy(workspace, &root)?;
        Ok(root)
    }

    /// cargo alone, with its incremental compilation as it is by default.
    pub(super) fn plain(&self, workspace: &Path, arguments: &[String]) -> anyhow::Result<Timed> {
        timed(without_our_own(Command::new("cargo")).args(arguments).current_dir(workspace))
    }

    /// cargo over sccache, with a server and a cache of its own.
    pub(super) fn sccache(&self, workspace: &Path, arguments: &[String]) -> anyhow::Result<Timed> {
        let mut command = without_our_own(Command::new("cargo"));
        command.env("RUSTC_WRAPPER", "sccache").env("CARGO_INCREMENTAL", "0");
        timed(self.of_sccache(&mut command).args(arguments).current_dir(workspace))
    }

    /// Builds once, so that sccache knows all.
    pub(super) fn fill_sccache(&mut self, workspace: &Path, arguments: &[String]) -> anyhow::Result<()> {
        self.sccache(workspace, arguments)?;
        self.sccache_is_filled = true;
        Ok(())
    }

    /// Whether that was done.
    pub(super) fn sccache_is_filled(&self) -> bool {
        self.sccache_is_filled
    }

    /// Whether sccache is installed. Its server is started, whose time is not that of a build.
    pub(super) fn has_sccache(&self) -> bool {
        let mut command = Command::new("sccache");
        command.arg("--start-server").stdout(Stdio::null()).stderr(Stdio::null());
        self.of_sccache(&mut command).status().is_ok_and(|status| status.success())
    }

    fn of_sccache<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        // Two labs at once are told apart by the number of their server's process.
        let port = 20_000 + self.server.id() % 20_000;
        command.env("SCCACHE_DIR", self.folder.path().join("sccache")).env("SCCACHE_SERVER_PORT", port.to_string())
    }

    /// cargo over the cache.
    pub(super) fn cached(&self, workspace: &Path, arguments: &[String]) -> anyhow::Result<Timed> {
        let stats = self.folder.path().join("stats.json");
        let mut command = without_our_own(Command::new(&self.program));
        command.args(["cargo", "--server", &address(self.folder.path()), "--stats-json"]).arg(&stats);
        command.arg("--").args(arguments).current_dir(workspace);
        let cpu = cpu_of(self.server.id())?;
        let mut timed = timed(&mut command)?;
        let sample = &mut timed.sample;
        sample.cpu += cpu_of(self.server.id())? - cpu;
        let stats: Value = serde_json::from_slice(&std::fs::read(stats).context("what was counted")?)?;
        let count = |tool: &str, what: &str| match &stats[tool][what] {
            Value::Object(reasons) => reasons.values().filter_map(Value::as_u64).sum(),
            number => number.as_u64().unwrap_or_default(),
        };
        sample.compiled = count("rustc", "misses");
        sample.compile_hits = count("rustc", "hits");
        sample.tested = count("tests", "misses") + count("tests", "not_cached") + count("rustdoc", "misses");
        sample.test_hits = count("tests", "hits") + count("rustdoc", "hits");
        sample.snapshot_files = stats["snapshot_files"].as_u64().unwrap_or_default();
        sample.not_cached = ["rustc", "rustdoc", "tests"].iter().flat_map(|tool| reasons(&stats, tool)).collect();
        Ok(timed)
    }

    /// `twofold prompt COMMAND` on this server.
    pub(super) fn prompt(&self, command: &str, arguments: &[&str]) -> anyhow::Result<Timed> {
        let mut program = Command::new(&self.program);
        program.args(["prompt", command, "--remote", &address(self.folder.path())]).args(arguments);
        let ran = timed(&mut program)?;
        match &ran.failed {
            Some(why) => bail!("twofold prompt {command}: {why}"),
            None => Ok(ran),
        }
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
        let mut sccache = Command::new("sccache");
        sccache.arg("--stop-server").stdout(Stdio::null()).stderr(Stdio::null());
        let _: std::io::Result<_> = self.of_sccache(&mut sccache).status();
    }
}

fn address(folder: &Path) -> String {
    format!("unix:{}", folder.join("socket").display())
}

fn reasons(stats: &Value, tool: &str) -> BTreeMap<String, u64> {
    let reasons = stats[tool]["not_cached"].as_object().into_iter().flatten();
    reasons.map(|(reason, n)| (format!("{tool}: {reason}"), n.as_u64().unwrap_or_default())).collect()
}

/// What the cargo around us says of its own build is not for the one that is measured.
fn without_our_own(mut command: Command) -> Command {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name == "CARGO" || name == "RUSTC_WRAPPER" || name.starts_with("CARGO_") && name != "CARGO_HOME" {
            command.env_remove(name.as_ref());
        }
    }
    command
}

/// Copies a folder and all below it but what was built. Times are those of the copy, as in a fresh checkout.
pub(super) fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
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
