use std::io::Write;
use std::net::TcpStream;

use prost::Message as _;

use super::alone;
use super::bystander::beside;
use super::harness::frames::{DATA, END_STREAM, Frames, message};
use super::harness::http::request;
use super::harness::{Blob, Random, bytestream};

const MIB: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn downloads_that_nobody_takes_hold_little_memory() {
    let server = alone();
    let client = server.client();
    let blob = Blob::random(&mut Random::new(20), 64 * MIB);
    client.write(&blob).await.expect("stored");
    let get = request(&format!("GET /cas/{}", blob.digest.hash), &[], b"");
    let address = server.address().to_owned();
    beside(&server, "HTTP downloads that nobody takes", 640, move || {
        let ask = |_| {
            let mut stream = TcpStream::connect(&address).expect("a listening server");
            stream.write_all(&get).expect("a request");
            stream
        };
        Box::new((0..600).map(ask).collect::<Vec<TcpStream>>())
    })
    .await;
    assert!(client.read(&blob.digest).await.expect("still served") == blob.data);
}

/// Asks for a blob on so many streams of a connection; the server may send `window` bytes on each.
fn ask_and_wait(address: &str, name: &str, streams: usize, window: u32) -> Frames {
    let mut frames = Frames::connect(address, window);
    let asked = bytestream::ReadRequest { resource_name: name.to_owned(), ..Default::default() };
    let asked = message(&asked.encode_to_vec());
    for _ in 0..streams {
        let stream = frames.call("/google.bytestream.ByteStream/Read");
        frames.frame(DATA, END_STREAM, stream, &asked);
    }
    frames
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_whose_window_stays_shut_hold_little_memory() {
    let server = alone();
    let client = server.client();
    let blob = Blob::random(&mut Random::new(21), 64 * MIB);
    client.write(&blob).await.expect("stored");
    for (window, name) in [(0, "reads with a shut window"), (1, "reads with a window of one byte")] {
        let (address, read) = (server.address().to_owned(), client.read_name(&blob.digest));
        beside(&server, name, 640, move || {
            Box::new((0..20).map(|_| ask_and_wait(&address, &read, 50, window)).collect::<Vec<Frames>>())
        })
        .await;
    }
}
