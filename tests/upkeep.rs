//! `twofold gc`, `fsck` and `purge`, on a running server and on the folder of one that is stopped.

mod harness;

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use harness::http::{ask, exchange, request};
use harness::{Blob, Client, Random, Server, re, sha256, tool};
use serde_json::Value;
use tonic::Code;

/// Runs a command of the program; its exit code and what it printed for machines.
fn twofold(args: &[&str]) -> (i32, Value) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
    let run = tool::run(command.args(args).arg("--json"));
    let json = run.output.lines().find(|line| line.starts_with('{')).map(serde_json::from_str);
    (run.code, json.and_then(Result::ok).unwrap_or(Value::String(run.output)))
}

fn online(server: &Server, args: &[&str]) -> (i32, Value) {
    twofold(&[args, &["--remote", &server.url()]].concat())
}

fn offline(folder: &Path, args: &[&str]) -> (i32, Value) {
    twofold(&[args, &["--data", folder.to_str().expect("a name in UTF-8")]].concat())
}

fn number(report: &Value, path: &str) -> u64 {
    report.pointer(path).and_then(Value::as_u64).unwrap_or_else(|| panic!("no number at {path}: {report}"))
}

/// What a store was filled with.
struct Filled {
    blobs: Vec<Blob>,
    actions: Vec<(re::Digest, re::ActionResult)>,
}

/// Blobs of every size class, and results that name three of them each.
async fn fill(client: &Client, random: &mut Random) -> Filled {
    let sizes = [100, 1500, 20_000, 300_000, 1_500_000, 5_000_000];
    let blobs: Vec<Blob> = (0..30).map(|n| Blob::random(random, sizes[n % sizes.len()] + n)).collect();
    for blob in &blobs {
        client.write(blob).await.expect("a write");
    }
    let mut actions = Vec::new();
    for outputs in blobs.chunks(3) {
        actions.push(put_result(client, random, outputs).await);
    }
    Filled { blobs, actions }
}

async fn put_result(client: &Client, random: &mut Random, outputs: &[Blob]) -> (re::Digest, re::ActionResult) {
    let output_files = outputs
        .iter()
        .map(|blob| re::OutputFile {
            path: blob.digest.hash.clone(),
            digest: Some(blob.digest.clone()),
            ..Default::default()
        })
        .collect();
    let execution_metadata = Some(re::ExecutedActionMetadata { worker: "w".to_owned(), ..Default::default() });
    let result = re::ActionResult { output_files, execution_metadata, ..Default::default() };
    let action = sha256(&random.bytes(32));
    client.update_action_result(&action, result.clone()).await.expect("an update");
    (action, result)
}

/// How many blobs and results are there; what is served is right.
async fn served(client: &Client, filled: &Filled) -> (usize, usize) {
    let (mut blobs, mut results) = (0, 0);
    for blob in &filled.blobs {
        match client.read(&blob.digest).await {
            Ok(data) => {
                assert!(data == blob.data, "wrong bytes for {blob:?}");
                blobs += 1;
            }
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
        }
    }
    for (action, result) in &filled.actions {
        match client.action_result(action).await {
            Ok(stored) => {
                assert_eq!(stored, *result);
                results += 1;
            }
            Err(status) => assert_eq!(status.code(), Code::NotFound, "{status}"),
        }
    }
    (blobs, results)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
        .expect("a folder of the store")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    files.sort();
    files
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::File::options().read(true).write(true).open(path).expect("a file of the store");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("a byte");
    file.write_all_at(&[byte[0] ^ 4], at).expect("the flipped byte");
}

/// Damages a pack, two files, and adds an orphan.
fn damage(folder: &Path) {
    flip(&files(&folder.join("packs"))[0], 100_000);
    let large = files(&folder.join("files"));
    flip(&large[0], 1_000);
    std::fs::remove_file(&large[1]).expect("removed");
}

#[tokio::test(flavor = "multi_thread")]
async fn fsck_of_a_running_server_finds_damage_and_mends_it() {
    let mut server = Server::start(&[]);
    let filled = fill(&server.client(), &mut Random::new(1)).await;
    let (code, report) = online(&server, &["fsck"]);
    assert_eq!((code, number(&report, "/faults")), (0, 0), "{report}");
    assert_eq!((number(&report, "/blobs"), number(&report, "/records")), (30, 10));
    assert!(server.terminate().success());
    damage(server.folder());
    server.restart();

    // A file that comes after the sweep of the start; that one waits for nobody.
    let (code, report) = online(&server, &["fsck", "--dry-run"]);
    assert_eq!((code, number(&report, "/damaged_blobs"), number(&report, "/lost_blobs")), (1, 2, 1), "{report}");
    std::fs::write(server.folder().join("files/01ARZ3NDEKTSV4RRFFQ69G5FAV"), b"an orphan").expect("written");
    let (code, look) = online(&server, &["fsck", "--dry-run"]);
    assert_eq!((code, number(&look, "/faults")), (1, 4), "a look changes nothing: {look}");
    let (code, mended) = online(&server, &["fsck"]);
    assert_eq!((code, number(&mended, "/faults"), number(&mended, "/orphan_files")), (1, 4, 1), "{mended}");
    let (code, report) = online(&server, &["fsck"]);
    assert_eq!((code, number(&report, "/faults")), (0, 0), "{report}");
    assert_eq!(served(&server.client(), &filled).await.0, 27);
    assert!(!files(&server.folder().join("quarantine")).is_empty());
    for blob in &filled.blobs {
        server.client().write(blob).await.expect("a new write mends the rest");
    }
    assert_eq!(served(&server.client(), &filled).await, (30, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn fsck_of_a_folder_mends_bytes_and_index_and_the_server_goes_on() {
    let mut server = Server::start(&[]);
    let filled = fill(&server.client(), &mut Random::new(2)).await;
    let (code, refused) = offline(server.folder(), &["fsck"]);
    assert_eq!(code, 2);
    assert!(refused.as_str().is_some_and(|text| text.contains("uses the data folder")), "{refused}");
    assert!(server.terminate().success());
    assert_eq!(offline(server.folder(), &["fsck"]).0, 0);
    damage(server.folder());
    let (code, report) = offline(server.folder(), &["fsck"]);
    assert_eq!((code, number(&report, "/damaged_blobs"), number(&report, "/lost_blobs")), (1, 2, 1), "{report}");

    // The index itself: RocksDB cannot open it, and then a server cannot either.
    for file in files(&server.folder().join("index")) {
        if file.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-")) {
            flip(&file, 20);
        }
    }
    let refusal = Command::new(env!("CARGO_BIN_EXE_twofold"))
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(server.folder())
        .output()
        .expect("the built program");
    assert!(!refusal.status.success());
    let (code, report) = offline(server.folder(), &["fsck"]);
    assert_eq!((code, number(&report, "/rebuilt/parts_lost")), (1, 1), "{report}");
    println!("an index without its manifest: {report}");
    assert_eq!(offline(server.folder(), &["fsck"]).0, 0);
    server.restart();
    let (blobs, results) = served(&server.client(), &filled).await;
    assert!((17..=27).contains(&blobs) && results <= 9, "{blobs} blobs, {results} results");
    assert!(server.terminate().success());

    // No index at all: packs and files tell what they hold.
    std::fs::remove_dir_all(server.folder().join("index")).expect("removed");
    let (code, report) = offline(server.folder(), &["fsck"]);
    assert_eq!((code, report.pointer("/rebuilt/from_bytes_alone")), (1, Some(&Value::Bool(true))), "{report}");
    server.restart();
    let (blobs, results) = served(&server.client(), &filled).await;
    assert!(blobs >= 17 && results == 0, "{blobs} blobs, {results} results");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_checks_at_once_do_no_harm() {
    let server = Server::start(&[]);
    let filled = fill(&server.client(), &mut Random::new(3)).await;
    let runs: Vec<(i32, Value)> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..4).map(|_| scope.spawn(|| online(&server, &["fsck"]))).collect();
        runs.into_iter().map(|run| run.join().expect("a check")).collect()
    });
    for (code, report) in &runs {
        let is_refused = report.as_str().is_some_and(|text| text.contains("under way"));
        assert!(*code == 0 || *code == 2 && is_refused, "{code} {report}");
    }
    assert!(runs.iter().any(|(code, _)| *code == 0));
    assert_eq!(served(&server.client(), &filled).await, (30, 10));
}

#[tokio::test(flavor = "multi_thread")]
async fn gc_evicts_to_its_goal_and_says_what_leases_hold() {
    let mut server = Server::start(&["--lease", "1h", "--evict-floor", "0s"]);
    let mut random = Random::new(4);
    let client = server.client();
    let blobs: Vec<Blob> = (0..40).map(|_| Blob::random(&mut random, 1_500_000)).collect();
    for blob in &blobs {
        client.write(blob).await.expect("a write");
    }
    let leased: Vec<re::Digest> = blobs[..10].iter().map(|blob| blob.digest.clone()).collect();
    assert!(client.find_missing(&leased).await.expect("FindMissingBlobs").is_empty());

    let (code, plan) = online(&server, &["gc", "--max-size", "1B", "--dry-run"]);
    assert_eq!((code, number(&plan, "/evicted/blobs"), number(&plan, "/held/blobs")), (0, 30, 10), "{plan}");
    let all: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    let (code, report) = online(&server, &["gc", "--max-size", "1B"]);
    assert_eq!((code, number(&report, "/evicted/blobs"), number(&report, "/held/blobs")), (0, 30, 10), "{report}");
    assert!(number(&report, "/bytes_after") + 40_000_000 < number(&report, "/bytes_before"), "{report}");
    assert!(client.find_missing(&leased).await.expect("FindMissingBlobs").is_empty());
    let missing = client.find_missing(&all).await.expect("FindMissingBlobs");
    assert_eq!(missing.len(), 30, "a dry run evicts nothing, and a run what it says");

    assert!(server.terminate().success());
    // Without a server, --lease says how long its promises count.
    let (code, report) = offline(server.folder(), &["gc", "--unused-for", "0s", "--lease", "1h"]);
    assert_eq!((code, number(&report, "/evicted/blobs"), number(&report, "/held/blobs")), (0, 0, 10), "{report}");
    assert_ne!(twofold(&["gc", "--remote", "grpc://127.0.0.1:1"]).0, 0, "a goal is asked for");
}

#[tokio::test(flavor = "multi_thread")]
async fn purge_drops_what_its_filter_names_and_nothing_else() {
    let server = Server::start(&[]);
    let (mut random, client) = (Random::new(5), server.client());
    let team = server.client().instance("team/a");
    let output = Blob::random(&mut random, 5000);
    client.write(&output).await.expect("a write");
    let here = async |client: &Client, action: &re::Digest| client.action_result(action).await.is_ok();
    let outputs = std::slice::from_ref(&output);
    let (one, _) = put_result(&client, &mut random, outputs).await;
    let (two, _) = put_result(&client, &mut random, outputs).await;
    let (theirs, result) = put_result(&team, &mut random, outputs).await;
    team.update_action_result(&one, result).await.expect("the same action in another instance");
    assert_eq!(ask(server.listener(), &format!("PUT /gradle/team/a/{}", "k".repeat(8)), &[], b"value").code, 200);
    let past = "2020-01-01T00:00:00Z";

    let names = |report: &Value| (number(report, "/records"), number(report, "/blobs"));
    for (args, named) in [
        (vec!["--writer", "anonymous"], (5, 0)),
        (vec!["--writer", "somebody"], (0, 0)),
        (vec!["--instance", "team"], (3, 0)),
        (vec!["--instance", "tea"], (0, 0)),
        (vec!["--before", past], (0, 0)),
        (vec!["--after", "1h"], (5, 0)),
        (vec!["--after", past, "--before", "1h"], (0, 0)),
        (vec!["--writer", "anonymous", "--instance", "team/a", "--after", past], (3, 0)),
        (vec!["--digest", &one.hash], (2, 0)),
        (vec!["--digest", &output.digest.hash], (0, 1)),
    ] {
        let (code, report) = online(&server, &[&["purge", "--dry-run"], &args[..]].concat());
        assert_eq!((code, names(&report)), (0, named), "{args:?}: {report}");
    }
    assert!(
        here(&client, &one).await && here(&client, &two).await && here(&team, &theirs).await,
        "nothing was changed"
    );

    assert_eq!(names(&online(&server, &["purge", "--digest", &one.hash, "--instance", "team/a"]).1), (1, 0));
    assert!(here(&client, &one).await && !here(&team, &one).await);
    assert_eq!(names(&online(&server, &["purge", "--instance", "team/a"]).1), (2, 0));
    assert!(!here(&team, &theirs).await && here(&client, &two).await);
    let digest = format!("{}/{}", output.digest.hash, output.digest.size_bytes);
    assert_eq!(names(&online(&server, &["purge", "--digest", &digest]).1), (0, 1));
    assert!(!client.has(&output.digest).await);
    assert!(!here(&client, &one).await, "a result that names a purged blob is a miss");
    client.write(&output).await.expect("a write");
    assert!(here(&client, &one).await);
    assert_eq!(names(&online(&server, &["purge", "--after", past]).1), (2, 0));
    assert!(!here(&client, &one).await && !here(&client, &two).await);
    assert_ne!(online(&server, &["purge"]).0, 0, "a filter is asked for");
    assert_eq!(online(&server, &["fsck"]).0, 0);
}

#[test]
fn the_admin_api_takes_json_alone_and_streams_lines() {
    let server = Server::start(&[]);
    let json = [("Content-Type", "application/json")];
    let post = |path: &str, headers: &[(&str, &str)], body: &str| {
        exchange(server.listener(), &request(&format!("POST {path}"), headers, body.as_bytes()))
    };
    for (path, body, code) in [
        ("/admin/fsck", r#"{"dry_run":true}"#, 200),
        ("/admin/fsck", r#"{"dryrun":true}"#, 400),
        ("/admin/purge", r#"{"dry_run":true}"#, 400),
        ("/admin/gc", r#"{"max_bytes":"all"}"#, 400),
        ("/admin/format", "{}", 400),
    ] {
        let answer = post(path, &json, body);
        assert_eq!(answer.code, code, "{path} {body}: {}", String::from_utf8_lossy(&answer.body));
    }
    let text = [("Content-Type", "text/plain")];
    assert_eq!(post("/admin/fsck", &text, "{}").code, 415, "a page in a browser could send that");
    assert_eq!(ask(server.listener(), "GET /admin/fsck", &[], b"").code, 405);
    let long = format!(r#"{{"writer":"{}"}}"#, "x".repeat(1 << 20));
    assert_eq!(post("/admin/purge", &json, &long).code, 400);
    let answer = post("/admin/fsck", &json, "{}");
    let body = String::from_utf8_lossy(&answer.body).into_owned();
    assert!(body.contains(r#"{"report":{"fsck":{"dry_run":false,"faults":0,"#), "{body}");
}
