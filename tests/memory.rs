//! Memory is bounded whatever the blob's size: 2 GiB written and read with the server under 300 MiB.

mod harness;

use bytestream::{ReadRequest, WriteRequest};
use futures::{Stream, StreamExt};
use harness::{Client, Random, Server, bytestream, hex, re};
use sha2::{Digest as _, Sha256};

const MIB: u64 = 1 << 20;
const BLOB_BYTES: u64 = 2048 * MIB;
const PIECE_BYTES: u64 = 256 * 1024;
const BOUND_BYTES: u64 = 300 * MIB;

/// What the bytes of the blob are like.
#[derive(Clone, Copy, Debug)]
enum Content {
    Random,
    Compressible,
}

/// The pieces of a blob that is nowhere in memory whole; the same for each call.
fn pieces(content: Content) -> impl Iterator<Item = Vec<u8>> + Send + 'static {
    let mut random = Random::new(42);
    let len = usize::try_from(PIECE_BYTES).expect("a small number");
    // Text is dear to make: a piece is one of a few, and its own number makes it unlike the others.
    let texts: Vec<Vec<u8>> = (0..8).map(|_| random.text(len)).collect();
    (0..BLOB_BYTES / PIECE_BYTES).map(move |number| match content {
        Content::Random => random.bytes(len),
        Content::Compressible => {
            let turn = usize::try_from(number).expect("a small number");
            let mut piece = texts[turn % texts.len()].clone();
            piece[..8].copy_from_slice(&number.to_le_bytes());
            piece
        }
    })
}

fn digest(content: Content) -> re::Digest {
    let mut hash = Sha256::new();
    pieces(content).for_each(|piece| hash.update(&piece));
    re::Digest { hash: hex(&hash.finalize()), size_bytes: i64::try_from(BLOB_BYTES).expect("fits") }
}

fn messages(name: String, content: Content) -> impl Stream<Item = WriteRequest> + Send + 'static {
    let mut resource_name = name;
    let messages = pieces(content).zip((0..).step_by(usize::try_from(PIECE_BYTES).expect("a small number"))).map(
        move |(data, offset)| {
            let write_offset: i64 = offset;
            let finish_write = write_offset as u64 + PIECE_BYTES == BLOB_BYTES;
            WriteRequest { resource_name: std::mem::take(&mut resource_name), write_offset, finish_write, data }
        },
    );
    futures::stream::iter(messages)
}

/// Reads the blob through and hashes it piece by piece.
async fn read(client: &Client, name: String, zstd: Form) -> String {
    let request = ReadRequest { resource_name: name, ..Default::default() };
    let mut stream = client.byte_stream().read(request).await.expect("Read").into_inner();
    let mut hash = Hashing(Sha256::new());
    match zstd {
        Form::Plain => {
            while let Some(message) = stream.next().await {
                hash.0.update(&message.expect("a piece").data);
            }
        }
        Form::Zstd => {
            let mut decoder = zstd::stream::write::Decoder::new(hash).expect("a decoder");
            while let Some(message) = stream.next().await {
                std::io::Write::write_all(&mut decoder, &message.expect("a piece").data).expect("a zstd stream");
            }
            std::io::Write::flush(&mut decoder).expect("the end of the stream");
            hash = decoder.into_inner();
        }
    }
    hex(&hash.0.finalize())
}

/// How a blob travels.
#[derive(Clone, Copy, Debug)]
enum Form {
    Plain,
    Zstd,
}

/// A hash that can be written to.
struct Hashing(Sha256);

impl std::io::Write for Hashing {
    fn write(&mut self, data: &[u8]) -> std::io::Result<usize> {
        self.0.update(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

async fn stays_small(content: Content) {
    let server = Server::start(&["--max-size", "16GiB"]);
    let client = server.client();
    let digest = digest(content);
    let report = |after: &str| {
        let (now, peak) = (server.resident_bytes(), server.peak_resident_bytes());
        println!("{content:?}, after {after}: {} MiB resident, at most {} MiB", now / MIB, peak / MIB);
        assert!(peak < BOUND_BYTES, "{content:?}, after {after}: {} MiB resident at most", peak / MIB);
    };
    report("the start");
    let committed = client.write_stream(messages(client.write_name(&digest), content)).await.expect("Write");
    assert_eq!(committed, digest.size_bytes);
    report("the write of 2 GiB");
    assert_eq!(read(&client, client.read_name(&digest), Form::Plain).await, digest.hash);
    report("the read of 2 GiB");
    assert_eq!(read(&client, client.read_zstd_name(&digest), Form::Zstd).await, digest.hash);
    report("the read of 2 GiB as zstd");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gib_that_do_not_compress_pass_in_300_mib() {
    stays_small(Content::Random).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_gib_that_compress_pass_in_300_mib() {
    stays_small(Content::Compressible).await;
}
