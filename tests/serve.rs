//! `twofold serve` as a program: where it listens, what it refuses, how it stops, and the commands that talk to it.

mod harness;

use std::path::Path;
use std::process::{Command, Output, Stdio};

use harness::{Blob, Random, Server};

fn twofold(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_twofold")).args(args).stdin(Stdio::null()).output().expect("the built program")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

#[test]
fn addresses_beyond_loopback_are_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for address in ["0.0.0.0:0", "[::]:0"] {
        let output = twofold(&["serve", "--listen", address, "--data", path(folder.path())]);
        assert!(!output.status.success());
        assert!(text(&output.stderr).contains("loopback"), "{}", text(&output.stderr));
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn a_second_server_on_the_same_data_is_refused() {
    let server = Server::start(&[]);
    let output = twofold(&["serve", "--listen", "127.0.0.1:0", "--data", path(server.folder())]);
    assert!(!output.status.success());
    let said = text(&output.stderr);
    assert!(said.contains(path(server.folder())), "it says which folder: {said}");
    assert!(output.stdout.is_empty(), "it never says that it listens");
}

#[test]
fn sigterm_ends_it_with_success_and_the_data_stays() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    let blob = Blob::random(&mut Random::new(1), 3_000_000);
    std::fs::write(&file, &blob.data).expect("a file");
    let mut server = Server::start(&[]);
    let put = twofold(&["put", "--remote", &server.url(), path(&file)]);
    assert!(put.status.success(), "{}", text(&put.stderr));
    assert!(server.terminate().success());

    server.restart();
    let digest = format!("{}/{}", blob.digest.hash, blob.digest.size_bytes);
    let got = folder.path().join("got");
    let get = twofold(&["get", "--remote", &server.url(), &digest, "-o", path(&got)]);
    assert!(get.status.success(), "{}", text(&get.stderr));
    assert_eq!(std::fs::read(&got).expect("the fetched file"), blob.data);
}

#[test]
fn a_server_that_nobody_is_connected_to_ends_by_itself_if_told_so() {
    let mut server = Server::start(&["--idle-exit", "100ms"]);
    assert!(server.wait_for_end().success());
}

#[test]
fn a_unix_socket_serves_and_goes_with_the_server() {
    let mut server = Server::start_unix(&[]);
    let harness::Listener::Unix(socket) = server.listener().clone() else { panic!("asked for a Unix socket") };
    let stat = twofold(&["stat", "--json", "--remote", &format!("unix:{}", socket.display())]);
    assert!(stat.status.success(), "{}", text(&stat.stderr));
    let _: serde_json::Value = serde_json::from_slice(&stat.stdout).expect("JSON on standard output");
    assert!(server.terminate().success());
    assert!(!socket.exists());
}

#[test]
fn find_missing_tells_by_its_exit_code() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"here").expect("a file");
    let server = Server::start(&[]);
    let url = server.url();
    let here = harness::sha256(b"here");
    let here = format!("{}/{}", here.hash, here.size_bytes);
    let away = harness::sha256(b"away");
    let away = format!("{}/{}", away.hash, away.size_bytes);
    assert!(twofold(&["put", "--remote", &url, path(&file)]).status.success());

    assert_eq!(twofold(&["find-missing", "--remote", &url, &here]).status.code(), Some(0));
    let missing = twofold(&["find-missing", "--remote", &url, &here, &away]);
    assert_eq!(missing.status.code(), Some(1));
    assert_eq!(text(&missing.stdout).trim(), away);
    let malformed = twofold(&["find-missing", "--remote", &url, "not-a-digest"]);
    assert_eq!(malformed.status.code(), Some(2), "a usage error is neither");
}

#[test]
fn a_client_command_without_a_server_says_so() {
    let stat = twofold(&["stat", "--remote", "grpc://127.0.0.1:1"]);
    assert!(!stat.status.success());
    assert!(text(&stat.stderr).contains("127.0.0.1:1"), "{}", text(&stat.stderr));
}

#[test]
fn help_names_every_flag_of_the_readme() {
    let help = text(&twofold(&["serve", "--help"]).stdout);
    let readme = std::fs::read_to_string(harness::tool::checkout().join("README.md")).expect("README.md");
    let flags = readme.lines().filter_map(|line| line.strip_prefix("| `--")?.split('`').next());
    for flag in flags {
        assert!(help.contains(&format!("--{flag}")), "--{flag} is in README.md and not in --help");
    }
}
