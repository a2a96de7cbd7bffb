//! Real Bazel on the sample workspace, and what it counts.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::say;
use super::tool::{self, Run};

/// A private copy of `bazel-integration/`, and Bazel to build it with. Nothing of it runs or stays after the test.
pub struct Sample {
    folder: TempDir,
    bazel: PathBuf,
}

/// What Bazel counted in its `processes:` line.
#[derive(Debug)]
pub struct Processes {
    /// The line itself.
    pub line: String,
    /// Actions that the cache answered.
    pub remote_hits: u64,
    internal: u64,
    total: u64,
}

impl Processes {
    /// Actions that ran.
    pub fn ran_here(&self) -> u64 {
        self.total - self.remote_hits - self.internal
    }
}

impl Sample {
    /// A new copy.
    pub fn new() -> Self {
        let mut places = vec![PathBuf::from("/usr/bin/bazel")];
        places.extend(tool::on_path("bazel"));
        let bazel = tool::installed("Bazel", &places);
        let folder = TempDir::new().expect("a temporary folder");
        tool::copy_folder(&tool::checkout().join("bazel-integration"), &folder.path().join("checkout"));
        Self { folder, bazel }
    }

    /// The workspace of the copy.
    pub fn workspace(&self) -> PathBuf {
        self.folder.path().join("checkout/workspace")
    }

    fn output_root(&self) -> PathBuf {
        self.folder.path().join("output")
    }

    fn command(&self, args: &[&str]) -> Run {
        let mut command = Command::new(&self.bazel);
        command.arg(format!("--output_user_root={}", self.output_root().display())).arg("--nohome_rc");
        command.args(args).current_dir(self.workspace());
        for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        tool::run(&mut command)
    }

    /// `bazel test //...` with the cache at `url`. Every target is built and every test passes, or the test fails.
    pub fn build(&self, url: &str, options: &[&str]) -> Run {
        let log = format!("--execution_log_json_file={}", self.execution_log().display());
        let cache = format!("--remote_cache={url}");
        let mut args = vec!["test", "//...", "--curses=no", "--color=no", "--nosandbox_debug", &cache, &log];
        args.extend(options);
        self.command(&args).expect_success()
    }

    fn execution_log(&self) -> PathBuf {
        self.folder.path().join("executed.json")
    }

    /// The outputs of each action that the cache did not answer in the last build.
    pub fn missed(&self) -> Vec<BTreeSet<String>> {
        let log = std::fs::read(self.execution_log()).expect("Bazel's log of the build");
        serde_json::Deserializer::from_slice(&log)
            .into_iter::<serde_json::Value>()
            .map(|spawn| spawn.expect("JSON by Bazel"))
            .filter(|spawn| spawn["remoteCacheHit"] != serde_json::Value::Bool(true))
            .map(|spawn| {
                let outputs = spawn["listedOutputs"].as_array().cloned().unwrap_or_default();
                outputs.iter().filter_map(|output| Some(output.as_str()?.to_owned())).collect()
            })
            .collect()
    }

    /// Leaves nothing of the builds so far: `bazel clean --expunge`, then the whole output base is wiped.
    pub fn forget(&self) {
        self.command(&["clean", "--expunge"]).expect_success();
        self.command(&["shutdown"]).expect_success();
        wipe(&self.output_root());
    }
}

impl Drop for Sample {
    fn drop(&mut self) {
        let mut command = Command::new(&self.bazel);
        command.arg(format!("--output_user_root={}", self.output_root().display())).arg("--nohome_rc").arg("shutdown");
        // Best effort: a failed test shows its own reason.
        command.current_dir(self.workspace()).output().ok();
        wipe(&self.output_root());
    }
}

/// Removes a folder in which Bazel made files and folders read-only.
fn wipe(folder: &Path) {
    Command::new("chmod").args(["-R", "u+w"]).arg(folder).output().expect("chmod");
    Command::new("rm").arg("-rf").arg(folder).status().expect("rm");
}

/// Bazel's line, such as `INFO: 41 processes: 19 remote cache hit, 22 internal.`
pub fn processes(run: &Run) -> Processes {
    let line = run.output.lines().rfind(|line| line.starts_with("INFO: ") && line.contains(" processes: "));
    let line = line.unwrap_or_else(|| panic!("no line with Bazel's processes:\n{}", run.output));
    let (total, parts) = line.trim_start_matches("INFO: ").split_once(" processes: ").expect("found by it");
    let mut counts = Processes {
        line: line.to_owned(),
        remote_hits: 0,
        internal: 0,
        total: total.parse().expect("a count before `processes`"),
    };
    for part in parts.trim_end_matches('.').split(", ") {
        let (count, kind) = part.split_once(' ').expect("a count and a kind");
        let count = count.parse().expect("a count");
        match kind {
            "remote cache hit" => counts.remote_hits = count,
            "internal" => counts.internal = count,
            _ => {}
        }
    }
    counts
}

/// The actions of the sample that Bazel can cache: 15 that build, 4 that test.
const CACHEABLE: u64 = 19;

/// Fails unless the cache answered every action.
pub fn assert_all_hit(what: &str, run: &Run) {
    let counts = processes(run);
    say(format!("{what}: {}", counts.line));
    assert_eq!(counts.ran_here(), 0, "{what}: {}", run.output);
    assert!(counts.remote_hits >= CACHEABLE, "{what}: {}", counts.line);
}

/// Fails if the cache answered any action.
pub fn assert_none_hit(what: &str, run: &Run) {
    let counts = processes(run);
    say(format!("{what}: {}", counts.line));
    assert_eq!(counts.remote_hits, 0, "{what}");
    assert!(counts.ran_here() >= CACHEABLE, "{what}");
}
