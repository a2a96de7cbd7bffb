//! The configuration of the built program: file, variables and flags, `twofold config`, SIGHUP, and what it refuses.
mod harness;

use std::path::Path;
use std::process::Command;

use harness::bytestream::WriteRequest;
use harness::identity::token;
use harness::tool::{Run, run};
use harness::{Blob, Client, Random, Server, http, re, sha256};
use serde_json::Value;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::{Code, Status};

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

/// An upload of `blob` whose first half is sent; the rest comes when the sender is used.
fn half(client: &Client, blob: &Blob) -> (mpsc::UnboundedSender<WriteRequest>, JoinHandle<Result<i64, Status>>) {
    let (send, messages) = mpsc::unbounded_channel();
    let (resource_name, data) = (client.write_name(&blob.digest), blob.data[..blob.data.len() / 2].to_vec());
    send.send(WriteRequest { resource_name, data, ..Default::default() }).expect("the other end is here");
    let messages =
        futures::stream::unfold(messages, |mut messages| async move { Some((messages.recv().await?, messages)) });
    let client = client.clone();
    (send, tokio::spawn(async move { client.write_stream(messages).await }))
}

/// The messages of an upload in two halves.
async fn write_in_two(client: &Client, blob: &Blob) -> Result<i64, Status> {
    let pieces = harness::pieces(&client.write_name(&blob.digest), &blob.data, blob.data.len().div_ceil(2));
    client.write_messages(pieces).await
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_refuse_what_is_over_them_and_follow_the_file() {
    let folder = TempDir::new().expect("a temporary folder");
    let file = write(&folder, "c.toml", "[limits]\nconcurrent_uploads = 1\npatience = '100ms'\nmessage = '8MiB'\n");
    let limits = ["--limit", "zstd_window=1MiB", "--limit", "zstd_ratio=1000"];
    let server = Server::start(&[&["--config", &file][..], &limits].concat());
    let client = server.client();
    let mut random = Random::new(1);
    let blobs: Vec<Blob> = (0..3).map(|_| Blob::random(&mut random, 1_000_000)).collect();

    // One upload has the one place; whole small ones pass, others are told to come back.
    let (rest, held) = half(&client, &blobs[0]);
    let busy = loop {
        // Each is a new one: a blob that is here is answered at once and asks for no place.
        match write_in_two(&client, &Blob::random(&mut random, 1_000_000)).await {
            Ok(_) => {}
            Err(status) => break status,
        }
    };
    assert_eq!(busy.code(), Code::ResourceExhausted, "{busy}");
    assert!(!busy.details().is_empty(), "it says when to come back: {busy:?}");
    let put = http::ask(server.listener(), "PUT /webdav/x", &[], b"x");
    assert_eq!((put.code, put.header("retry-after")), (503, "1"));
    client.write(&Blob::new("small")).await.expect("whole in its first message");

    let frame = |log: u32, len: usize| {
        let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a context");
        encoder.window_log(log).expect("a window");
        encoder.include_contentsize(false).expect("settable");
        let zeros = vec![0; 1 << 20];
        (0..len >> 20).for_each(|_| std::io::Write::write_all(&mut encoder, &zeros).expect("memory"));
        encoder.finish().expect("memory")
    };
    let packed = async |log, len: usize| {
        let digest = sha256(&vec![0; len]);
        let line = format!("PUT /cas/{}", digest.hash);
        let size = len.to_string();
        let headers = [("Content-Encoding", "zstd"), ("X-Digest-SizeBytes", &*size)];
        http::ask(server.listener(), &line, &headers, &frame(log, len)).code
    };
    let large = |len| re::FindMissingBlobsRequest { instance_name: "x".repeat(len), ..Default::default() };
    let ask = async |len| client.cas().find_missing_blobs(large(len)).await.map(drop).map_err(|status| status.code());
    assert_eq!(ask(9 << 20).await, Err(Code::ResourceExhausted));
    assert_eq!(ask(1 << 20).await, Err(Code::InvalidArgument), "no such name");

    write(&folder, "c.toml", "[limits]\nconcurrent_uploads = 2\npatience = '100ms'\nno_progress = '300ms'\n");
    server.hang_up();
    server.wait_for_log("SIGHUP: the settings were read again", 1);
    assert_eq!(write_in_two(&client, &blobs[1]).await.expect("a second place"), 1_000_000);
    assert_eq!(ask(9 << 20).await, Err(Code::InvalidArgument), "16 MiB by default");
    assert_eq!((packed(20, 2 << 20).await, packed(21, 2 << 20).await), (200, 400), "windows of 1 and 2 MiB");
    assert_eq!(packed(20, 300 << 20).await, 400, "zeros are dense");
    let (_rest, still) = half(&client, &blobs[2]);
    let ended = still.await.expect("a task").expect_err("it stands still");
    assert_eq!(ended.code(), Code::DeadlineExceeded, "{ended}");
    // What began before keeps what it was given.
    let data = blobs[0].data[500_000..].to_vec();
    rest.send(WriteRequest { write_offset: 500_000, finish_write: true, data, ..Default::default() }).expect("open");
    assert_eq!(held.await.expect("a task").expect("stored"), 1_000_000);
}

#[test]
fn limits_are_named_checked_and_shown() {
    let folder = TempDir::new().expect("a temporary folder");
    let bad = "[limits]\nmessage = '1MiB'\nconcurrent_uploads = 0\nzstd_window = '3MiB'\nzstd_ratio = -1\n";
    let run = twofold(&["config", "check", &write(&folder, "bad.toml", bad)]);
    assert_eq!(run.code, 1);
    assert!(run.output.contains("limits.zstd_ratio"), "{}", run.output);
    let run = twofold(&["config", "check", &write(&folder, "bad.toml", &bad.replace("-1", "1"))]);
    for key in ["limits.message", "limits.concurrent_uploads", "limits.zstd_window"] {
        assert!(run.output.contains(key), "{key}: {}", run.output);
    }
    let mut command = program(&["config", "show", "--limit", "message=9MiB", "--limit", "concurrent_uploads=7"]);
    let shown = self::run(command.env("TWOFOLD_LIMIT", "message=8MiB")).expect_success().output;
    for line in [
        "message = \"9.0 MiB\"",
        "concurrent_uploads = 7",
        "zstd_window = \"8.0 MiB\"",
        "zstd_ratio = 10000",
        "patience = \"10s\"",
    ] {
        assert!(shown.contains(line), "{line}:\n{shown}");
    }
    let shown = write(&folder, "shown.toml", &shown);
    twofold(&["config", "check", &shown]).expect_success();
    let refused = twofold(&["config", "show", "--limit", "streams=1"]);
    assert!(refused.code != 0 && refused.output.contains("limits.streams"), "{}", refused.output);
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
