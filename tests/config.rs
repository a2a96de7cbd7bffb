//! The configuration of the built program: file, variables and flags, `twofold config`, SIGHUP, and what it refuses.
mod harness;

use std::path::Path;
use std::process::Command;

use harness::identity::token;
use harness::tool::{Run, run};
use harness::{Server, http};
use serde_json::Value;
use tempfile::TempDir;

fn twofold(args: &[&str]) -> Run {
    run(&mut program(args))
}

fn program(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
    command.args(args);
    command
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of UTF-8")
}

fn write(folder: &TempDir, name: &str, content: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("written");
    text(&path).to_owned()
}

fn status(server: &Server, line: &str, header: &str) -> u16 {
    http::ask(server.listener(), line, &[("Authorization", header)], b"").code
}

#[test]
fn a_server_is_not_reachable_from_other_machines_without_authentication_unless_told() {
    let folder = TempDir::new().expect("a temporary folder");
    let data = folder.path().join("data");
    let refused = twofold(&["serve", "--data", text(&data), "--listen", "0.0.0.0:0"]);
    assert_eq!(refused.code, 1);
    assert!(
        refused.output.contains("--allow-anonymous") && refused.output.contains("twofold token new"),
        "{}",
        refused.output
    );
    assert!(!data.exists(), "nothing was made");
    let open = Server::start(&["--listen", "0.0.0.0:0", "--allow-anonymous"]);
    assert!(open.log().contains("whoever reaches this server may read everything"), "{}", open.log());
    let known = Server::start(&["--listen", "0.0.0.0:0", "--anonymous-role", "read"]);
    assert!(known.log().contains("credentials travel in the clear"), "{}", known.log());
    let cas = format!("/cas/{}", "0".repeat(64));
    assert_eq!(http::ask(known.listener(), &format!("GET {cas}"), &[], b"").code, 404);
    assert_eq!(http::ask(known.listener(), &format!("PUT {cas}"), &[], b"x").code, 401);
}

#[test]
fn flags_count_for_more_than_variables_and_those_for_more_than_the_file() {
    let folder = TempDir::new().expect("a temporary folder");
    let file =
        write(&folder, "c.toml", "lease = '1h'\ndrain = '1s'\nmax_size = '1GiB'\n[limits]\nno_progress = '5s'\n");
    let mut command = program(&["config", "show", "--config", &file, "--lease", "3h"]);
    let shown = run(command.env("TWOFOLD_LEASE", "2h").env("TWOFOLD_DRAIN", "2s")).expect_success().output;
    for line in
        ["lease = \"3h\"", "drain = \"2s\"", "max_size = \"1.0 GiB\"", "no_progress = \"5s\"", "connections = 4096"]
    {
        assert!(shown.contains(line), "{line}:\n{shown}");
    }
    // What is shown is a configuration.
    let shown = write(&folder, "shown.toml", &shown);
    twofold(&["config", "check", &shown]).expect_success();
}

#[test]
fn every_fault_is_named_by_its_key_and_the_exit_code_tells() {
    let folder = TempDir::new().expect("a temporary folder");
    let bad = "listem = []\nlease = 'soon'\n[limits]\nstreams = 1\n";
    let run = twofold(&["config", "check", "--json", &write(&folder, "bad.toml", bad)]);
    assert_eq!(run.code, 1);
    let report: Value = serde_json::from_str(&run.output).expect("JSON");
    let mut keys: Vec<&str> =
        report["faults"].as_array().expect("a list").iter().map(|fault| fault["key"].as_str().expect("text")).collect();
    keys.sort_unstable();
    assert_eq!((report["ok"].as_bool(), keys), (Some(false), vec!["lease", "limits.streams", "listem"]));
    let tokens = write(&folder, "tokens", "ci plain-text read\n");
    let missing = format!(
        "[auth]\ntoken_file = {tokens:?}\nhtpasswd = '/nonexistent'\n[tls]\ncert = '/nonexistent'\nkey = '/nonexistent'\n"
    );
    let run = twofold(&["config", "check", &write(&folder, "missing.toml", &missing)]);
    assert_eq!(run.code, 1);
    for part in ["auth.token_file", "line 1", "auth.htpasswd", "tls.cert"] {
        assert!(run.output.contains(part), "{part}: {}", run.output);
    }
    let good = twofold(&["config", "check", "--json", &write(&folder, "good.toml", "lease = '1h'\n")]);
    let report: Value = serde_json::from_str(&good.output).expect("JSON");
    assert_eq!((good.code, report["ok"].as_bool()), (0, Some(true)));
}

#[test]
fn secrets_are_neither_shown_nor_kept() {
    let folder = TempDir::new().expect("a temporary folder");
    let (secret, line) = token("ci", &["read", "ac-write@team"]);
    assert!(!line.contains(&secret));
    let hash = line.split_whitespace().nth(1).expect("the hash").to_owned();
    let file = write(&folder, "c.toml", &format!("[auth]\ntokens = [{line:?}]\n"));
    let shown = twofold(&["config", "show", "--config", &file]).expect_success().output;
    assert!(shown.contains("a token of ci") && !shown.contains(&hash), "{shown}");
    let server = Server::start(&["--config", &file, "--log", "debug"]);
    assert_eq!(status(&server, "GET /v8/artifacts/status", &format!("Bearer {secret}")), 200);
    assert!(!server.log().contains(&secret));
}

#[test]
fn sighup_takes_over_a_good_file_and_keeps_the_settings_before_a_bad_one() {
    let folder = TempDir::new().expect("a temporary folder");
    let ((first, first_line), (second, second_line)) = (token("a", &["read"]), token("b", &["read"]));
    let with = |line: &str, rest: &str| format!("{rest}\n[auth]\ntokens = [{line:?}]\n");
    let file = write(&folder, "c.toml", &with(&first_line, ""));
    let server = Server::start(&["--config", &file]);
    let may = |token: &str| status(&server, "GET /v8/artifacts/status", &format!("Bearer {token}"));
    assert_eq!((may(&first), may(&second)), (200, 401));
    write(&folder, "c.toml", &with(&second_line, "log = 'trace'\nmax_size = '77MiB'"));
    server.hang_up();
    server.wait_for_log("SIGHUP: the settings were read again", 1);
    assert_eq!((may(&first), may(&second)), (401, 200));
    assert!(server.log().contains("it takes effect at the next start"), "{}", server.log());
    server.wait_for_log("TRACE", 1);
    write(&folder, "c.toml", &with(&first_line, "lease = 'soon'"));
    server.hang_up();
    server.wait_for_log("SIGHUP: the new settings are faulty", 1);
    assert!(server.log().contains("lease"), "it says why");
    assert_eq!((may(&first), may(&second)), (401, 200));
}
