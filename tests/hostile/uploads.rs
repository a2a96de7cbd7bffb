use std::io::Write;
use std::net::TcpStream;

use tonic::Code;

use super::alone;
use super::bystander::beside;
use super::harness::frames::{DATA, Frames, message};
use super::harness::http::{exchange, request};
use super::harness::{Blob, Random, bytestream, digest_of, pieces};
use prost::Message as _;

const MIB: usize = 1 << 20;

/// Uploads that are under way at a time.
const UPLOADS: usize = 400;

/// Opens so many streams of Write, sends a part of each blob, and leaves them standing.
fn half_sent_writes(address: &str, client_names: Vec<String>, part: &[u8]) -> Vec<Frames> {
    let names = client_names.chunks(50);
    let connections = names.map(|names| {
        // Windows are those of the protocol at first: 64 KiB a connection, so that each stream sends a little.
        let mut frames = Frames::connect(address, 65_535);
        for name in names {
            let stream = frames.call("/google.bytestream.ByteStream/Write");
            let first =
                bytestream::WriteRequest { resource_name: name.clone(), data: part.to_vec(), ..Default::default() };
            frames.frame(DATA, 0, stream, &message(&first.encode_to_vec()));
        }
        frames
    });
    connections.collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_writes_store_nothing() {
    let server = alone();
    let client = server.client();
    let mut random = Random::new(10);
    let blobs: Vec<Blob> = (0..UPLOADS).map(|_| Blob::random(&mut random, 100_000)).collect();
    let names: Vec<String> = blobs.iter().map(|blob| client.write_name(&blob.digest)).collect();
    let address = server.address().to_owned();
    beside(&server, "half-sent Write", 64, move || Box::new(half_sent_writes(&address, names, &[7; 1000]))).await;
    let digests: Vec<_> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(client.find_missing(&digests).await.expect("answers").len(), UPLOADS);
    assert_eq!(client.write(&blobs[0]).await.expect("the real upload"), blobs[0].digest.size_bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn half_sent_puts_store_nothing() {
    let server = alone();
    let client = server.client();
    let mut random = Random::new(11);
    let blob = Blob::random(&mut random, 8 * MIB);
    let whole = request(&format!("PUT /cas/{}", blob.digest.hash), &[], &blob.data);
    let value = request("PUT /webdav/half", &[], &blob.data);
    let address = server.address().to_owned();
    beside(&server, "half-sent PUT", 896, move || {
        let half = |number: usize| {
            let mut stream = TcpStream::connect(&address).expect("a listening server");
            let bytes = if number.is_multiple_of(2) { &whole } else { &value };
            // Once there is no memory, the server takes no more.
            stream.set_write_timeout(Some(std::time::Duration::from_millis(50))).expect("a socket option");
            stream.write_all(&bytes[..2 * MIB]).ok();
            stream
        };
        Box::new((0..UPLOADS).map(half).collect::<Vec<TcpStream>>())
    })
    .await;
    assert!(!client.has(&blob.digest).await);
    let value = exchange(server.listener(), &request("GET /webdav/half", &[], b""));
    assert_eq!(value.code, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn forged_sizes_are_refused_and_take_no_room() {
    let server = alone();
    let client = server.client();
    let blob = Blob::random(&mut Random::new(12), 3000);
    let hash = &blob.digest.hash;
    for (size, code) in [
        ("2999", Code::InvalidArgument),
        ("3001", Code::InvalidArgument),
        ("0", Code::InvalidArgument),
        ("-1", Code::InvalidArgument),
        ("-9223372036854775808", Code::InvalidArgument),
        ("99999999999999999999", Code::InvalidArgument),
        ("1e3", Code::InvalidArgument),
        ("9223372036854775807", Code::ResourceExhausted),
        ("1000000000000", Code::ResourceExhausted),
    ] {
        for form in ["blobs", "compressed-blobs/zstd"] {
            let data = match form {
                "blobs" => blob.data.clone(),
                _ => zstd::encode_all(&blob.data[..], 1).expect("zstd in memory"),
            };
            let name = format!("uploads/0b6ff1d4-2c41-4c38-a7cf-6e1a1f9bd2d5/{form}/{hash}/{size}");
            let refused = client.write_messages(pieces(&name, &data, 1000)).await.expect_err(&name);
            assert_eq!(refused.code(), code, "{name}: {}", refused.message());
        }
        assert!(!client.has(&blob.digest).await);
    }
    let forged = |size_bytes| Blob {
        digest: super::harness::re::Digest { hash: hash.clone(), size_bytes },
        data: blob.data.clone(),
    };
    for size in [2999, 3001, 0, -1, i64::MIN] {
        let item = client.batch_update(&[forged(size)]).await.expect("the call itself").remove(0);
        assert_eq!(item.status.expect("a status").code, i32::from(Code::InvalidArgument), "{size}");
    }
    for size in [i64::MAX, 4_000_001] {
        let refused = client.batch_update(&[forged(size), forged(size)]).await.expect_err("too much together");
        assert_eq!(refused.code(), Code::InvalidArgument);
    }
    let body = |line: &str, size: &str| {
        format!("{line} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\nContent-Length: {size}\r\n\r\n")
    };
    for (path, size, codes) in [
        (format!("/cas/{hash}"), "18446744073709551615", [431, 413]),
        (format!("/cas/{hash}"), "9223372036854775807", [507, 413]),
        (format!("/cas/{hash}"), "100000000000", [507, 413]),
        (format!("/cas/{hash}"), "-1", [400, 400]),
        (format!("/cas/{hash}"), "3000, 3001", [400, 400]),
        ("/webdav/x".to_owned(), "9223372036854775808", [413, 507]),
    ] {
        let answer = exchange(server.listener(), body(&format!("PUT {path}"), size).as_bytes());
        assert!(codes.contains(&answer.code), "{path} {size}: {}", answer.code);
    }
    let digests = [digest_of(hash, 2999), digest_of(hash, 3001), blob.digest.clone()];
    assert_eq!(client.find_missing(&digests).await.expect("answers").len(), 3, "nothing of it was stored");
    assert_eq!(client.write(&blob).await.expect("the real upload"), 3000, "the room is given back");
}
