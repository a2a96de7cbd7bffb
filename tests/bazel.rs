//! Real Bazel builds the sample workspace, with the built server as its cache. Reads what Bazel itself reports.
mod harness;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::tool::{self, Run};
use harness::{Server, say};
use tempfile::TempDir;

/// A private copy of `bazel-integration/`, and Bazel to build it with. Nothing of it runs or stays after the test.
struct Sample {
    folder: TempDir,
    bazel: PathBuf,
}

/// What Bazel counted in its `processes:` line.
#[derive(Debug)]
struct Processes {
    line: String,
    remote_hits: u64,
    internal: u64,
    total: u64,
}

impl Processes {
    fn ran_here(&self) -> u64 {
        self.total - self.remote_hits - self.internal
    }
}

impl Sample {
    fn new() -> Self {
        let mut places = vec![PathBuf::from("/usr/bin/bazel")];
        places.extend(tool::on_path("bazel"));
        let bazel = tool::installed("Bazel", &places);
        let folder = TempDir::new().expect("a temporary folder");
        tool::copy_folder(&tool::checkout().join("bazel-integration"), &folder.path().join("checkout"));
        Self { folder, bazel }
    }

    fn workspace(&self) -> PathBuf {
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
    fn build(&self, url: &str, options: &[&str]) -> Run {
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
    fn missed(&self) -> Vec<BTreeSet<String>> {
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
    fn forget(&self) {
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
fn processes(run: &Run) -> Processes {
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

fn assert_all_hit(what: &str, run: &Run) {
    let counts = processes(run);
    say(format!("{what}: {}", counts.line));
    assert_eq!(counts.ran_here(), 0, "{what}: {}", run.output);
    assert!(counts.remote_hits >= CACHEABLE, "{what}: {}", counts.line);
}

fn assert_none_hit(what: &str, run: &Run) {
    let counts = processes(run);
    say(format!("{what}: {}", counts.line));
    assert_eq!(counts.remote_hits, 0, "{what}");
    assert!(counts.ran_here() >= CACHEABLE, "{what}");
}

#[test]
fn a_second_build_is_served_and_a_changed_source_misses_alone() {
    let server = Server::start(&[]);
    let sample = Sample::new();
    assert_none_hit("first build", &sample.build(&server.url(), &[]));

    sample.forget();
    assert_all_hit("second build", &sample.build(&server.url(), &[]));
    let greeting = tool::run(&mut Command::new(sample.workspace().join("bazel-bin/greeting/greet"))).expect_success();
    assert_eq!(greeting.output, "good day, world (3 words)\n");
    let pages = sample.workspace().join("bazel-bin/tree/pages/chapter11/page299.txt");
    assert_eq!(std::fs::read_to_string(pages).expect("a file of the tree"), "Pages, page 299\n");

    sample.forget();
    assert_all_hit("third build, --remote_download_minimal", &sample.build(&server.url(), &["--config=minimal"]));
    let outputs = sample.workspace().join("bazel-bin");
    assert!(!outputs.join("greeting/greet").exists(), "the program came down in a build without the bytes");
    assert!(!outputs.join("tree/pages/chapter11/page299.txt").exists(), "the tree came down likewise");

    let source = sample.workspace().join("greeting/count.cc");
    let text = std::fs::read_to_string(&source).expect("a source of the sample");
    let changed = text.replace("while (words >> word) count++;", "for (; words >> word; ++count) continue;");
    assert_ne!(text, changed);
    std::fs::write(&source, changed).expect("a source of the sample");
    // Without the bytes of the build before: those that the changed action needs must come down now.
    let run = sample.build(&server.url(), &["--config=minimal"]);
    say(format!("one source changed, output base kept: {}", processes(&run).line));
    assert_only_count_missed(&sample);

    // What the change made was uploaded; a change to the other library leaves it alone.
    sample.forget();
    assert_all_hit("the changed source, everything wiped", &sample.build(&server.url(), &[]));
    sample.forget();
    std::fs::write(&source, format!("{text}\nint Unused() {{ return 0; }}\n")).expect("a source of the sample");
    let run = sample.build(&server.url(), &[]);
    let counts = processes(&run);
    say(format!("one source changed, everything wiped: {}", counts.line));
    assert_only_count_missed(&sample);
    assert!(counts.remote_hits > 0, "{}", run.output);
}

/// The actions that ran are those downstream of `greeting/count.cc`, and the compiler is among them.
fn assert_only_count_missed(sample: &Sample) {
    let downstream = [
        "/greeting/_objs/count/count.",
        "/greeting/libcount.",
        "/greeting/count_test",
        "/greeting/greet",
        "/checks/greet_test/",
    ];
    let missed = sample.missed();
    for outputs in &missed {
        for output in outputs {
            let expected = downstream.iter().any(|part| match part.strip_prefix("/greeting/greet") {
                // The program itself, not the library beside it.
                Some(_) => output.ends_with(part),
                None => output.contains(part),
            });
            assert!(expected, "{output} does not depend on the changed source");
        }
    }
    let compiled = |part: &str| missed.iter().flatten().any(|output| output.contains(part));
    assert!(compiled("/greeting/_objs/count/count."), "the changed source was not compiled: {missed:?}");
}

#[test]
fn a_server_killed_between_builds_still_answers_and_instances_are_apart() {
    let mut server = Server::start(&[]);
    let sample = Sample::new();
    let one = ["--remote_instance_name=team/a"];
    assert_none_hit("first build of team/a", &sample.build(&server.url(), &one));

    server.kill();
    server.restart();
    sample.forget();
    assert_all_hit("team/a after SIGKILL and a new start", &sample.build(&server.url(), &one));

    sample.forget();
    assert_none_hit("first build of team/b", &sample.build(&server.url(), &["--remote_instance_name=team/b"]));
}

#[test]
fn http_serves_what_http_uploaded_and_grpc_sees_the_same_entries() {
    let server = Server::start(&[]);
    let sample = Sample::new();
    let http = format!("http://{}/team/a", server.address());
    assert_none_hit("first build over HTTP", &sample.build(&http, &[]));
    sample.forget();
    assert_all_hit("second build over HTTP", &sample.build(&http, &[]));
    sample.forget();
    let grpc = ["--remote_instance_name=team/a"];
    assert_all_hit("the same instance over gRPC", &sample.build(&server.url(), &grpc));

    sample.forget();
    let other = ["--remote_instance_name=team/b"];
    assert_none_hit("first build of team/b over gRPC", &sample.build(&server.url(), &other));
    sample.forget();
    let http = format!("http://{}/team/b/", server.address());
    assert_all_hit("team/b over HTTP", &sample.build(&http, &[]));
}

#[test]
fn a_build_goes_on_when_the_cache_is_down() {
    let mut server = Server::start(&[]);
    let url = server.url();
    server.kill();
    let sample = Sample::new();
    assert_none_hit("build without its cache", &sample.build(&url, &["--remote_retries=1"]));
}
