//! Purging what was pushed, and the limits that pushes share with other uploads.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::identity::token;
use crate::harness::{Server, http, tool};
use crate::{TWOFOLD, archive};

/// The configuration in a folder, and a server under it.
fn start(folder: &TempDir, config: &str) -> Server {
    let file = folder.path().join("twofold.toml");
    std::fs::write(&file, config).expect("written");
    let caches = ["--nix-cache", "one", "--nix-cache", "two"];
    Server::start(&[&["--config", file.to_str().expect("a path of UTF-8")], &caches[..]].concat())
}

fn code(server: &Server, line: &str, bearer: &str, body: &[u8]) -> u16 {
    let bearer = format!("Bearer {bearer}");
    let headers: &[(&str, &str)] = if bearer.len() > 7 { &[("Authorization", &bearer)] } else { &[] };
    http::ask(server.listener(), line, headers, body).code
}

#[test]
fn pushed_paths_are_purged_by_who_pushed_them_where_and_when() {
    let folder = TempDir::new().expect("a temporary folder");
    let (ann, anns) = token("ann", &["nix-push"]);
    let (bob, bobs) = token("bob", &["nix-push"]);
    let (root, roots) = token("root", &["admin"]);
    let tokens = folder.path().join("tokens");
    std::fs::write(&tokens, format!("{anns}\n{bobs}\n{roots}\n")).expect("written");
    let server = start(&folder, &format!("[auth]\ntoken_file = {tokens:?}\n"));
    let pushed = [("one", "of-ann", &ann), ("two", "of-ann-too", &ann), ("one", "of-bob", &bob)];
    for (cache, name, who) in pushed {
        let nar = archive::nar(&[("file", name.as_bytes())]);
        let put = |path: String, body: &[u8]| code(&server, &format!("PUT /nix/{cache}/{path}"), who, body);
        assert_eq!(put(format!("nar/{}.nar", archive::hash(&nar)), &nar), 200);
        let narinfo = archive::narinfo(name, &nar);
        assert_eq!(put(format!("{}.narinfo", archive::path_hash(name)), narinfo.as_bytes()), 200);
    }
    let here = |at: usize| {
        let (cache, name, _) = pushed[at];
        code(&server, &format!("GET /nix/{cache}/{}.narinfo", archive::path_hash(name)), &bob, b"") == 200
    };
    let secret = folder.path().join("root");
    std::fs::write(&secret, &root).expect("written");
    // The records that a purge names: of each path its narinfo, its NAR and its upload.
    let purge = |args: &[&str]| -> u64 {
        let mut command = Command::new(TWOFOLD);
        command.args(["purge", "--json", "--remote", &server.url(), "--token-file"]).arg(&secret).args(args);
        let run = tool::run(&mut command).expect_success();
        let report: serde_json::Value = serde_json::from_str(run.line_with("{")).expect("JSON");
        report["records"].as_u64().expect("a count")
    };
    assert!(here(0) && here(1) && here(2));
    let past = "2020-01-01T00:00:00Z";
    assert_eq!(purge(&["--dry-run", "--writer", "somebody"]), 0);
    assert_eq!(purge(&["--dry-run", "--writer", "ann", "--before", past]), 0);
    assert_eq!(purge(&["--dry-run", "--writer", "ann", "--after", past]), 6);
    assert_eq!(purge(&["--dry-run", "--instance", "nix"]), 9);
    assert_eq!(purge(&["--dry-run", "--instance", "nix/one", "--writer", "ann"]), 3);
    assert!(here(0) && here(1) && here(2), "nothing was changed");
    assert_eq!(purge(&["--instance", "nix/one", "--writer", "ann"]), 3);
    assert!(!here(0) && here(1) && here(2));
    assert_eq!(purge(&["--writer", "bob"]), 3);
    assert!(!here(0) && here(1) && !here(2));
    assert_eq!(purge(&["--after", past]), 3);
    assert!(!here(1));
}

#[test]
fn pushes_count_among_all_uploads_and_are_told_to_come_again() {
    let folder = TempDir::new().expect("a temporary folder");
    let server = start(&folder, "[limits]\nconcurrent_uploads = 1\npatience = '200ms'\nno_progress = '30s'\n");
    let nar = archive::nar(&[("file", &[7; 100_000])]);
    let put = |server: &Server| code(server, &format!("PUT /nix/one/nar/{}.nar", archive::hash(&nar)), "", &nar);
    // The one place is held by a push that stands still.
    let other = archive::nar(&[("other", &[8; 100_000])]);
    let mut held = TcpStream::connect(server.address()).expect("the server");
    let request = http::request(&format!("PUT /nix/two/nar/{}.nar", archive::hash(&other)), &[], &other);
    let (begun, rest) = request.split_at(request.len() - 10);
    held.write_all(begun).expect("sent");
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
    while put(&server) != 503 {
        assert!(std::time::Instant::now() < deadline, "a push found a place while all were taken");
    }
    // Uploads of other layers wait for the same places, and the other way around.
    let large = vec![9; 300_000];
    let cas = |server: &Server| http::ask(server.listener(), &format!("PUT /cas/{}", hex(&large)), &[], &large).code;
    assert_eq!(cas(&server), 503);
    held.write_all(rest).expect("sent");
    let mut answer = [0; 12];
    held.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"HTTP/1.1 200");
    drop(held);
    assert_eq!(put(&server), 200);
    assert!(matches!(cas(&server), 200 | 201 | 204));
}

fn hex(bytes: &[u8]) -> String {
    use sha2::Digest;
    data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}
