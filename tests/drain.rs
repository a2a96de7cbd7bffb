//! SIGTERM in the middle of an upload and a download of 1 GiB: both are finished within `--drain`, or cut at its end without
//! harm; meanwhile nobody new is let in, and those who watch are told.
mod harness;

use std::io::{Read, Write};
use std::net::TcpStream;

use bytestream::WriteRequest;
use futures::StreamExt;
use harness::{Blob, Client, Random, Server, bytestream, hex, re, say};
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;
use tonic::{Code, Status, Streaming};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

const PIECE_BYTES: usize = 1 << 20;
const PIECES: u64 = 1024;

/// The piece of a blob of 1 GiB with this number: the same bytes but for the number.
fn piece(texture: &[u8], number: u64) -> Vec<u8> {
    let mut piece = texture.to_vec();
    piece[..8].copy_from_slice(&number.to_le_bytes());
    piece
}

/// Two blobs of 1 GiB that are nowhere in memory whole.
struct Large {
    texture: Vec<u8>,
    digest: re::Digest,
}

impl Large {
    fn new(seed: u64) -> Self {
        let texture = Random::new(seed).bytes(PIECE_BYTES);
        let mut hash = Sha256::new();
        (0..PIECES).for_each(|number| hash.update(piece(&texture, number)));
        let size_bytes = i64::try_from(PIECES).expect("small") << 20;
        Self { digest: re::Digest { hash: hex(&hash.finalize()), size_bytes }, texture }
    }

    /// The messages of its upload with these numbers.
    fn messages(
        &self,
        client: &Client,
        numbers: std::ops::Range<u64>,
    ) -> impl Iterator<Item = WriteRequest> + Send + use<> {
        let (name, texture) = (client.write_name(&self.digest), self.texture.clone());
        numbers.map(move |number| WriteRequest {
            resource_name: if number == 0 { name.clone() } else { String::new() },
            write_offset: i64::try_from(number).expect("small") << 20,
            finish_write: number == PIECES - 1,
            data: piece(&texture, number),
        })
    }
}

/// An upload whose messages are given one by one.
fn upload(client: &Client) -> (mpsc::Sender<WriteRequest>, tokio::task::JoinHandle<Result<i64, Status>>) {
    let (send, messages) = mpsc::channel(1);
    let messages = futures::stream::unfold(messages, |mut messages: mpsc::Receiver<WriteRequest>| async move {
        Some((messages.recv().await?, messages))
    });
    let client = client.clone();
    (send, tokio::spawn(async move { client.write_stream(messages).await }))
}

/// A download over HTTP, of which the first mebibyte has been read.
struct Download {
    stream: TcpStream,
    hash: Sha256,
    left: usize,
}

impl Download {
    fn begin(server: &Server, digest: &re::Digest) -> Self {
        let mut stream = TcpStream::connect(server.address()).expect("a listening server");
        let request = format!("GET /cas/{} HTTP/1.1\r\nHost: cache\r\nConnection: close\r\n\r\n", digest.hash);
        stream.write_all(request.as_bytes()).expect("a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).expect("headers");
            head.extend_from_slice(&byte);
        }
        assert!(head.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&head));
        let mut download =
            Self { stream, hash: Sha256::new(), left: usize::try_from(digest.size_bytes).expect("small") };
        assert!(download.read(1), "the first mebibyte");
        download
    }

    /// Reads so many mebibytes; whether they came.
    fn read(&mut self, mebibytes: usize) -> bool {
        let mut bytes = vec![0; PIECE_BYTES];
        for _ in 0..mebibytes {
            if self.stream.read_exact(&mut bytes).is_err() {
                return false;
            }
            self.hash.update(&bytes);
            self.left -= bytes.len();
        }
        true
    }
}

async fn watch(client: &Client) -> Streaming<HealthCheckResponse> {
    let mut watch =
        HealthClient::new(client.channel()).watch(HealthCheckRequest::default()).await.expect("Watch").into_inner();
    let first = watch.next().await.expect("a status").expect("a status");
    assert_eq!(first.status(), ServingStatus::Serving);
    watch
}

/// Waits until the server says that it ends, and lets nobody in any more.
async fn wait_for_drain(server: &Server, watch: &mut Streaming<HealthCheckResponse>) {
    let told = watch.next().await.expect("a status before the end").expect("a status");
    assert_eq!(told.status(), ServingStatus::NotServing);
    while TcpStream::connect(server.address()).is_ok() {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upload_and_a_download_of_one_gib_are_finished_in_a_drain() {
    let mut server = Server::start(&["--max-size", "8GiB", "--drain", "10m"]);
    let client = server.client();
    let (down, up) = (Large::new(1), Large::new(2));
    client.write_stream(futures::stream::iter(down.messages(&client, 0..PIECES))).await.expect("stored");
    let mut watching = watch(&server.client()).await;
    let mut download = Download::begin(&server, &down.digest);
    let (send, uploading) = upload(&client);
    for message in up.messages(&client, 0..PIECES / 2) {
        send.send(message).await.expect("the upload goes on");
    }

    server.ask_to_stop();
    wait_for_drain(&server, &mut watching).await;
    drop(watching);
    assert!(!server.has_ended());
    for message in up.messages(&client, PIECES / 2..PIECES) {
        send.send(message).await.expect("the upload goes on");
    }
    drop(send);
    assert_eq!(uploading.await.expect("a task").expect("finished in the drain"), up.digest.size_bytes);
    let rest = download.left >> 20;
    assert!(download.read(rest), "finished in the drain");
    assert_eq!(hex(&download.hash.finalize()), down.digest.hash);
    drop(client);
    assert!(server.wait_for_end().success());

    server.restart();
    let missing = server.client().find_missing(&[up.digest, down.digest]).await.expect("answers");
    assert!(missing.is_empty(), "what was acknowledged is there: {missing:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_drain_cannot_finish_is_cut_and_leaves_nothing_torn() {
    let mut server = Server::start(&["--max-size", "8GiB", "--drain", "1s"]);
    let client = server.client();
    let (down, up) = (Large::new(1), Large::new(2));
    client.write_stream(futures::stream::iter(down.messages(&client, 0..PIECES))).await.expect("stored");
    let small = Blob::random(&mut Random::new(3), 10_000);
    client.write(&small).await.expect("stored");
    let mut download = Download::begin(&server, &down.digest);
    let (send, uploading) = upload(&client);
    for message in up.messages(&client, 0..PIECES / 2) {
        send.send(message).await.expect("the upload goes on");
    }

    let mut putting = TcpStream::connect(server.address()).expect("a listening server");
    let head = format!("PUT /cas/{} HTTP/1.1\r\nHost: cache\r\nContent-Length: 1000000\r\n\r\nsome", hex(&[7; 32]));
    putting.write_all(head.as_bytes()).expect("the beginning of a request");

    assert!(server.terminate().success(), "ends although its clients do not");
    let cut = uploading.await.expect("a task").expect_err("cut");
    say(format!("an upload that was cut at the end of a drain: {:?}, {}", cut.code(), cut.message()));
    assert_eq!(cut.code(), Code::Unavailable, "what clients ask again for: {cut:?}");
    let mut answer = String::new();
    putting.read_to_string(&mut answer).expect("an answer");
    say(format!("the same over HTTP: {answer}"));
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(
        !download.read(usize::try_from(PIECES).expect("small")),
        "cut before its length, so that nobody takes it for whole"
    );

    server.restart();
    let client = server.client();
    let missing = client.find_missing(&[up.digest.clone(), down.digest, small.digest.clone()]).await.expect("answers");
    assert_eq!(missing, [up.digest], "what was acknowledged is there, and nothing of the rest");
    assert_eq!(client.read(&small.digest).await.expect("the blob"), small.data);
}
