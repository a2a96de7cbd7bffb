//! `twofold bench ci`: the sample workspace cold, warm and hot, with the prompt layer in the way of the hot phase.

mod harness;

use std::path::Path;
use std::process::Command;

use harness::say;
use harness::tool::{Run, checkout, run};
use serde_json::Value;
use tempfile::TempDir;

/// Measures one edit of the sample workspace once.
fn bench(folder: &Path, more: &[&str]) -> Run {
    let fixtures = checkout().join("fixtures");
    let edits = folder.join("edits.json");
    let all: Value = read(&fixtures.join("bench/edits.json"));
    std::fs::write(&edits, Value::Array(vec![all[1].clone()]).to_string()).expect("a write");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
    command.args(["bench", "ci", "--workspace"]).arg(fixtures.join("cargo-workspace"));
    command.arg("--requests").arg(fixtures.join("bench")).arg("--edits").arg(edits).args(more);
    if !more.contains(&"--runs") {
        command.args(["--runs", "1"]);
    }
    command.env("XDG_CACHE_HOME", folder.join("cache")).env_remove("RUSTFLAGS");
    run(&mut command)
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")
}

/// A count of one step of the first run.
fn count(figures: &Value, phase: &str, what: &str) -> u64 {
    let steps = figures["runs"][0]["steps"].as_array().expect("steps");
    let step = steps.iter().find(|step| step["phase"] == phase).unwrap_or_else(|| panic!("no {phase}: {figures}"));
    assert_eq!(step["refused"], Value::Null, "{step}");
    step["sample"][what].as_u64().expect("a count")
}

/// Changes one figure of one phase.
fn set(figures: &mut Value, phase: &str, what: &str, value: Value) {
    for step in figures["runs"][0]["steps"].as_array_mut().expect("steps") {
        if step["phase"] == phase {
            step["sample"][what] = value.clone();
        }
    }
}

#[test]
fn the_hot_phase_builds_what_was_built_before_and_one_compilation_more_than_the_baseline_fails() {
    let folder = TempDir::new().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_str().expect("text").to_owned();
    let (file, plot) = (path("figures.json"), path("figures.svg"));
    let measured = bench(folder.path(), &["--json", &file, "--plot", &plot]).expect_success();
    say(&measured.output);
    let mut figures = read(Path::new(&file));
    let phases = ["plain", "unchanged", "incremental", "cold", "control", "warm", "hot"];
    for phase in phases {
        assert_eq!(count(&figures, phase, "verdicts"), 8, "{phase}");
    }
    let both = |phase, one, other| (count(&figures, phase, one), count(&figures, phase, other));
    assert_eq!(both("cold", "compile_hits", "test_hits"), (0, 0));
    // One test has the path of its checkout compiled in; one asks to run always.
    assert_eq!(both("hot", "compiled", "tested"), (1, 2));
    assert_eq!(both("control", "compiled", "tested"), (1, 2));
    assert_eq!(both("warm", "compiled", "tested"), (3, 3));
    // The target folder of the cold step is put back where nothing is another.
    let put_back = |phase| count(&figures, phase, "snapshot_files");
    assert!(put_back("hot") > 0 && put_back("control") > 0 && put_back("warm") == 0, "{figures}");
    let drawn = std::fs::read_to_string(plot).expect("a plot");
    assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n"), "{drawn}");

    // A baseline that was slower than any run is, so that counts alone decide.
    for (phase, wall) in [("cold", 1e-3), ("plain", 1e-9), ("incremental", 1e-9)] {
        set(&mut figures, phase, "wall", Value::from(wall));
    }
    std::fs::write(&file, figures.to_string()).expect("a write");
    let same = bench(folder.path(), &["--baseline", &file, "--only", "hot,control"]).expect_success();
    assert!(same.output.contains("no worse than the baseline"), "{}", same.output);
    assert!(!same.output.contains("incremental  "), "{}", same.output);
    set(&mut figures, "hot", "compiled", Value::from(0));
    std::fs::write(&file, figures.to_string()).expect("a write");
    let worse = bench(folder.path(), &["--baseline", &file, "--only", "hot"]);
    assert_eq!(worse.code, 1, "{}", worse.output);
    assert!(worse.output.contains("1 compilations in the hot phase, 0 before"), "{}", worse.output);
}

#[test]
fn what_is_measured_once_stands_for_all_runs_and_each_run_is_written_anew() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("figures.json");
    let json = file.to_str().expect("text");
    let once = ["--json", json, "--only", "cold,warm,hot", "--once", "cold", "--runs", "2"];
    let measured = bench(folder.path(), &once).expect_success();
    say(&measured.output);
    let figures = read(&file);
    let phases = |run: usize| -> Vec<&str> {
        let steps = figures["runs"][run]["steps"].as_array().expect("steps");
        steps.iter().map(|step| step["phase"].as_str().expect("a name")).collect()
    };
    assert_eq!((phases(0), phases(1)), (vec!["cold", "warm", "hot"], vec!["hot", "warm"]));
    for run in figures["runs"].as_array().expect("runs") {
        let steps = run["steps"].as_array().expect("steps");
        let warm = steps.iter().find(|step| step["phase"] == "warm").expect("a warm step");
        // What was written again in the first run is of no use to the second, which words it otherwise.
        assert_eq!(warm["sample"]["compiled"], 3, "{warm}");
    }
    let more = bench(folder.path(), &["--only", "warm", "--once", "cold", "--runs", "4"]);
    assert_eq!(more.code, 1, "{}", more.output);
    assert!(more.output.contains("is written in 3 ways"), "{}", more.output);
}

#[test]
fn a_step_whose_tests_say_something_else_does_not_count() {
    let folder = TempDir::new().expect("a temporary folder");
    let edits = folder.path().join("edits.json");
    let line = "assert_eq!(model::known().first(), Some(&\"alpha\"));";
    let edit = serde_json::json!([{
        "name": "a test that fails when it is written again",
        "file": "model/tests/known.rs",
        "from": line,
        "canonical": line,
        "regenerated": ["assert!(model::known().is_empty());"]
    }]);
    std::fs::write(&edits, edit.to_string()).expect("a write");
    let fixtures = checkout().join("fixtures");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
    command.args(["bench", "ci", "--runs", "1", "--only", "warm", "--workspace"]).arg(fixtures.join("cargo-workspace"));
    command.arg("--requests").arg(fixtures.join("bench")).arg("--edits").arg(&edits);
    command.env("XDG_CACHE_HOME", folder.path().join("cache")).env_remove("RUSTFLAGS");
    let refused = run(&mut command);
    assert_eq!(refused.code, 1, "{}", refused.output);
    assert!(
        refused.output.contains("not counted: run 1, warm") && !refused.output.contains("cold/warm"),
        "{}",
        refused.output
    );
}
