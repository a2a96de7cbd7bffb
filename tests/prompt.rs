//! The prompt cache of the built server, through the built program and on the wire, with real Bazel.
mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::BASE64;
use harness::http::ask;
use harness::metrics::Metrics;
use harness::tool::{self, Run};
use harness::{Server, say, sha256};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A model request on disk, and the response to it.
struct Prompt {
    folder: TempDir,
}

impl Prompt {
    fn new(request: &Value) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let response = json!({
            "id": "msg_1", "type": "message", "role": "assistant", "model": request["model"], "stop_reason": "end_turn",
            "content": [{"type": "text", "text": "Done."}], "usage": {"input_tokens": 80_000, "output_tokens": 4_000},
        });
        std::fs::write(folder.path().join("response.json"), response.to_string()).expect("a file");
        std::fs::write(folder.path().join("request.json"), request.to_string()).expect("a file");
        Self { folder }
    }

    fn request(&self) -> PathBuf {
        self.folder.path().join("request.json")
    }

    /// `twofold prompt COMMAND` with this request.
    fn run(&self, server: &Server, command: &str, args: &[&str]) -> Run {
        let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
        program.args(["prompt", command, "--api", "anthropic.messages", "--remote", &server.url()]);
        if command == "record" {
            program.arg("--response").arg(self.folder.path().join("response.json"));
        }
        tool::run(program.args(args).arg(self.request()))
    }

    fn json(&self, server: &Server, command: &str, args: &[&str]) -> Value {
        let run = self.run(server, command, &[args, &["--json"]].concat());
        serde_json::from_str(&run.output).unwrap_or_else(|_| panic!("no JSON: {}", run.output))
    }
}

fn base() -> Value {
    json!({
        "model": "claude-opus-4-8", "max_tokens": 4096, "system": "You are a coding agent.",
        "tools": [{"name": "Edit", "description": "Edit a file", "input_schema": {"type": "object"}}],
        "messages": [{"role": "user", "content": "Count words with a for loop"}],
    })
}

fn report(server: &Server, key: &str, args: &[&str]) -> Run {
    let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
    tool::run(program.args(["prompt", "report", key, "--remote", &server.url()]).args(args)).expect_success()
}

/// A checkout of the sample workspace, and Bazel to build it with.
struct Checkout {
    folder: TempDir,
    bazel: PathBuf,
}

impl Checkout {
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

    fn text(&self) -> String {
        self.workspace().display().to_string()
    }

    fn command(&self, args: &[&str]) -> Run {
        let mut command = Command::new(&self.bazel);
        command.arg(format!("--output_user_root={}", self.folder.path().join("output").display())).arg("--nohome_rc");
        for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
            command.env_remove(proxy);
        }
        tool::run(command.args(args).current_dir(self.workspace()))
    }

    /// Bazel's line about its processes after `bazel test //...`.
    fn build(&self, url: &str) -> String {
        let cache = format!("--remote_cache={url}");
        let run = self.command(&["test", "//...", "--curses=no", "--color=no", &cache]).expect_success();
        run.line_with(" processes: ").to_owned()
    }
}

impl Drop for Checkout {
    fn drop(&mut self) {
        self.command(&["shutdown"]);
        // Bazel makes what it built read-only.
        Command::new("chmod").args(["-R", "u+w"]).arg(self.folder.path()).output().ok();
    }
}

/// Whether every process of Bazel's line was answered by the cache or is Bazel's own.
fn all_hit(line: &str) -> bool {
    let parts = line.split_once(" processes: ").expect("found by it").1.trim_end_matches('.');
    let kinds: Vec<&str> = parts.split(", ").map(|part| part.split_once(' ').expect("a count").1).collect();
    kinds.contains(&"remote cache hit") && kinds.iter().all(|kind| matches!(*kind, "remote cache hit" | "internal"))
}

fn rewrite(workspace: &Path) {
    let source = workspace.join("greeting/count.cc");
    let text = std::fs::read_to_string(&source).expect("a source of the sample");
    let changed = text.replace("while (words >> word) count++;", "for (; words >> word; ++count) continue;");
    assert_ne!(text, changed);
    std::fs::write(&source, changed).expect("a source of the sample");
}

#[test]
fn a_change_is_recorded_looked_up_in_another_checkout_applied_and_built_from_the_cache() {
    let server = Server::start(&[]);
    let prompt = Prompt::new(&base());
    let (before, agent) = (Checkout::new(), Checkout::new());
    rewrite(&agent.workspace());
    let task = ["--repo", "sample"];
    let folders = ["--before", &before.text(), "--after", &agent.text()];
    let reads = [
        "--read",
        "greeting/count.h",
        "--read",
        "greeting/",
        "--read",
        "glob:**/*.h",
        "--completeness",
        "traced",
        "--call",
        "Bash",
    ];
    let recorded = prompt.json(&server, "record", &[&task[..], &folders, &reads].concat());
    let key = recorded["key"].as_str().expect("a key").to_owned();
    say(format!("record: {key}"));
    say(format!("the agent's build: {}", agent.build(&server.url())));

    // Nobody has said yet that it builds.
    let second = Checkout::new();
    let apply = ["--task", "--repo", "sample", "--apply", &second.text()];
    let unproven = prompt.run(&server, "lookup", &apply);
    assert_eq!(unproven.code, 1);
    say(format!("lookup before evidence: {}", unproven.line_with("evidence")));
    report(&server, &key, &["--exit-code", "0", "--tests-passed", "4"]);

    let hit = prompt.run(&server, "lookup", &apply).expect_success();
    say(format!("lookup --apply: {}", hit.line_with("applied")));
    let written =
        |checkout: &Checkout| std::fs::read(checkout.workspace().join("greeting/count.cc")).expect("a source");
    assert!(written(&second) == written(&agent) && written(&second) != written(&before));
    let line = second.build(&server.url());
    say(format!("the second checkout's build: {line}"));
    assert!(all_hit(&line), "{line}");

    let verify = |file: &Path| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
        tool::run(program.args(["prompt", "verify", "--remote", &server.url()]).arg(file))
    };
    let verified = verify(&second.workspace().join("greeting/count.cc")).expect_success();
    say(format!("verify: {}", verified.line_with(&key).rsplit('/').next().unwrap_or_default()));
    assert!(verified.output.contains("as greeting/count.cc, signature holds"), "{}", verified.output);
    assert_eq!(verify(&before.workspace().join("greeting/count.cc")).code, 1);

    // A file that was read is another one.
    let third = Checkout::new();
    let header = third.workspace().join("greeting/count.h");
    let text = std::fs::read_to_string(&header).expect("a header of the sample");
    std::fs::write(&header, format!("{text}\n")).expect("a header of the sample");
    let apply = ["--task", "--repo", "sample", "--apply", &third.text()];
    let missed = prompt.run(&server, "lookup", &apply);
    assert_eq!(missed.code, 1);
    say(format!("a changed read: {}", missed.line_with("read_changed: greeting/count.h")));
    assert!(written(&third) == written(&before));
    std::fs::write(&header, text).expect("a header of the sample");

    // A pattern that was looked for matches one file more.
    let more = third.workspace().join("more.h");
    std::fs::write(&more, "").expect("a file");
    let missed = prompt.run(&server, "lookup", &apply);
    say(format!("a pattern that matches more: {}", missed.line_with("read_changed: glob:**/*.h")));
    std::fs::remove_file(&more).expect("the file");

    // A link on the way: nothing is read or written through it.
    let elsewhere = third.folder.path().join("elsewhere");
    std::fs::rename(third.workspace().join("greeting"), &elsewhere).expect("a move");
    std::os::unix::fs::symlink(&elsewhere, third.workspace().join("greeting")).expect("a link");
    assert_eq!(prompt.run(&server, "lookup", &apply).code, 1);
    assert!(std::fs::read(elsewhere.join("count.cc")).expect("a source") == written(&before));
    std::fs::remove_file(third.workspace().join("greeting")).expect("the link");
    std::fs::rename(&elsewhere, third.workspace().join("greeting")).expect("a move");

    report(&server, &key, &["--exit-code", "1", "--tests-failed", "1", "--platform", "linux-x86_64"]);
    let red = prompt.run(&server, "lookup", &apply);
    assert_eq!(red.code, 1);
    say(format!("after a red report: {}", red.line_with("red_report: 1 tests failed on linux-x86_64")));
}

#[test]
fn explain_names_the_drift_in_each_part_of_the_tuple() {
    let mut server = Server::start(&[]);
    let prompt = Prompt::new(&base());
    say(format!("record: {}", prompt.run(&server, "record", &[]).expect_success().output.trim()));
    server.kill();
    server.restart();
    say(format!("lookup after SIGKILL: {}", prompt.run(&server, "lookup", &[]).expect_success().line_with("hit ")));
    let with = |name: &str, value: Value| {
        let mut request = base();
        request[name] = value;
        Prompt::new(&request)
    };
    let tool = json!([{"name": "Edit", "description": "Edit a file.", "input_schema": {"type": "object"}}]);
    for (part, other, args, expected) in [
        (
            "model",
            with("model", "claude-opus-4-7".into()),
            &[][..],
            json!({"component": "model", "item": "", "fields": []}),
        ),
        (
            "system",
            with("system", "You are an agent.".into()),
            &[],
            json!({"component": "system", "item": "block 0", "fields": []}),
        ),
        ("tools", with("tools", tool), &[], json!({"component": "tools", "item": "Edit", "fields": ["description"]})),
        ("seed", with("seed", 7.into()), &[], json!({"component": "seed", "item": "", "fields": ["seed"]})),
        (
            "slot",
            with("max_tokens", 4096.into()),
            &["--slot", "3"],
            json!({"component": "seed", "item": "", "fields": ["slot"]}),
        ),
    ] {
        assert_ne!(other.run(&server, "lookup", args).code, 0, "{part}");
        let answer = other.json(&server, "explain", args);
        say(format!("{part}: nearest {}, drift {}", answer["nearest"], answer["drift"]));
        assert_eq!(answer["drift"], json!([expected]), "{part}");
    }
}

#[test]
fn a_result_of_one_folder_is_given_back_with_the_paths_of_another() {
    let server = Server::start(&[]);
    let request = |folder: &str| {
        let mut request = base();
        request["system"] = format!("You work in {folder} alone.").into();
        let prompt = Prompt::new(&request);
        let response = json!({
            "model": request["model"], "stop_reason": "end_turn",
            "content": [{"type": "text", "text": format!("I looked at {folder}/src/a.rs")}],
        });
        std::fs::write(prompt.folder.path().join("response.json"), response.to_string()).expect("a file");
        prompt
    };
    let (ann, bob) = ("/home/ann/app", "/srv/agents/bob/app");
    let rule = |mask: &'static str| ["--rule", "mask-paths@1", "--mask", mask];
    request(ann).run(&server, "record", &rule("cwd=/home/ann/app")).expect_success();
    let hit = request(bob).json(&server, "lookup", &rule("cwd=/srv/agents/bob/app"));
    say(format!("{ann} gives {bob}: {}", hit["response"]["content"][0]["text"]));
    assert_eq!(hit["outcome"], "hit", "{hit}");
    assert_eq!(hit["response"]["content"][0]["text"], "I looked at /srv/agents/bob/app/src/a.rs");
    assert_eq!(request(bob).json(&server, "lookup", &[])["outcome"], "miss");
}

#[test]
fn explain_tells_what_changes_each_time_and_gives_the_request_that_was_kept() {
    let server = Server::start(&[]);
    let on = |day: u32| {
        let mut request = base();
        request["system"] = format!("You code.\nToday's date: 2026-11-{day:02}").into();
        Prompt::new(&request)
    };
    on(1).run(&server, "record", &["--keep-text"]).expect_success();
    for day in 2..6 {
        assert_eq!(on(day).json(&server, "explain", &[])["suggestions"], json!([]), "{day}");
    }
    let told = on(6).run(&server, "explain", &["--text"]).expect_success();
    say(told.line_with("changes each time").to_owned());
    assert!(told.line_with("changes each time").ends_with(r#"system /0/text (date, "2026-11-06"): mask-date@1"#));
    assert!(told.output.contains("2026-11-01"), "the request that was kept: {}", told.output);
    assert_eq!(on(7).json(&server, "lookup", &[])["outcome"], "miss");
}

#[test]
fn the_worked_example_of_an_agent_hour_is_printed() {
    let savings = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
        tool::run(program.args(["prompt", "savings"]).args(args)).expect_success()
    };
    let hour = savings(&["--input-price", "3", "--output-price", "15", "--calls", "400", "--cached-share", "0.60"]);
    assert!(
        hour.output.contains("$68.26 with 60 %") && hour.output.contains("$120.10 an agent-hour without"),
        "{}",
        hour.output
    );
    let halved: Value = serde_json::from_str(&savings(&["--replayed-share", "0.5", "--json"]).output).expect("JSON");
    assert_eq!(halved["tokens_not_spent"], json!(16_800_000.0));
}

#[test]
fn a_signature_of_someone_who_is_known_makes_a_result_fit_and_what_is_spared_is_counted() {
    let seed = [7; 32];
    let pair = Ed25519KeyPair::from_seed_unchecked(&seed).expect("a key");
    let folder = TempDir::new().expect("a temporary folder");
    let file = |name: &str, text: String| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("a path of UTF-8").to_owned()
    };
    // RFC 8410 section 7: an Ed25519 key in PKCS #8.
    let der = [&[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20], &seed[..]].concat();
    let begin_and_end = ["BEGIN", "END"].map(|word| format!("-----{word} PRIVATE KEY-----\n"));
    let pem = file("key.pem", begin_and_end.join(&format!("{}\n", BASE64.encode(&der))));
    let public = harness::hex(pair.public_key().as_ref());
    let config = file("twofold.toml", format!("[prompt.signers]\nada = \"{public}\"\n"));

    let server = Server::start(&["--config", &config]);
    let prompt = Prompt::new(&base());
    let recorded = prompt.json(&server, "record", &[]);
    let key = recorded["key"].as_str().expect("a key");
    let unsigned = prompt.run(&server, "lookup", &["--policy", "signed"]);
    assert_eq!(unsigned.code, 1);
    say(format!("before a signature: {}", unsigned.line_with("sign")));
    let twofold = |args: &[&str]| {
        let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
        tool::run(program.arg("prompt").args(args).args(["--remote", &server.url()])).expect_success()
    };
    twofold(&["attest", key, "--sign", &pem]);
    prompt.run(&server, "lookup", &["--policy", "signed"]).expect_success();

    let counted = twofold(&["savings", "--counted", "--json"]);
    say(format!("savings --counted: {}", counted.output.trim()));
    let counted: Value = serde_json::from_str(&counted.output).expect("JSON");
    assert_eq!((&counted["hits"], &counted["prefixes"]), (&json!(1), &json!(1)), "{counted}");
    assert_eq!((&counted["input_tokens"], &counted["output_tokens"]), (&json!(80_000), &json!(4_000)));
    let metrics = Metrics::of(&server);
    assert_eq!(metrics.value(r#"twofold_prompt_lookups_total{outcome="hit"}"#), 1.0);
    assert_eq!(metrics.value(r#"twofold_prompt_saved_tokens_total{kind="input"}"#), 80_000.0);
}

fn post(server: &Server, path: &str, body: &str) -> (u16, Value) {
    let headers = [("Content-Type", "application/json"), ("Content-Length", &*body.len().to_string())];
    let answer = ask(
        server.listener(),
        &format!("POST {path}"),
        if body.is_empty() { &headers } else { &headers[..1] },
        body.as_bytes(),
    );
    (answer.code, serde_json::from_slice(&answer.body).expect("JSON"))
}

/// Property (e) of the specification, §11.
#[test]
fn http_grpc_and_the_library_give_one_key_for_one_request() {
    let server = Server::start(&[]);
    let file = tool::checkout().join("fixtures/prompts/prompt-key-vectors.json");
    let vectors: Value = serde_json::from_slice(&std::fs::read(file).expect("the vectors")).expect("JSON");
    let mut uncacheable = 0;
    for vector in vectors["vectors"].as_array().expect("a list") {
        let request = match &vector["request"] {
            Value::String(text) => text.clone(),
            request => request.to_string(),
        };
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join("request.json"), &request).expect("a file");
        let prompt = Prompt { folder };
        let over_grpc = prompt.json(&server, "lookup", &[]);
        let (code, over_http) = post(
            &server,
            "/v1/prompt/lookup",
            &format!(r#"{{"invocation":{{"api":"anthropic.messages","request":{request}}}}}"#),
        );
        assert_eq!(code, 200, "{over_http}");
        assert_eq!(over_grpc, over_http, "{}", vector["name"]);
        let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
        program.args(["prompt", "key", "--json", "--api", "anthropic.messages", "--tenant", "default"]);
        let output = program.arg(prompt.request()).stdin(Stdio::null()).output().expect("the built program");
        let offline: Value = serde_json::from_slice(&output.stdout).expect("JSON");
        match offline.get("uncacheable") {
            Some(reason) => {
                uncacheable += 1;
                assert_eq!(over_http["outcome"], "uncacheable");
                let text = over_http["why"][0]["text"].as_str().expect("a text");
                assert!(text.starts_with(reason.as_str().expect("a reason")), "{text}");
            }
            None => assert_eq!(over_http["key"], offline["key"], "{}", vector["name"]),
        }
    }
    assert_eq!(uncacheable, 3);
}

/// A JSON value made of the seed: the same each time.
fn made(seed: &mut u64, depth: u32) -> Value {
    let mut next = |below: u64| {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 33) % below
    };
    match next(if depth == 0 { 5 } else { 7 }) {
        0 => Value::Null,
        1 => json!(next(2) == 0),
        2 => json!(i64::try_from(next(1 << 20)).expect("small") - (1 << 19)),
        3 => json!(["", "text", "é\u{1f600}\n\"\\", "2026-11-24"][usize::try_from(next(4)).expect("small")]),
        4 => json!(0.5),
        5 => Value::Array((0..next(3)).map(|_| made(seed, depth - 1)).collect::<Vec<_>>()),
        _ => Value::Object((0..next(3)).map(|n| (format!("m{n}"), made(seed, depth - 1))).collect()),
    }
}

/// Property (e), on requests of every API with members, blocks and values that nobody wrote by hand.
#[test]
fn generated_requests_have_one_key_over_grpc_http_and_offline() {
    let server = Server::start(&[]);
    let mut seed = 4;
    let apis = ["anthropic.messages", "openai.chat", "openai.responses", "gemini.generate_content", "neutral"];
    let mut keyed = 0;
    for case in 0..60 {
        let api = apis[case % apis.len()];
        let mut request = json!({"model": "m", "max_tokens": 9, "store": false});
        let text = made(&mut seed, 0).to_string();
        let turns = json!([{"role": "user", "content": text}, {"role": "assistant", "content": [{"type": "text", "text": "b", "x": made(&mut seed, 2)}]}]);
        match api {
            "gemini.generate_content" => {
                request["contents"] = json!([{"role": "user", "parts": [{"text": text, "x": made(&mut seed, 2)}]}]);
            }
            "openai.responses" => request["input"] = turns,
            _ => request["messages"] = turns,
        }
        for name in ["temperature", "a_new_field", "stop", "metadata", "seed", "tools"] {
            // Half of the fields, and a list of tools now and then that is none.
            if made(&mut seed, 1).to_string().len().is_multiple_of(2) {
                request[name] = made(&mut seed, 3);
            }
        }
        let folder = TempDir::new().expect("a temporary folder");
        let file = folder.path().join("request.json");
        std::fs::write(&file, request.to_string()).expect("a file");
        let run = |args: &[&str]| -> Value {
            let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
            let run = tool::run(program.args(["prompt"]).args(args).args(["--json", "--api", api]).arg(&file));
            serde_json::from_str(&run.output).unwrap_or_else(|_| panic!("no JSON: {}", run.output))
        };
        let offline = run(&["key", "--tenant", "default"]);
        let over_grpc = run(&["lookup", "--remote", &server.url()]);
        let body = json!({"invocation": {"api": api, "request": request}}).to_string();
        let (code, over_http) = post(&server, "/v1/prompt/lookup", &body);
        assert_eq!((code, &over_grpc), (200, &over_http), "{request}");
        match offline.get("key") {
            Some(key) => {
                keyed += 1;
                assert_eq!(&over_http["key"], key, "{request}");
            }
            None => assert_eq!(over_http["outcome"], "uncacheable", "{request}"),
        }
    }
    assert!((10..60).contains(&keyed), "{keyed} requests have a key");
}

#[test]
fn the_json_mirror_records_looks_up_reports_explains_and_invalidates() {
    let server = Server::start(&[]);
    let request = base();
    let response = json!({"model": "claude-opus-4-8", "stop_reason": "end_turn", "content": []}).to_string();
    let invocation = json!({"api": "anthropic.messages", "request": request});
    let (_, recorded) =
        post(&server, "/v1/prompt/record", &format!(r#"{{"invocation":{invocation},"response":{response}}}"#));
    let key = recorded["key"].as_str().expect("a key");
    let lookup = json!({ "invocation": invocation }).to_string();
    let (_, hit) = post(&server, "/v1/prompt/lookup", &lookup);
    assert_eq!((&hit["outcome"], &hit["key"]), (&json!("hit"), &json!(key)));
    // The response is a blob like any other, its bytes those that were sent.
    let hash = hit["result"]["response"].as_str().and_then(|digest| digest.split('/').next()).expect("a digest");
    assert_eq!(hash, sha256(response.as_bytes()).hash);
    let blob = ask(server.listener(), &format!("GET /cas/{hash}"), &[], b"");
    assert_eq!(blob.body, response.as_bytes());
    let explained = ask(server.listener(), &format!("GET /v1/prompt/explain?key={key}"), &[], b"");
    let explained: Value = serde_json::from_slice(&explained.body).expect("JSON");
    assert_eq!(explained["nearest"], json!(key));
    let (_, invalidated) = post(&server, "/v1/prompt/invalidate", r#"{"model":"claude-opus-4-8"}"#);
    assert!(invalidated["before_ms"].is_i64());
    let (_, missed) = post(&server, "/v1/prompt/lookup", &lookup);
    assert_eq!((&missed["outcome"], &missed["why"][0]["code"]), (&json!("prefix"), &json!("invalidated")));
    for (path, body) in [
        ("/v1/prompt/lookup", "{"),
        ("/v1/prompt/lookup", r#"{"invocation":{},"invocation":{}}"#),
        ("/v1/prompt/lookup", r#"{"unknown":1}"#),
        ("/v1/prompt/lookup", "{}"),
        ("/v1/prompt/lookup", r#"{"invocation":{"api":"cohere","request":{}}}"#),
        ("/v1/prompt/report", r#"{"key":"pk1:sha256:00","evidence":{}}"#),
        ("/v1/prompt/invalidate", "{}"),
    ] {
        let (code, answer) = post(&server, path, body);
        assert!(code == 400 && answer["error"].is_string(), "{body}: {code} {answer}");
    }
}
