use std::io::{Read, Write};
use std::net::TcpStream;

use prost::Message as _;

use super::alone;
use super::bystander::beside;
use super::harness::frames::{
    CONTINUATION, DATA, END_HEADERS, END_STREAM, Frames, GOAWAY, HEADERS, RST_STREAM, SETTINGS, call_headers, frame,
    header, message,
};
use super::harness::http::exchange;
use super::harness::{Blob, Random, bytestream};

const CANCEL: [u8; 4] = 8u32.to_be_bytes();

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).expect("a listening server");
    stream.set_read_timeout(Some(std::time::Duration::from_secs(60))).expect("a socket option");
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_connections_hold_little_memory() {
    let server = alone();
    let address = server.address().to_owned();
    beside(&server, "1000 idle connections", 128, move || {
        let silent: Vec<TcpStream> = (0..500).map(|_| connect(&address)).collect();
        let greeted = |_| {
            let mut frames = Frames::connect(&address, 65_535);
            frames.wait_for(SETTINGS).expect("a greeting in return");
            frames
        };
        Box::new((silent, (0..500).map(greeted).collect::<Vec<Frames>>()))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_that_never_end_hold_little_memory() {
    let server = alone();
    let address = server.address().to_owned();
    beside(&server, "1000 slow headers", 128, move || {
        let mut slow: Vec<TcpStream> = (0..1000).map(|_| connect(&address)).collect();
        for byte in b"GET /healthz HTTP/1.1\r\nX-Slow: a".chunks(8) {
            for stream in &mut slow {
                stream.write_all(byte).expect("the server waits for more");
            }
        }
        Box::new(slow)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn header_floods_are_refused() {
    let server = alone();
    let many: String = (0..20_000).map(|number| format!("X-{number}: {number}\r\n")).collect();
    for headers in [many, format!("X-Long: {}\r\n", "a".repeat(2 << 20))] {
        let request = format!("GET /healthz HTTP/1.1\r\nHost: cache\r\n{headers}\r\n");
        let mut stream = connect(server.address());
        // The server answers and closes before all is sent.
        stream.write_all(request.as_bytes()).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let line = String::from_utf8_lossy(&answer[..answer.len().min(12)]).into_owned();
        assert!(matches!(&*line, "HTTP/1.1 431" | "HTTP/1.1 400" | ""), "{line}");
    }
    let address = server.address().to_owned();
    beside(&server, "endless CONTINUATION frames", 128, move || {
        let flood = |_| {
            let mut frames = Frames::connect(&address, 65_535);
            let stream = frames.take_stream();
            let block: Vec<u8> = (0..100).flat_map(|number| header(&format!("x-{number}"), &"v".repeat(100))).collect();
            frames.frame(HEADERS, 0, stream, &call_headers("/google.bytestream.ByteStream/Read"));
            // 11 MB of headers, if the server took them.
            (0..1000).take_while(|_| frames.frame(CONTINUATION, 0, stream, &block)).count();
            frames.frame(CONTINUATION, END_HEADERS, stream, &[]);
            frames
        };
        Box::new((0..20).map(flood).collect::<Vec<Frames>>())
    })
    .await;
}

/// Opens `calls` streams and drops each at once, on as many connections as the server makes it take; how many those were.
fn open_and_drop(address: &str, calls: usize, request: &[u8]) -> usize {
    let mut connections = 0;
    let mut opened = 0;
    while opened < calls {
        let mut frames = Frames::connect(address, 65_535);
        connections += 1;
        for _ in 0..1000 {
            let stream = frames.call("/google.bytestream.ByteStream/Read");
            let sent = frames.frame(DATA, END_STREAM, stream, request) && frames.frame(RST_STREAM, 0, stream, &CANCEL);
            opened += 1;
            if !sent || opened == calls {
                break;
            }
        }
    }
    connections
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_streams_that_are_opened_and_dropped() {
    let server = alone();
    let client = server.client();
    let blob = Blob::random(&mut Random::new(30), 8 << 20);
    client.write(&blob).await.expect("stored");
    let asked = bytestream::ReadRequest { resource_name: client.read_name(&blob.digest), ..Default::default() };
    let asked = message(&asked.encode_to_vec());
    let address = server.address().to_owned();
    beside(&server, "10,000 streams opened and reset", 256, move || {
        let connections = open_and_drop(&address, 10_000, &asked);
        super::harness::say(format!("10,000 streams opened and reset: on {connections} connections"));
        Box::new(())
    })
    .await;

    // The same by an ordinary library: calls that begin, give a message, and are dropped. Its own connection does not live
    // long that way.
    for _ in 0..100 {
        let client = server.client();
        let calls = (0..100).map(|_| {
            let (mut stub, name) = (client.byte_stream(), client.read_name(&blob.digest));
            async move {
                let request = bytestream::ReadRequest { resource_name: name, ..Default::default() };
                let mut stream = stub.read(request).await.expect("a stream").into_inner();
                stream.message().await.expect("a message").expect("bytes").data.len()
            }
        });
        assert!(futures::future::join_all(calls).await.iter().all(|len| *len > 0));
    }
    assert!(client.read(&blob.digest).await.expect("still served") == blob.data);
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_is_refused_or_closed() {
    let server = alone();
    let mut random = Random::new(31);
    let tls_hello = [&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3][..], &random.bytes(500)].concat();
    let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    let settings = frame(SETTINGS, 0, 0, &[]);
    let frames = [
        frame(DATA, 0, 0, b"on no stream"),
        frame(DATA, 0, 1, b"on a stream that is not open"),
        frame(HEADERS, END_HEADERS, 2, &call_headers("/x")),
        frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        frame(SETTINGS, 0, 0, b"odd"),
        frame(SETTINGS, 0, 0, &[0, 4, 0xff, 0xff, 0xff, 0xff]),
        frame(CONTINUATION, 0, 1, b"of nothing"),
        [&[0xff; 3][..], &[DATA, 0, 0, 0, 0, 1]].concat(),
        [0xff; 400].to_vec(),
    ];
    let garbage = frames.iter().map(|frame| [&preface[..], &settings, frame].concat());
    for bytes in
        garbage.chain([tls_hello, random.bytes(1000), b"\0\0\0\0\0\0\0\0".repeat(100), b"GET\r\n\r\n".to_vec()])
    {
        let mut stream = connect(server.address());
        stream.write_all(&bytes).ok();
        stream.shutdown(std::net::Shutdown::Write).ok();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).ok();
        let is_refusal = answer.starts_with(b"HTTP/1.1 4") || answer.is_empty() || answer[3..].starts_with(&[SETTINGS]);
        assert!(is_refusal, "{bytes:?}: {answer:?}");
    }
    let mut frames = Frames::connect(server.address(), 65_535);
    frames.frame(DATA, 0, 0, b"on no stream");
    assert!(frames.wait_for(GOAWAY).is_some(), "a peer that breaks the protocol is told so");
    let smuggled = b"POST /v8/artifacts/events HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    assert_eq!(exchange(server.listener(), smuggled).code, 400, "two lengths");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}
