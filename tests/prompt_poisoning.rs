//! Who may put results in the prompt cache, who sees them, and how they go away, through the built program.
mod harness;

use std::process::Command;

use harness::identity::token;
use harness::tool::{self, Run};
use harness::{Server, say};
use serde_json::{Value, json};
use tempfile::TempDir;

/// A server that knows its callers, a request and a response to it.
struct Setting {
    server: Server,
    folder: TempDir,
    tokens: Vec<(&'static str, String)>,
}

impl Setting {
    fn start() -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let mut lines = String::new();
        let mut tokens = Vec::new();
        for (name, roles, tenant) in [
            ("agent", &["read", "cas-write", "prompt-write"][..], ""),
            ("other-agent", &["read", "cas-write", "prompt-write"], ""),
            ("reader", &["read", "cas-write", "ac-write"], ""),
            ("admin", &["admin"], ""),
            ("stranger", &["read", "cas-write", "prompt-write", "admin"], " tenant=elsewhere"),
        ] {
            let (token, line) = token(name, roles);
            tokens.push((name, token));
            lines.push_str(&format!("{line}{tenant}\n"));
        }
        std::fs::write(folder.path().join("tokens"), lines).expect("a file");
        let request = json!({"model": "claude-opus-4-8", "max_tokens": 9, "messages": [
            {"role": "user", "content": "Count words"}, {"role": "assistant", "content": "How?"}, {"role": "user", "content": "A loop"},
        ]});
        let response = json!({"model": "claude-opus-4-8", "stop_reason": "end_turn", "content": [{"type": "text", "text": "Done."}]});
        std::fs::write(folder.path().join("request.json"), request.to_string()).expect("a file");
        std::fs::write(folder.path().join("response.json"), response.to_string()).expect("a file");
        let config = format!("[auth]\ntoken_file = {:?}\n", folder.path().join("tokens"));
        std::fs::write(folder.path().join("twofold.toml"), config).expect("a file");
        let file = folder.path().join("twofold.toml");
        let server = Server::start(&["--config", file.to_str().expect("a path of UTF-8")]);
        Self { server, folder, tokens }
    }

    fn twofold(&self, who: &str, args: &[&str]) -> Run {
        let token = &self.tokens.iter().find(|(name, _)| *name == who).expect("a caller").1;
        let mut program = Command::new(env!("CARGO_BIN_EXE_twofold"));
        program.args(args).args(["--remote", &self.server.url()]).env("TWOFOLD_TOKEN", token);
        tool::run(&mut program)
    }

    fn prompt(&self, who: &str, command: &str, args: &[&str]) -> Run {
        let request = self.folder.path().join("request.json").display().to_string();
        self.twofold(who, &[&["prompt", command, "--api", "anthropic.messages", &request], args].concat())
    }

    fn record(&self, who: &str) -> Run {
        let response = self.folder.path().join("response.json").display().to_string();
        self.prompt(who, "record", &["--response", &response])
    }

    fn lookup(&self, who: &str, args: &[&str]) -> Value {
        let run = self.prompt(who, "lookup", &[args, &["--json"]].concat());
        serde_json::from_str(&run.output).unwrap_or_else(|_| panic!("no JSON: {}", run.output))
    }
}

#[test]
fn who_may_not_write_prompts_records_nothing() {
    let setting = Setting::start();
    let refused = setting.record("reader");
    assert_ne!(refused.code, 0);
    say(format!("a reader records: {}", refused.line_with("prompt-write")));
    assert_eq!(setting.lookup("reader", &[])["outcome"], "miss");
    setting.record("agent").expect_success();
    assert_eq!(setting.lookup("reader", &[])["outcome"], "hit");
    // Nor may a reader speak against it.
    let key = setting.lookup("reader", &[])["key"].as_str().expect("a key").to_owned();
    assert_ne!(setting.twofold("reader", &["prompt", "report", &key, "--exit-code", "1"]).code, 0);
    assert_ne!(setting.twofold("reader", &["prompt", "invalidate", "--writer", "agent"]).code, 0);
    assert_eq!(setting.lookup("reader", &[])["outcome"], "hit");
}

#[test]
fn another_tenant_neither_sees_nor_probes_what_is_recorded() {
    let setting = Setting::start();
    setting.record("agent").expect_success();
    let theirs = setting.lookup("stranger", &[]);
    assert_eq!((&theirs["outcome"], &theirs["common_prefix"]), (&json!("miss"), &json!(0)));
    // The very key and links of the tenant, made with its name, find nothing either: names are made with a secret.
    let probe = ["--keys-only", "--tenant", "default"];
    let own = setting.lookup("agent", &probe);
    let probed = setting.lookup("stranger", &probe);
    assert_eq!((&own["outcome"], &probed["outcome"]), (&json!("hit"), &json!("miss")));
    assert_eq!((&probed["key"], &probed["common_prefix"]), (&own["key"], &json!(0)));
    let key = own["key"].as_str().expect("a key");
    for args in [&["prompt", "report", key, "--exit-code", "1"][..], &["prompt", "attest", key]] {
        let run = setting.twofold("stranger", args);
        assert!(run.code != 0 && run.output.contains("nothing is recorded"), "{}", run.output);
    }
    // What a tenant invalidates is its own.
    setting.twofold("stranger", &["prompt", "invalidate", "--writer", "agent"]).expect_success();
    assert_eq!(setting.lookup("agent", &[])["outcome"], "hit");
}

#[test]
fn what_a_purged_or_invalidated_writer_recorded_is_gone() {
    let setting = Setting::start();
    setting.record("agent").expect_success();
    assert_eq!(setting.lookup("reader", &[])["outcome"], "hit");
    setting.twofold("admin", &["purge", "--writer", "agent"]).expect_success();
    let gone = setting.lookup("reader", &[]);
    assert_eq!((&gone["outcome"], &gone["common_prefix"]), (&json!("miss"), &json!(0)));

    setting.record("agent").expect_success();
    setting.twofold("admin", &["prompt", "invalidate", "--writer", "agent"]).expect_success();
    let invalidated = setting.lookup("reader", &[]);
    assert_eq!(invalidated["why"][0]["code"], "invalidated", "{invalidated}");
    // Another writer's takes its place.
    setting.record("other-agent").expect_success();
    assert_eq!(setting.lookup("reader", &[])["result"]["writer"], "other-agent");
}
