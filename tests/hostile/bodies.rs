use prost::Message as _;
use tonic::Code;

use super::alone;
use super::bystander::beside;
use super::harness::frames::{Frames, message};
use super::harness::http::{exchange, request};
use super::harness::re::batch_update_blobs_request::Request;
use super::harness::{Blob, Random, pieces, re};

const MIB: usize = 1 << 20;

/// A frame of zstd that is small and opens to so many zeros.
fn bomb(len: usize) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a context");
    let zeros = vec![0; MIB];
    (0..len / MIB).for_each(|_| std::io::Write::write_all(&mut encoder, &zeros).expect("memory"));
    encoder.finish().expect("memory")
}

/// A frame that asks for a window of 128 MiB, and for little else.
fn wide(data: &[u8]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).expect("a context");
    encoder.window_log(27).expect("a legal window");
    encoder.include_contentsize(false).expect("settable");
    std::io::Write::write_all(&mut encoder, data).expect("memory");
    encoder.finish().expect("memory")
}

#[tokio::test(flavor = "multi_thread")]
async fn zip_bombs_are_refused_by_every_way_in() {
    let server = alone();
    let client = server.client();
    let blob = Blob::random(&mut Random::new(40), 100_000);
    let packed = bomb(1 << 30);
    assert!(packed.len() < 100_000, "{}", packed.len());
    let wide = wide(&blob.data);
    for (what, bytes) in [("a bomb", &packed), ("a wide window", &wide)] {
        let name = client.write_zstd_name(&blob.digest);
        let refused = client.write_messages(pieces(&name, bytes, 16_000)).await.expect_err(what);
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}");
        let item = Request { digest: Some(blob.digest.clone()), data: bytes.clone(), compressor: 1 };
        let item = client.batch_update_requests(vec![item]).await.expect("the call itself").remove(0);
        assert_eq!(item.status.expect("a status").code, i32::from(Code::InvalidArgument), "{what}");
        let line = format!("PUT /cas/{}", blob.digest.hash);
        let size = blob.data.len().to_string();
        for (headers, code) in [
            (&[("Content-Encoding", "zstd"), ("X-Digest-SizeBytes", &*size)][..], 400),
            (&[("Content-Encoding", "zstd")], 413),
        ] {
            let answer = exchange(server.listener(), &request(&line, headers, bytes));
            let expected = if what == "a bomb" { code } else { 400 };
            assert_eq!(answer.code, expected, "{what} {headers:?}");
        }
        assert!(!client.has(&blob.digest).await, "{what}");
    }
    let (address, name) = (server.listener().clone(), client.write_zstd_name(&blob.digest));
    let line = format!("PUT /cas/{}", blob.digest.hash);
    let runtime = tokio::runtime::Handle::current();
    beside(&server, "64 zip bombs at a time", 256, move || {
        let bodies = std::thread::spawn(move || {
            for _ in 0..8 {
                let answer = exchange(&address, &request(&line, &[("Content-Encoding", "zstd")], &packed));
                assert_eq!(answer.code, 413);
            }
            packed
        });
        let packed = bodies.join().expect("each is refused");
        runtime.block_on(async {
            let writes = (0..64).map(|_| client.write_messages(pieces(&name, &packed, 16_000)));
            for refused in futures::future::join_all(writes).await {
                assert_eq!(refused.expect_err("a bomb").code(), Code::InvalidArgument);
            }
        });
        Box::new(())
    })
    .await;
    assert!(!server.client().has(&blob.digest).await);
}

/// Messages of 15 MiB that come as far as the server lets them and never to their end; the bytes that came of all.
fn unfinished_messages(address: &str, streams: usize) -> (Vec<Frames>, usize) {
    let unfinished = message(&vec![0; 15 * MIB]);
    let unfinished = &unfinished[..unfinished.len() - 1];
    let mut poured = 0;
    let connections = (0..10).map(|_| {
        let mut frames = Frames::connect(address, 65_535);
        for _ in 0..streams {
            let stream = frames.call("/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs");
            poured += frames.pour(stream, unfinished);
        }
        frames
    });
    (connections.collect(), poured)
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_never_end_share_bounded_memory() {
    let server = alone();
    let address = server.address().to_owned();
    beside(&server, "100 messages of 15 MiB without their last byte", 640, move || {
        let (held, poured) = unfinished_messages(&address, 10);
        super::harness::say(format!("100 messages of 15 MiB without their last byte: {} MiB were taken", poured / MIB));
        Box::new(held)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn oversize_messages_have_their_codes() {
    let server = alone();
    let client = server.client();
    let large = Blob::new(vec![1; 17 * MIB]);
    let refused = client.batch_update(std::slice::from_ref(&large)).await.expect_err("17 MiB");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let data = vec![2; 17 * MIB];
    let whole = super::harness::bytestream::WriteRequest {
        resource_name: client.write_name(&large.digest),
        data,
        finish_write: true,
        ..Default::default()
    };
    let refused = client.write_messages(vec![whole]).await.expect_err("17 MiB in one message");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    let blobs: Vec<Blob> = (0..5).map(|number| Blob::new(vec![number; MIB])).collect();
    let refused = client.batch_update(&blobs).await.expect_err("5 MiB together");
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(!client.has(&large.digest).await && !client.has(&blobs[0].digest).await);
    let request = re::BatchReadBlobsRequest { digests: vec![blobs[0].digest.clone(); 100_000], ..Default::default() };
    assert!(request.encoded_len() < 16 * MIB);
    let refused = client.cas().batch_read_blobs(request).await.expect_err("100 GB together");
    assert_eq!(refused.code(), Code::InvalidArgument);
}
