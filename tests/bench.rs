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
    let edits = folder.join("edits");
    std::fs::create_dir_all(&edits).expect("a folder");
    for name in ["request.json", "request-again.json", "response.json"] {
        std::fs::copy(fixtures.join("bench").join(name), edits.join(name)).expect("a copy");
    }
    let all: Value = read(&fixtures.join("bench/edits.json"));
    std::fs::write(edits.join("edits.json"), Value::Array(vec![all[1].clone()]).to_string()).expect("a write");
    let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
    command.args(["bench", "ci", "--runs", "1", "--workspace"]).arg(fixtures.join("cargo-workspace"));
    command.arg("--edits").arg(edits).args(more).env("XDG_CACHE_HOME", folder.join("cache")).env_remove("RUSTFLAGS");
    run(&mut command)
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(file).expect("a file")).expect("JSON")
}

#[test]
fn the_hot_phase_builds_what_was_built_before_and_one_compilation_more_than_the_baseline_fails() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = folder.path().join("figures.json");
    let path = file.to_str().expect("text").to_owned();
    let measured = bench(folder.path(), &["--json", &path]).expect_success();
    say(&measured.output);
    let mut figures = read(&file);
    let site = figures["runs"][0]["sites"][0].clone();
    let count = |phase: &str, what: &str| site[phase][what].as_u64().expect("a count");
    assert_eq!((count("cold", "compile_hits"), count("cold", "test_hits")), (0, 0), "{site}");
    // One test has the path of its checkout compiled in; one asks to run always.
    assert_eq!((count("hot", "compiled"), count("hot", "tested")), (1, 2), "{site}");
    assert_eq!((count("warm", "compiled"), count("warm", "tested")), (3, 3), "{site}");

    // A baseline that was slower than any run is, so that counts alone decide.
    for phase in ["plain", "cold"] {
        figures["runs"][0]["sites"][0][phase]["wall"] = Value::from(if phase == "cold" { 1e-3 } else { 1e-9 });
    }
    std::fs::write(&file, figures.to_string()).expect("a write");
    let same = bench(folder.path(), &["--baseline", &path]).expect_success();
    assert!(same.output.contains("no worse than the baseline"), "{}", same.output);
    figures["runs"][0]["sites"][0]["hot"]["compiled"] = Value::from(0);
    std::fs::write(&file, figures.to_string()).expect("a write");
    let worse = bench(folder.path(), &["--baseline", &path]);
    assert_eq!(worse.code, 1, "{}", worse.output);
    assert!(worse.output.contains("1 compilations in the hot phase, 0 before"), "{}", worse.output);
}
