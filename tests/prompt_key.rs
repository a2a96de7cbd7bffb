//! `twofold prompt key` of the built program, on the test vectors of the specification.
mod harness;

use std::io::Write;
use std::process::{Command, Output, Stdio};

use harness::tool;
use serde_json::Value;

fn twofold(args: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_twofold"))
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the built program");
    // A program that refuses its arguments reads nothing.
    child.stdin.take().expect("piped above").write_all(input).ok();
    child.wait_with_output().expect("the program's end")
}

fn key(args: &[&str], request: &[u8]) -> Value {
    let args = [&["prompt", "key", "--api", "anthropic.messages", "--json"], args, &["-"]].concat();
    let output = twofold(&args, request);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn the_program_gives_every_vector_its_key() {
    let file = tool::checkout().join("fixtures/prompts/prompt-key-vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).expect("the vectors")).expect("JSON");
    for vector in vectors["vectors"].as_array().expect("a list") {
        let options = &vector["options"];
        let slot = options["slot"].as_u64().unwrap_or(0).to_string();
        let betas: Vec<&str> = options["betas"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
        let mut args = vec!["--api-version", "2023-06-01", "--namespace", "", "--slot", &slot];
        args.extend(["--tenant", options["tenant"].as_str().unwrap_or("t0")]);
        args.extend(["--profile", options["profile"].as_str().unwrap_or("base@1")]);
        args.extend(betas.iter().flat_map(|beta| ["--beta", beta]));
        let request = match &vector["request"] {
            Value::String(text) => text.clone(),
            request => request.to_string(),
        };
        let answer = key(&args, request.as_bytes());
        let expected = vector["key"].as_str().expect("a key");
        match expected.strip_prefix("uncacheable:") {
            Some(reason) => assert_eq!(answer["uncacheable"], reason, "{}", vector["name"]),
            None => assert_eq!(answer["key"], format!("pk1:sha256:{expected}"), "{}", vector["name"]),
        }
        if vector["name"] == "base" {
            assert_eq!(answer["components"], vectors["base"]["components"]);
            assert_eq!(answer["chain"], vectors["base"]["chain"]);
            assert_eq!(answer["tools"], vectors["base"]["tools"]);
        }
    }
}

#[test]
fn wrong_arguments_are_refused_with_what_is_right() {
    for (args, advice) in [
        (["--api", "cohere"], "anthropic.messages"),
        (["--profile", "base"], "base@1"),
        (["--rule", "mask-everything@1"], "mask-date@1"),
        (["--mask", "cwd=/src"], "6 bytes"),
    ] {
        let api: &[&str] = if args[0] == "--api" { &[] } else { &["--api", "neutral"] };
        let output = twofold(&[&["prompt", "key"], api, &args[..], &["-"]].concat(), b"{}");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(advice), "{told}");
    }
}

#[test]
fn the_task_key_is_printed_for_a_repository() {
    let request = br#"{"model":"claude-opus-4-8","messages":[{"role":"user","content":"a"}]}"#;
    let (one, other) = (key(&["--repo", "r"], request), key(&["--repo", "s"], request));
    assert_eq!(one["key"], other["key"]);
    assert_ne!(one["task"], other["task"]);
    assert!(key(&[], request).get("task").is_none());
}
