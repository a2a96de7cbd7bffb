//! `twofold serve --upstream`: the embedded store as the near tier of a far server, which is another Twofold, or one that
//! misbehaves.
mod harness;

#[path = "upstream/far.rs"]
mod far;

use std::process::Command;
use std::time::{Duration, Instant};

use far::{Far, Mood};
use futures::future::join_all;
use harness::bazel::{Sample, assert_all_hit, assert_none_hit};
use harness::metrics::Metrics;
use harness::{Blob, Client, Listener, Random, Server, re, say, sha256};
use tonic::Code;

/// What a blob is fetched by: a batch call and whole, a stream and whole, a stream that passes through.
const SIZES: [usize; 3] = [1000, 700_000, 5_000_000];

/// How long something that has to come about may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn near(upstream: &str, args: &[&str]) -> Server {
    Server::start(&[&["--upstream", upstream, "--upstream-timeout", "400ms"], args].concat())
}

/// A near server whose patience outlasts a busy machine.
fn patient(upstream: &str, args: &[&str]) -> Server {
    Server::start(&[&["--upstream", upstream, "--upstream-timeout", "30s"], args].concat())
}

/// Asks until the answer is yes.
async fn until(what: &str, mut ask: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !ask().await {
        assert!(Instant::now() < deadline, "{what} never came about");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn blob(seed: u64, len: usize) -> Blob {
    Blob::random(&mut Random::new(seed), len)
}

fn result_of(blobs: &[Blob]) -> re::ActionResult {
    let file = |(n, blob): (usize, &Blob)| re::OutputFile {
        path: format!("file{n}"),
        digest: Some(blob.digest.clone()),
        ..Default::default()
    };
    re::ActionResult { output_files: blobs.iter().enumerate().map(file).collect(), ..Default::default() }
}

fn code<T: std::fmt::Debug>(answer: Result<T, tonic::Status>) -> Code {
    answer.map_or_else(|status| status.code(), |_| Code::Ok)
}

#[test]
fn bazel_fills_the_far_server_through_one_near_tier_and_is_served_by_another_when_far_is_gone() {
    let mut far = Server::start(&[]);
    let sample = Sample::new();
    let mut first = patient(&far.url(), &[]);
    assert_none_hit("cold, through the near tier", &sample.build(&first.url(), &[]));
    let sent = Metrics::until(&first, "an empty queue", |metrics| metrics.value("twofold_upstream_queued") == 0.0);
    assert_eq!(sent.value("twofold_upstream_up"), 1.0);
    assert!(sent.value("twofold_upstream_sent_total{kind=\"blob\"}") > 0.0);
    assert!(sent.value("twofold_upstream_sent_total{kind=\"action_result\"}") > 0.0);
    assert!(first.terminate().success());
    sample.forget();
    assert_all_hit("the far server alone", &sample.build(&far.url(), &[]));

    let second = patient(&far.url(), &[]);
    sample.forget();
    assert_all_hit("warm, through an empty near tier", &sample.build(&second.url(), &[]));
    far.kill();
    sample.forget();
    assert_all_hit("the near tier with the far server killed", &sample.build(&second.url(), &[]));
    say(second.log().lines().filter(|line| line.contains("far server")).collect::<Vec<_>>().join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_four_readers_of_one_absent_blob_make_one_far_read() {
    let far = Far::start().await;
    let near = patient(&far.url(), &[]);
    let client = near.client();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let blob = blob(seed as u64, size);
        far.put(&blob);
        let before = far.calls("Read");
        far.hold();
        let reads: Vec<_> = (0..64)
            .map(|_| {
                let (client, digest) = (client.clone(), blob.digest.clone());
                tokio::spawn(async move { client.read(&digest).await })
            })
            .collect();
        until("a far read", async || far.calls("Read") > before).await;
        // The first reader goes away; the others are answered all the same.
        reads[0].abort();
        far.release();
        for read in join_all(reads.into_iter().skip(1)).await {
            assert!(read.expect("no panic").expect("a read") == blob.data);
        }
        assert_eq!(far.calls("Read"), before + 1, "{size} bytes");
        say(format!("64 readers of {size} bytes: {} far read", far.calls("Read") - before));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_is_kept_and_needs_the_far_server_no_more() {
    let far = Far::start().await;
    let near = patient(&far.url(), &[]);
    let client = near.client();
    let blobs: Vec<Blob> = SIZES.into_iter().enumerate().map(|(seed, size)| blob(10 + seed as u64, size)).collect();
    blobs.iter().for_each(|blob| far.put(blob));
    let action = sha256(b"an action");
    far.put_result("", &action, &result_of(&blobs));
    assert_eq!(client.action_result(&action).await.expect("far"), client.action_result(&action).await.expect("near"));
    assert_eq!(far.calls("GetActionResult"), 1, "the second answer is near");
    for blob in &blobs {
        let name = client.read_name(&blob.digest);
        let tail = client.read_named(&name, 900, 0).await.expect("the end of a blob");
        assert!(tail == blob.data[900..]);
        let part = client.read_named(&name, 10, 100).await.expect("a part of a blob");
        assert!(part == blob.data[10..110]);
    }
    far.behave(Mood::Refuses);
    for blob in &blobs {
        assert!(client.read(&blob.digest).await.expect("near") == blob.data);
    }
    client.action_result(&action).await.expect("near, all that it names too");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_far_server_is_waited_for_within_the_budget() {
    let far = Far::start().await;
    far.behave(Mood::Slow(Duration::from_millis(300)));
    let near = patient(&far.url(), &[]);
    for (seed, size) in SIZES.into_iter().enumerate() {
        let blob = blob(20 + seed as u64, size);
        far.put(&blob);
        assert!(near.client().read(&blob.digest).await.expect("a read") == blob.data);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_server_that_lies_reaches_nobody() {
    let far = Far::start().await;
    let near = patient(&far.url(), &[]);
    let client = near.client();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let blob = blob(30 + seed as u64, size);
        far.put(&blob);
        far.behave(Mood::Lies);
        let name = client.read_name(&blob.digest);
        for (offset, limit) in [(0, 0), (500, 0), (0, 100)] {
            let lied = client.read_named(&name, offset, limit).await;
            assert!(lied.is_err(), "{size} bytes from {offset}: {} came", lied.expect("checked").len());
        }
        let batch = client.batch_read(std::slice::from_ref(&blob.digest), &[]).await;
        if let Ok(items) = batch {
            assert!(items.iter().all(|item| item.status.as_ref().is_some_and(|status| status.code != 0)));
        }
        far.behave(Mood::Honest);
        assert!(client.read(&blob.digest).await.expect("the truth") == blob.data);
    }
    let log = near.log();
    assert!(log.contains("other bytes than the digest names"), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_server_that_cuts_in_the_middle_gives_a_miss_or_an_error_and_nothing_is_kept() {
    let far = Far::start().await;
    let near = patient(&far.url(), &[]);
    let client = near.client();
    for (seed, size) in SIZES.into_iter().enumerate() {
        let blob = blob(40 + seed as u64, size);
        far.put(&blob);
        far.behave(Mood::Cuts);
        let cut = code(client.read(&blob.digest).await);
        assert!(matches!(cut, Code::NotFound | Code::Unavailable), "{size}: {cut:?}");
        far.behave(Mood::Honest);
        until("the whole blob", async || client.read(&blob.digest).await.is_ok_and(|data| data == blob.data)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_far_server_that_hangs_costs_a_bounded_wait_and_is_then_left_out() {
    for write in ["async", "sync", "off"] {
        let far = Far::start().await;
        let near = near(&far.url(), &["--upstream-write", write]);
        let client = near.client();
        let (there, absent) = (blob(50, 1000), blob(51, 1000));
        far.put(&there);
        let absent_alone = [absent.digest.clone()];
        let asked = [there.digest.clone(), absent.digest.clone()];
        until("a first answer", async || {
            client.find_missing(&asked).await.is_ok_and(|missing| missing == absent_alone)
        })
        .await;

        far.behave(Mood::Hangs);
        let probe = client.find_missing(std::slice::from_ref(&absent.digest)).await;
        assert_eq!(code(probe), Code::Unavailable, "{write}: what cannot be asked is not guessed");
        assert_eq!(code(client.read(&there.digest).await), Code::NotFound, "{write}: a read is a miss");
        assert_eq!(code(client.action_result(&there.digest).await), Code::NotFound, "{write}: so is a result");
        until("leaving it out", async || near.log().contains("it is left out until it answers again")).await;

        assert_eq!(Metrics::of(&near).value("twofold_upstream_up"), 0.0);
        let before = far.calls("");
        assert_eq!(code(client.read(&there.digest).await), Code::NotFound);
        let probe = client.find_missing(std::slice::from_ref(&absent.digest)).await;
        let upload = client.batch_update(std::slice::from_ref(&absent)).await.expect("an answer for each");
        let upload = upload[0].status.as_ref().map_or(0, |status| status.code);
        if write == "sync" {
            assert_eq!(code(probe), Code::Unavailable);
            assert_eq!(upload, Code::Unavailable as i32, "an acknowledged write is on both");
        } else {
            assert_eq!(probe.expect("the near tier alone"), std::slice::from_ref(&absent.digest));
            assert_eq!(upload, 0, "an upload is taken in near");
            assert!(client.read(&absent.digest).await.expect("near") == absent.data);
        }
        if write != "async" {
            assert_eq!(far.calls(""), before, "{write}: nobody asks a server that is left out");
        }

        far.behave(Mood::Honest);
        until("its return", async || client.read(&there.digest).await.is_ok()).await;
        let told = near.log().matches("it is left out").count();
        say(format!("--upstream-write {write}: left out, logged {told} time(s), and back"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_near_server_starts_and_serves_while_nobody_answers_at_the_upstream() {
    let near = near("grpc://127.0.0.1:1", &[]);
    let client = near.client();
    let blob = blob(60, 3_000_000);
    client.write(&blob).await.expect("an upload");
    assert!(client.read(&blob.digest).await.expect("near") == blob.data);
    let action = sha256(b"action");
    client.update_action_result(&action, result_of(&[blob])).await.expect("a result");
    client.action_result(&action).await.expect("near");
    let log = near.log();
    assert_eq!(log.matches("cannot be reached").count(), 1, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_synchronous_write_is_on_both_when_it_is_acknowledged() {
    let far = Far::start().await;
    let near = patient(&far.url(), &["--upstream-write", "sync"]);
    let client = near.client();
    let blobs: Vec<Blob> = SIZES.into_iter().enumerate().map(|(seed, size)| blob(70 + seed as u64, size)).collect();
    for blob in &blobs {
        client.write(blob).await.expect("an upload");
        assert!(far.has(&blob.digest));
    }
    // A blob that only the near tier has goes along with the result that names it.
    far.forget(&blobs[0]);
    let action = sha256(b"action");
    client.update_action_result(&action, result_of(&blobs)).await.expect("a result");
    assert_eq!(far.instances_of(&action), [""]);
    assert_eq!(far.too_early(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_sends_what_waits_and_the_next_start_sends_what_could_not_be() {
    let far = Far::start().await;
    let mut near = patient(&far.url(), &["--drain", "60s"]);
    let client = near.client();
    far.hold();
    let blobs: Vec<Blob> = (0..50).map(|seed| blob(100 + seed, 2000)).collect();
    client.batch_update(&blobs).await.expect("uploads");
    let action = sha256(b"action");
    client.update_action_result(&action, result_of(&blobs)).await.expect("a result");
    assert!(far.instances_of(&action).is_empty(), "the far server answers nobody yet");
    near.ask_to_stop();
    far.release();
    assert!(near.wait_for_end().success());
    assert!(blobs.iter().all(|blob| far.has(&blob.digest)));
    assert_eq!(far.instances_of(&action), [""]);
    assert_eq!(far.too_early(), Vec::<String>::new(), "no result came before its blobs");

    let far = Far::start().await;
    let mut near = patient(&far.url(), &["--drain", "0s"]);
    let client = near.client();
    far.hold();
    client.batch_update(&blobs).await.expect("uploads");
    client.instance("team/a").update_action_result(&action, result_of(&blobs)).await.expect("a result");
    assert!(near.terminate().success());
    assert!(near.log().contains("not all was sent to the far server"), "{}", near.log());
    assert!(far.instances_of(&action).is_empty());
    far.release();
    near.restart();
    until("the result on the far server", async || far.instances_of(&action) == ["team/a"]).await;
    assert!(blobs.iter().all(|blob| far.has(&blob.digest)));
    assert_eq!(far.too_early(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_off_stays_near() {
    let far = Far::start().await;
    let near = patient(&far.url(), &["--upstream-write", "off"]);
    let blob = blob(80, 5000);
    near.client().write(&blob).await.expect("an upload");
    near.client().update_action_result(&sha256(b"action"), result_of(&[blob])).await.expect("a result");
    assert_eq!(far.calls("Write") + far.calls("UpdateActionResult"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_is_asked_once_in_a_while_and_anew_after_a_failed_read() {
    let far = Far::start().await;
    let near = patient(&far.url(), &["--upstream-remember", "1h"]);
    let client = near.client();
    let (here, other) = (blob(90, 1000), blob(91, 1000));
    far.put(&here);
    let asked = [here.digest.clone(), other.digest.clone()];
    assert_eq!(client.find_missing(&asked).await.expect("an answer"), std::slice::from_ref(&other.digest));
    assert_eq!(far.calls("FindMissingBlobs"), 1, "all in one question");
    for _ in 0..3 {
        assert!(client.has(&here.digest).await);
    }
    assert_eq!(far.calls("FindMissingBlobs"), 1);
    far.forget(&here);
    assert_eq!(code(client.read(&here.digest).await), Code::NotFound);
    assert!(!client.has(&here.digest).await, "the failed read told otherwise");
    assert_eq!(far.calls("FindMissingBlobs"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn instances_functions_and_credentials_pass_through() {
    let far = Far::start().await;
    let folder = tempfile::tempdir().expect("a temporary folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "secret\n").expect("a file");
    let token = token.to_str().expect("text");
    let args = ["--upstream-write", "sync", "--upstream-instance", "shared", "--upstream-header", "x-key=value"];
    let near = patient(&far.url(), &[&args[..], &["--upstream-token-file", token]].concat());
    let client = near.client();
    let action = sha256(b"action");
    let blob = Blob::blake3(vec![7; 300_000]);
    let blake3 = client.function(re::digest_function::Value::Blake3);
    blake3.write(&blob).await.expect("an upload");
    assert!(far.has(&blob.digest));
    assert_eq!(far.header("authorization").as_deref(), Some("Bearer secret"));
    assert_eq!(far.header("x-key").as_deref(), Some("value"));
    client.update_action_result(&action, result_of(&[])).await.expect("a result");
    client.instance("team/a").update_action_result(&action, result_of(&[])).await.expect("a result");
    assert_eq!(far.instances_of(&action), ["shared", "shared/team/a"]);
    // SHA-1 is not offered there: near alone.
    let sha1 = client.function(re::digest_function::Value::Sha1);
    let digest = harness::digest_of(&"1".repeat(40), 5);
    assert_eq!(sha1.find_missing(std::slice::from_ref(&digest)).await.expect("an answer"), [digest]);
}

#[test]
fn near_tiers_chain_over_unix_sockets() {
    let far = Server::start_unix(&[]);
    let url = |server: &Server| match server.listener() {
        Listener::Unix(path) => format!("unix:{}", path.display()),
        Listener::Tcp(address) => panic!("asked for a Unix socket, got {address}"),
    };
    let middle = Server::start_unix(&["--upstream", &url(&far), "--upstream-write", "sync"]);
    let near = Server::start_unix(&["--upstream", &url(&middle), "--upstream-write", "sync"]);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let (client, blob) = (near.client(), blob(95, 2_000_000));
        client.write(&blob).await.expect("an upload");
        assert!(Client::connect(far.listener()).read(&blob.digest).await.expect("at the far end") == blob.data);
        let back = Blob::random(&mut Random::new(96), 2_000_000);
        far.client().write(&back).await.expect("an upload");
        assert!(client.read(&back.digest).await.expect("through both") == back.data);
        assert!(middle.client().has(&back.digest).await);
    });
}

#[test]
fn a_wrong_upstream_is_refused_with_a_reason() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    for (args, reason) in [
        (vec!["--upstream", "http://a:1"], "grpc://HOST:PORT"),
        (vec!["--upstream", "grpc://a:1", "--upstream-header", "novalue"], "NAME=VALUE"),
        (vec!["--upstream-user", "ci"], "--upstream"),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_twofold"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(folder.path()).args(&args);
        let output = command.output().expect("the built program");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains(reason), "{args:?}: {said}");
    }
}
