//! Keys of the requests that the real Anthropic and OpenAI SDKs for Python build.
mod harness;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::http::ask;
use harness::{Server, say, tool};
use serde_json::{Value, json};
use tempfile::TempDir;

struct Captured(TempDir);

/// Runs a script of `tests/prompt_sdks` with a folder, under the Python that has the SDKs.
fn python(script: &str, folder: &Path) -> tool::Run {
    let python = tool::installed("Python with the SDKs", &[tool::checkout().join(".deps/python/bin/python")]);
    let mut command = Command::new(python);
    for proxy in ["http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"] {
        command.env_remove(proxy);
    }
    tool::run(command.arg(tool::checkout().join("tests/prompt_sdks").join(script)).arg(folder))
}

impl Captured {
    fn new() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        python("requests.py", folder.path()).expect_success();
        Self(folder)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// What `twofold prompt key` prints of a captured request, with the headers that came with it.
    fn answer(&self, api: &str, name: &str) -> Value {
        let headers = std::fs::read(self.path(&format!("{name}.headers.json"))).expect("captured headers");
        let headers: Value = serde_json::from_slice(&headers).expect("JSON");
        let mut args = Vec::new();
        for (flag, header) in [("--api-version", "anthropic-version"), ("--beta", "anthropic-beta")] {
            args.extend(headers[header].as_str().into_iter().flat_map(|value| [flag, value]));
        }
        key(api, &args, &self.path(&format!("{name}.json")))
    }

    fn key(&self, api: &str, name: &str) -> String {
        let answer = self.answer(api, name);
        answer["key"].as_str().unwrap_or_else(|| panic!("{name} has no key: {answer}")).to_owned()
    }
}

fn key(api: &str, args: &[&str], request: &Path) -> Value {
    let output = Command::new(env!("CARGO_BIN_EXE_twofold"))
        .args(["prompt", "key", "--json", "--api", api])
        .args(args)
        .arg(request)
        .stdin(Stdio::null())
        .output()
        .expect("the built program");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn requests_of_the_real_sdks_have_one_key_streamed_or_not() {
    let captured = Captured::new();
    for (api, base, same, other) in [
        (
            "anthropic.messages",
            "messages",
            &["messages-stream", "messages-helper", "messages-user", "messages-marked"][..],
            &["messages-more", "messages-beta"][..],
        ),
        ("openai.chat", "chat", &["chat-stream", "chat-user"][..], &["chat-seed", "chat-warm"][..]),
        ("openai.responses", "responses", &["responses-stream"][..], &["responses-effort"][..]),
    ] {
        let expected = captured.key(api, base);
        for name in same {
            assert_eq!(captured.key(api, name), expected, "{name}");
        }
        for name in other {
            assert_ne!(captured.key(api, name), expected, "{name}");
        }
    }
    let why = |api, name| captured.answer(api, name)["uncacheable"].clone();
    assert_eq!(why("anthropic.messages", "messages-search"), "server_or_typed_tool:web_search_20250305");
    assert_eq!(why("openai.responses", "responses-stored"), "not_replayable:store");
    assert_eq!(why("openai.responses", "responses-after"), "external_state:previous_response_id");
}

/// What a field of a request does to its key: each field that an SDK knows is in one of these lists, so that a new one
/// fails the test until somebody has thought about it.
struct Classes {
    /// It does not reach the model.
    dropped: &'static [&'static str],
    /// There is no key with it.
    uncacheable: &'static [&'static str],
    /// It is keyed.
    keyed: &'static [&'static str],
}

const ANTHROPIC: Classes = Classes {
    dropped: &["cache_control", "diagnostics", "metadata", "service_tier", "user_profile_id", "workspace_id"],
    uncacheable: &["container", "mcp_servers", "thread"],
    keyed: &[
        "billing_policy",
        "compaction",
        "context_management",
        "fallback_credit_token",
        "fallbacks",
        "inference_geo",
        "max_tokens",
        "messages",
        "model",
        "output_config",
        "speed",
        "stop_sequences",
        "system",
        "thinking",
        "tool_choice",
        "tools",
        // Sent as a header.
        "betas",
    ],
};

const CHAT: Classes = Classes {
    dropped: &[
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "store",
        "stream_options",
        "user",
    ],
    uncacheable: &["audio", "web_search_options"],
    keyed: &[
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "modalities",
        "model",
        "moderation",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "reasoning_effort",
        "response_format",
        "seed",
        "stop",
        "temperature",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "verbosity",
    ],
};

const RESPONSES: Classes = Classes {
    dropped: &[
        "background_options",
        "metadata",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "safety_identifier",
        "service_tier",
        "stream_options",
        "user",
    ],
    uncacheable: &["background", "conversation", "previous_response_id", "prompt", "store"],
    keyed: &[
        "access_programs",
        "context_management",
        "image",
        "include",
        "input",
        "instructions",
        "max_output_tokens",
        "max_tool_calls",
        "model",
        "moderation",
        "parallel_tool_calls",
        "reasoning",
        "temperature",
        "text",
        "tool_choice",
        "tools",
        "top_logprobs",
        "top_p",
        "truncation",
    ],
};

#[test]
fn every_field_that_the_sdks_know_is_dropped_keyed_or_refused_as_the_lists_say() {
    let captured = Captured::new();
    let fields = std::fs::read(captured.path("fields.json")).expect("fields");
    let fields: BTreeMap<String, Vec<String>> = serde_json::from_slice(&fields).expect("JSON");
    assert_eq!(fields.len(), 3);
    for (api, names) in &fields {
        let (base, classes) = match api.as_str() {
            "anthropic.messages" => ("messages", ANTHROPIC),
            "openai.chat" => ("chat", CHAT),
            _ => ("responses", RESPONSES),
        };
        let request = std::fs::read(captured.path(&format!("{base}.json"))).expect("a captured request");
        let request: Value = serde_json::from_slice(&request).expect("JSON");
        let plain = key(api, &[], &captured.path(&format!("{base}.json")));
        for name in names {
            let answer = key(api, &[], &changed(&captured, &request, name));
            let found = (answer.get("uncacheable").is_some(), answer["key"] == plain["key"]);
            let expected = match name.as_str() {
                name if classes.dropped.contains(&name) => (false, true),
                name if classes.uncacheable.contains(&name) => (true, false),
                name if classes.keyed.contains(&name) => (false, false),
                other => panic!("{api} has a new field, {other}: which list does it belong to?"),
            };
            assert_eq!(found, expected, "{api} {name}: {answer}");
        }
    }
}

/// The request with another value of the field, in a file.
fn changed(captured: &Captured, request: &Value, name: &str) -> PathBuf {
    let value = match name {
        "messages" => json!([{"role": "user", "content": "other"}]),
        "input" | "instructions" | "system" | "model" | "speed" => json!("other"),
        "tools" if request.get("tools").is_some() => json!([]),
        "tools" => json!([{"type": "function", "name": "other"}]),
        "functions" => json!([{"name": "other"}]),
        _ => json!({"other": 1}),
    };
    let mut request = request.clone();
    request[name] = value;
    let path = captured.path("changed.json");
    std::fs::write(&path, request.to_string()).expect("a file");
    path
}

/// Property (g) of the specification, §11.
#[test]
fn a_recorded_stream_given_to_the_sdks_again_is_the_recorded_response() {
    let server = Server::start(&[]);
    let captured = Captured::new();
    let replayed = TempDir::new().expect("a temporary folder");
    let streams = tool::checkout().join("fixtures/prompts/streams");
    for (api, name) in [("anthropic.messages", "messages"), ("openai.chat", "chat"), ("openai.responses", "responses")]
    {
        let twofold = |command: &str, args: &[&std::ffi::OsStr]| {
            let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
            program.args(["prompt", command, "--json", "--api", api, "--remote", &server.url()]).args(args);
            let run = tool::run(program.arg(captured.path(&format!("{name}.json")))).expect_success();
            serde_json::from_str::<Value>(&run.output).expect("JSON")
        };
        let (response, stream) = (streams.join(format!("{name}.json")), streams.join(format!("{name}.sse")));
        twofold("record", &["--response".as_ref(), response.as_ref(), "--raw-sse".as_ref(), stream.as_ref()]);
        let result = twofold("lookup", &[])["result"].clone();
        for (member, extension) in [("response", "json"), ("raw_sse", "sse")] {
            let digest = result[member].as_str().expect("a digest");
            let hash = digest.split('/').find(|part| part.len() == 64).expect("a hash");
            let blob = ask(server.listener(), &format!("GET /cas/{hash}"), &[], b"");
            assert_eq!(blob.code, 200);
            std::fs::write(replayed.path().join(format!("{name}.{extension}")), &blob.body).expect("a file");
        }
    }
    let run = python("replay.py", replayed.path()).expect_success();
    run.output.lines().for_each(say);
    assert_eq!(run.output.lines().count(), 3, "{}", run.output);

    // A stream that says something else is found out.
    let stream = replayed.path().join("chat.sse");
    let text = std::fs::read_to_string(&stream).expect("a stream");
    std::fs::write(&stream, text.replace("rows.py", "cols.py")).expect("a stream");
    assert_ne!(python("replay.py", replayed.path()).code, 0);
}
