//! A full disk: writes are refused with RESOURCE_EXHAUSTED, reads go on, and writes work again once there is room.

mod harness;

use std::time::{Duration, Instant};

use futures::Stream;
use harness::bytestream::WriteRequest;
use harness::tmpfs::{Tmpfs, fill_up};
use harness::{Blob, Client, Random, Server, digest_of, re, sha256};
use tokio::sync::mpsc;
use tonic::{Code, Status};

const BALLAST_BYTES: usize = 24 << 20;
/// How long writes may go on failing after room was made.
const PATIENCE: Duration = Duration::from_secs(60);

/// Writes new blobs of `size` until one is refused; those there, each promised, and the refusal.
///
/// What nobody was promised may be evicted to make room; what was promised may not, so the disk fills up.
async fn fill(client: &Client, random: &mut Random, size: usize) -> (Vec<re::Digest>, Status) {
    let mut promised = Vec::new();
    // More than the disk holds, whatever the size.
    for _ in 0..200_000_000 / size {
        let blob = Blob::random(random, size);
        match client.write(&blob).await {
            Ok(_) if client.has(&blob.digest).await => promised.push(blob.digest),
            Ok(_) => {}
            Err(status) => return (promised, status),
        }
    }
    panic!("no write was refused");
}

/// Asks whether callers should be sent here until the answer has this code, and gives its text.
async fn readiness(server: &Server, code: u16) -> String {
    let asked = Instant::now();
    loop {
        let answer = harness::http::ask(server.listener(), "GET /readyz", &[], b"");
        let text = String::from_utf8_lossy(&answer.body).into_owned();
        if answer.code == code {
            return text;
        }
        assert!(asked.elapsed() < PATIENCE, "still {} after {PATIENCE:?}: {text}", answer.code);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn read_all(client: &Client, digests: &[re::Digest]) {
    for digest in digests {
        let data = client.read(digest).await.unwrap_or_else(|status| panic!("{digest:?}: {status}"));
        assert_eq!(sha256(&data), *digest);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_serves_reads_and_recovers() {
    let owned = tempfile::tempdir().expect("a temporary folder");
    let disk = Tmpfs::mount(&owned.path().join("disk"), "96m");
    let ballast = disk.0.join("ballast");
    std::fs::write(&ballast, vec![1; BALLAST_BYTES]).expect("the ballast");
    let mut server = Server::start_in(&disk.0.join("data"), &["--max-size", "1GiB"]);
    let client = server.client();
    let mut random = Random::new(7);

    assert_eq!(readiness(&server, 200).await, "ready\n");
    let (mut kept, refusal) = fill(&client, &mut random, 300_000).await;
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(kept.len() > 20, "only {} blobs fitted", kept.len());
    // The server leaves a little room; something else takes that too.
    let rest = disk.0.join("rest");
    fill_up(&rest);
    assert!(readiness(&server, 503).await.starts_with("disk full"));
    let small = Blob::random(&mut random, 100);
    let batch: Vec<Blob> = (0..10).map(|_| Blob::random(&mut random, 200_000)).collect();
    for response in client.batch_update(&batch).await.expect("the call itself succeeds") {
        let status = response.status.unwrap_or_default();
        assert_eq!(status.code, i32::from(Code::ResourceExhausted), "{}", status.message);
    }
    let large = Blob::random(&mut random, 30_000_000);
    assert_eq!(client.write(&large).await.map_err(|status| status.code()), Err(Code::ResourceExhausted));
    if let Err(status) = client.write(&small).await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    } else if client.has(&small.digest).await {
        kept.push(small.digest);
    }
    let action = sha256(b"an action");
    let result = re::ActionResult { exit_code: 3, ..Default::default() };
    if let Err(status) = client.update_action_result(&action, result).await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
    }

    assert!(client.find_missing(&kept).await.expect("FindMissingBlobs").is_empty());
    read_all(&client, &kept).await;
    let refused: Vec<re::Digest> = batch.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(client.find_missing(&refused).await.expect("FindMissingBlobs").len(), refused.len());

    std::fs::remove_file(&rest).expect("room");
    std::fs::remove_file(&ballast).expect("more room");
    let freed = Instant::now();
    let blob = Blob::random(&mut random, 300_000);
    while let Err(status) = client.write(&blob).await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(freed.elapsed() < PATIENCE, "no write works {PATIENCE:?} after room was made: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    println!(
        "{} blobs fitted; writes work again {:.2} s after room was made",
        kept.len(),
        freed.elapsed().as_secs_f64()
    );
    assert_eq!(readiness(&server, 200).await, "ready\n");
    assert!(client.has(&blob.digest).await);
    kept.push(blob.digest);
    let action = sha256(b"another action");
    let result = re::ActionResult { exit_code: 4, ..Default::default() };
    client.update_action_result(&action, result).await.expect("there is room");
    read_all(&client, &kept).await;

    server.kill();
    server.restart();
    let client = server.client();
    read_all(&client, &kept).await;
    assert_eq!(client.action_result(&action).await.expect("the stored result").exit_code, 4);
    drop(server);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_takes_nothing_that_was_written_a_short_while_ago() {
    let owned = tempfile::tempdir().expect("a temporary folder");
    let disk = Tmpfs::mount(&owned.path().join("disk"), "96m");
    let server = Server::start_in(&disk.0.join("data"), &["--max-size", "1GiB", "--evict-floor", "1h"]);
    let client = server.client();
    let mut random = Random::new(8);
    let mut written = Vec::new();
    let refusal = loop {
        let blob = Blob::random(&mut random, 300_000);
        match client.write(&blob).await {
            Ok(_) => written.push(blob.digest),
            Err(status) => break status,
        }
    };
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    assert!(refusal.message().contains("written in the last"), "{refusal}");
    let put = harness::http::ask(server.listener(), "PUT /webdav/x", &[], &random.bytes(20_000_000));
    assert_eq!(put.code, 507);
    // Nobody has asked for any of them since they were acknowledged.
    read_all(&client, &written).await;
}

/// The first message of an upload of `digest`, and nothing behind it until `more` is sent or dropped.
fn begun(
    client: &Client,
    digest: &re::Digest,
) -> (mpsc::UnboundedSender<WriteRequest>, impl Stream<Item = WriteRequest> + use<>) {
    let (more, coming) = mpsc::unbounded_channel();
    let resource_name = client.write_name(digest);
    more.send(WriteRequest { resource_name, data: vec![1; 1000], ..Default::default() })
        .expect("the other end is here");
    (more, futures::stream::unfold(coming, |mut coming| async move { Some((coming.recv().await?, coming)) }))
}

#[tokio::test(flavor = "multi_thread")]
async fn room_is_set_aside_before_the_bytes_come_and_given_back_when_they_do_not() {
    let owned = tempfile::tempdir().expect("a temporary folder");
    let disk = Tmpfs::mount(&owned.path().join("disk"), "96m");
    let server = Server::start_in(&disk.0.join("data"), &["--max-size", "1GiB"]);
    let client = server.client();
    let of_size = |name: &str, len: usize| digest_of(&sha256(name.as_bytes()).hash, len);

    // More than the disk holds is refused at its first message, though the rest never comes.
    let (_more, upload) = begun(&client, &of_size("too large", 500 << 20));
    let refusal = client.write_stream(upload).await.expect_err("there is no room");
    assert_eq!(refusal.code(), Code::ResourceExhausted, "{refusal}");
    let head = format!(
        "PUT /cas/{} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        "ab".repeat(32),
        500 << 20
    );
    assert_eq!(harness::http::exchange(server.listener(), head.as_bytes()).code, 507);

    // What is under way holds its room, and gives it back when the client goes away.
    let (more, upload) = begun(&client, &of_size("under way", 70 << 20));
    let holder = tokio::spawn(async move { client.write_stream(upload).await });
    let client = server.client();
    let late = Blob::random(&mut Random::new(9), 40 << 20);
    let short = client.write_name(&late.digest);
    loop {
        // Cut short, so that it fails in any case: for want of bytes until the other has its room, for want of room then.
        let cut = vec![WriteRequest { resource_name: short.clone(), finish_write: true, ..Default::default() }];
        let failure = client.write_messages(cut).await.expect_err("an upload cut short");
        match failure.code() {
            Code::ResourceExhausted => break,
            code => assert_eq!(code, Code::InvalidArgument, "{failure}"),
        }
    }
    drop(more);
    holder.abort();
    let freed = Instant::now();
    while let Err(status) = client.write(&late).await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status}");
        assert!(freed.elapsed() < PATIENCE, "the room was not given back: {status}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    read_all(&client, std::slice::from_ref(&late.digest)).await;
}
