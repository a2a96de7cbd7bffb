//! Real moon runs tasks over gRPC with zstd, with the built server as its cache. Reads the report that moon writes.
mod harness;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::tool::{self, Run};
use harness::{Server, say};
use tempfile::TempDir;

const PROJECTS: [&str; 3] = ["library", "notes", "program"];
const FROM_REMOTE: &str = "cached-from-remote";

/// What each project's `build` task does: a text, a file of some size, an empty file, a program, in two folders.
const MAKE: &str = "\
set -eu
mkdir -p out/deep/er
cat source.txt > out/text.txt
seq 1 60000 > out/deep/er/numbers.txt
: > out/deep/empty.txt
printf '#!/bin/sh\\necho hello\\n' > out/deep/run
chmod 755 out/deep/run
echo built from $(cat source.txt)
";

const TASK: &str = "\
tasks:
  build:
    command: 'sh make.sh'
    inputs: ['source.txt', 'make.sh']
    outputs: ['out']
";

/// A moon workspace of three projects, one of which depends on another.
struct Workspace {
    folder: TempDir,
    moon: PathBuf,
}

impl Workspace {
    /// `url` is the server's.
    fn new(url: &str, instance: &str) -> Self {
        let mut places = vec![tool::checkout().join(".deps/moon/node_modules/.bin/moon")];
        places.extend(tool::on_path("moon"));
        let moon = tool::installed("moon", &places);
        let workspace = Self { folder: TempDir::new().expect("a temporary folder"), moon };
        let root = workspace.root();
        write(&root.join(".moon/workspace.yml"), &settings(url, instance));
        write(&root.join(".gitignore"), "out\n.moon/cache\n");
        for project in PROJECTS {
            write(&root.join(project).join("source.txt"), &format!("the source of {project}\n"));
            write(&root.join(project).join("make.sh"), MAKE);
            let depends = if project == "program" { "dependsOn: ['library']\n" } else { "" };
            let deps = if project == "program" { "    deps: ['library:build']\n" } else { "" };
            write(&root.join(project).join("moon.yml"), &format!("{depends}{TASK}{deps}"));
        }
        // moon asks git which files there are.
        workspace.git(&["init", "--quiet"]);
        workspace.git(&["add", "."]);
        workspace.git(&["-c", "user.name=test", "-c", "user.email=test@localhost", "commit", "--quiet", "-m", "start"]);
        workspace
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("workspace")
    }

    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        tool::run(without_surroundings(&mut git).args(args).current_dir(self.root())).expect_success();
    }

    /// `moon run :build`: the tasks of all projects.
    fn run(&self) -> Run {
        self.run_with(&[])
    }

    fn run_with(&self, variables: &[(&str, &str)]) -> Run {
        let mut moon = Command::new(&self.moon);
        without_surroundings(&mut moon).env("HOME", self.folder.path().join("home")).env("MOON_COLOR", "false");
        moon.args(["run", ":build", "--log", "info"]).current_dir(self.root());
        moon.envs(variables.iter().copied());
        tool::run(&mut moon).expect_success()
    }

    /// What moon's own report says of each task: `passed` when it ran, `cached-from-remote` when it did not.
    fn report(&self) -> BTreeMap<String, String> {
        let report = fs::read(self.root().join(".moon/cache/runReport.json")).expect("moon's report");
        let report: serde_json::Value = serde_json::from_slice(&report).expect("JSON by moon");
        let actions = report["actions"].as_array().expect("the actions of the report");
        actions
            .iter()
            .filter_map(|action| {
                let task = action["label"].as_str()?.strip_prefix("RunTask(")?.strip_suffix(":build)")?;
                Some((task.to_owned(), action["status"].as_str()?.to_owned()))
            })
            .collect()
    }

    /// Wipes moon's local cache and every output.
    fn forget(&self) {
        fs::remove_dir_all(self.root().join(".moon/cache")).expect("moon's cache");
        for project in PROJECTS {
            fs::remove_dir_all(self.root().join(project).join("out")).expect("the outputs");
        }
    }

    /// Path, mode and bytes of every output.
    fn outputs(&self) -> BTreeMap<PathBuf, (u32, Vec<u8>)> {
        let mut files = BTreeMap::new();
        for project in PROJECTS {
            collect(&self.root().join(project).join("out"), &mut files);
        }
        files
    }
}

fn settings(url: &str, instance: &str) -> String {
    let (api, compression) = if url.starts_with("http") { ("http", "none") } else { ("grpc", "zstd") };
    format!(
        "projects: ['library', 'notes', 'program']\n\
         telemetry: false\n\
         remote:\n  host: '{url}'\n  api: '{api}'\n  \
         cache:\n    compression: '{compression}'\n    instanceName: '{instance}'\n"
    )
}

fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().expect("a file in a folder")).expect("a folder");
    fs::write(path, text).expect("a file");
}

fn collect(folder: &Path, files: &mut BTreeMap<PathBuf, (u32, Vec<u8>)>) {
    for entry in fs::read_dir(folder).expect("an output folder") {
        let path = entry.expect("an output").path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            let mode = fs::metadata(&path).expect("an output").permissions().mode() & 0o111;
            let bytes = fs::read(&path).expect("an output");
            files.insert(path, (mode, bytes));
        }
    }
}

/// Keeps what surrounds the test out of it: a git hook's variables, a CI's, a proxy.
fn without_surroundings(command: &mut Command) -> &mut Command {
    for name in ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE", "CI", "http_proxy", "https_proxy", "HTTPS_PROXY"] {
        command.env_remove(name);
    }
    command
}

fn statuses(of: [&str; 3]) -> BTreeMap<String, String> {
    PROJECTS.iter().zip(of).map(|(project, status)| ((*project).to_owned(), status.to_owned())).collect()
}

fn show(what: &str, workspace: &Workspace, run: &Run) {
    say(format!("{what}: {:?}; moon says: {}", workspace.report(), run.line_with("Tasks:").trim()));
}

fn cold_then_warm(url: &str, instance: &str) {
    let workspace = Workspace::new(url, instance);
    show("cold", &workspace, &workspace.run());
    assert_eq!(workspace.report(), statuses(["passed"; 3]));
    let outputs = workspace.outputs();

    workspace.forget();
    let warm = workspace.run();
    show("warm", &workspace, &warm);
    assert_eq!(workspace.report(), statuses([FROM_REMOTE; 3]), "{}", warm.output);
    assert!(warm.output.contains("built from the source of notes"), "the recorded output: {}", warm.output);
    assert!(workspace.outputs() == outputs, "the outputs that came back differ");

    workspace.forget();
    write(&workspace.root().join("notes/source.txt"), "another source of notes\n");
    let run = workspace.run();
    show("a source of notes changed", &workspace, &run);
    assert_eq!(workspace.report(), statuses([FROM_REMOTE, "passed", FROM_REMOTE]), "{}", run.output);

    workspace.forget();
    write(&workspace.root().join("library/source.txt"), "another source of library\n");
    let run = workspace.run();
    show("a source of library changed", &workspace, &run);
    assert_eq!(workspace.report(), statuses(["passed", FROM_REMOTE, "passed"]), "{}", run.output);
}

#[test]
fn a_second_run_is_served_over_grpc_with_zstd() {
    let server = Server::start(&[]);
    cold_then_warm(&server.url(), "moon-outputs");
}

#[test]
fn an_empty_instance_name_whose_resource_names_start_with_a_slash_is_served_too() {
    let server = Server::start(&[]);
    cold_then_warm(&server.url(), "");
}

#[test]
fn a_second_run_is_served_over_http_whose_action_results_are_json() {
    let server = Server::start(&[]);
    cold_then_warm(&format!("http://{}", server.address()), "moon-outputs");
}

#[test]
fn what_moon_put_over_http_is_a_complete_action_result_over_grpc() {
    let server = Server::start(&[]);
    let workspace = Workspace::new(&format!("http://{}", server.address()), "moon-outputs");
    workspace.run();
    assert_eq!(workspace.report(), statuses(["passed"; 3]));
    let outputs = workspace.outputs();

    workspace.forget();
    // The settings are an input of every task, so they stay as they are.
    let run = workspace.run_with(&[("MOON_REMOTE_HOST", &server.url()), ("MOON_REMOTE_API", "grpc")]);
    show("over gRPC what came as JSON over HTTP", &workspace, &run);
    assert_eq!(workspace.report(), statuses([FROM_REMOTE; 3]), "{}", run.output);
    assert!(workspace.outputs() == outputs, "the outputs that came back differ");
}

#[test]
fn a_server_killed_between_runs_still_answers() {
    let mut server = Server::start(&[]);
    let workspace = Workspace::new(&server.url(), "moon-outputs");
    workspace.run();
    assert_eq!(workspace.report(), statuses(["passed"; 3]));

    server.kill();
    server.restart();
    workspace.forget();
    // The port is another one. The settings are an input of every task, so they stay as they are.
    let run = workspace.run_with(&[("MOON_REMOTE_HOST", &server.url())]);
    show("after SIGKILL and a new start", &workspace, &run);
    assert_eq!(workspace.report(), statuses([FROM_REMOTE; 3]), "{}", run.output);
}
