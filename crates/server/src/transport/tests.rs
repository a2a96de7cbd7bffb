use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::stream;
use http::{Request, Response, Version};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinHandle;
use tonic::body::Body;

use super::*;
use crate::listen::Listener;

const BIG: usize = 64 * 1024 * 1024;

/// Answers `/` with what is known of the caller, `/wait` once it is told to, `/big` with 64 MiB.
async fn answer(request: Request<Arriving>, go: Arc<Notify>) -> Result<Response<Body>, Infallible> {
    let peer = request.extensions().get::<Peer>().expect("each request has its peer").clone();
    match request.uri().path() {
        "/wait" => {
            go.notified().await;
            Ok(Response::new(text("waited")))
        }
        "/big" => {
            let piece = Bytes::from(vec![7; 1 << 20]);
            let pieces = stream::iter((0..BIG >> 20).map(move |_| Ok::<_, Infallible>(piece.clone())));
            Ok(Response::new(Body::new(axum::body::Body::from_stream(pieces))))
        }
        "/panic" => panic!("as asked"),
        _ => Ok(Response::new(text(&format!("{:?} {}", request.version(), peer.address)))),
    }
}

fn text(text: &str) -> Body {
    Body::new(axum::body::Body::from(text.to_owned()))
}

struct Serving {
    address: SocketAddr,
    transport: Arc<Transport>,
    drain: Drain,
    go: Arc<Notify>,
    ended: JoinHandle<()>,
}

impl Serving {
    async fn start(limits: TransportLimits, wrap: Option<Wrap>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let transport = Arc::new(Transport::new(limits, wrap));
        let go = Arc::new(Notify::new());
        let waited = go.clone();
        let app = tower::service_fn(move |request| answer(request, waited.clone()));
        let (drain, draining) = Drain::new();
        let ended = tokio::spawn(serve(Listener::Tcp(listener), transport.clone(), app, draining));
        Self { address, transport, drain, go, ended }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("a connection")
    }

    fn drain(&self) {
        self.drain.begin(self.transport.open_connections(), Duration::from_secs(30));
    }
}

type Http2 = hyper::client::conn::http2::SendRequest<axum::body::Body>;

async fn http2(stream: TcpStream) -> (Http2, JoinHandle<hyper::Result<()>>) {
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.expect("HTTP/2");
    (client, tokio::spawn(connection))
}

async fn get(client: &mut Http2, path: &str) -> hyper::Result<String> {
    let request = Request::builder().version(Version::HTTP_2).uri(format!("http://cache{path}"));
    let response = client.send_request(request.body(axum::body::Body::empty()).expect("a request")).await?;
    let body = axum::body::to_bytes(axum::body::Body::new(response.into_body()), usize::MAX).await.expect("a body");
    Ok(String::from_utf8(body.to_vec()).expect("text"))
}

/// What the server sends to the end of the connection.
async fn all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("the server closes its half");
    String::from_utf8(answer).expect("text")
}

#[tokio::test]
async fn both_versions_are_answered_on_one_port_and_know_their_peer() {
    let serving = Serving::start(TransportLimits::default(), None).await;
    let mut stream = serving.connect().await;
    let own = stream.local_addr().expect("an address");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let answer = all(&mut stream).await;
    assert!(answer.ends_with(&format!("HTTP/1.1 {own}")), "{answer}");

    let stream = serving.connect().await;
    let own = stream.local_addr().expect("an address");
    let (mut client, _connection) = http2(stream).await;
    assert_eq!(get(&mut client, "/").await.expect("an answer"), format!("HTTP/2.0 {own}"));
}

#[tokio::test]
async fn a_call_that_panics_leaves_its_connection_alone() {
    let serving = Serving::start(TransportLimits::default(), None).await;
    let (mut client, _connection) = http2(serving.connect().await).await;
    assert!(get(&mut client, "/panic").await.is_err());
    assert!(get(&mut client, "/").await.is_ok());
}

#[tokio::test]
async fn what_is_wrapped_is_served_and_what_is_refused_is_closed() {
    let wrap: Wrap = Arc::new(|mut accepted| {
        Box::pin(async move {
            let mut greeting = [0; 5];
            accepted.stream.read_exact(&mut greeting).await?;
            match &greeting {
                b"HELLO" => Ok(accepted),
                _ => Err(io::ErrorKind::InvalidData.into()),
            }
        })
    });
    let serving = Serving::start(TransportLimits::default(), Some(wrap)).await;
    let request = b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut stream = serving.connect().await;
    stream.write_all(&[b"HELLO".as_slice(), request].concat()).await.expect("sent");
    assert!(all(&mut stream).await.starts_with("HTTP/1.1 200"));
    let mut stream = serving.connect().await;
    stream.write_all(b"BYE..").await.expect("sent");
    assert_eq!(all(&mut stream).await, "");
}

#[tokio::test]
async fn a_peer_that_says_nothing_is_closed() {
    let limits = TransportLimits { handshake: Duration::from_millis(50), ..TransportLimits::default() };
    let serving = Serving::start(limits, None).await;
    let mut silent = serving.connect().await;
    let mut slow = serving.connect().await;
    slow.write_all(b"PRI * HTTP").await.expect("sent");
    assert_eq!(all(&mut silent).await, "");
    assert_eq!(all(&mut slow).await, "");
}

#[tokio::test]
async fn headers_that_do_not_come_end_the_connection() {
    let limits = TransportLimits { header_read: Duration::from_millis(50), ..TransportLimits::default() };
    let serving = Serving::start(limits, None).await;
    let mut stream = serving.connect().await;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nx-never-ending: ").await.expect("sent");
    all(&mut stream).await;
}

#[tokio::test]
async fn a_peer_that_reads_nothing_is_closed() {
    let limits = TransportLimits { no_progress: Duration::from_millis(50), ..TransportLimits::default() };
    let serving = Serving::start(limits, None).await;
    let mut stream = serving.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    while serving.transport.open_connections() == 0 {
        tokio::task::yield_now().await;
    }
    // Nothing is read until the server has given the connection up.
    while serving.transport.open_connections() != 0 {
        tokio::task::yield_now().await;
    }
    let mut got = Vec::new();
    let end = stream.read_to_end(&mut got).await;
    assert!(end.is_err() || got.len() < BIG, "the answer was cut: {} bytes", got.len());
}

#[tokio::test]
async fn a_slow_peer_gets_the_whole_answer() {
    let serving = Serving::start(TransportLimits::default(), None).await;
    let mut stream = serving.connect().await;
    stream.write_all(b"GET /big HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await.expect("sent");
    let mut got = 0;
    let mut piece = vec![0; 100_000];
    loop {
        match stream.read(&mut piece).await.expect("bytes") {
            0 => break,
            n => got += piece[..n].iter().filter(|byte| **byte == 7).count(),
        }
        tokio::task::yield_now().await;
    }
    assert_eq!(got, BIG);
    let (mut client, _connection) = http2(serving.connect().await).await;
    let big = get(&mut client, "/big").await.expect("an answer");
    assert!(big.len() == BIG && big.bytes().all(|byte| byte == 7));
}

#[tokio::test]
async fn connections_past_the_limit_wait_for_a_place() {
    let limits = TransportLimits { max_connections: 1, ..TransportLimits::default() };
    let serving = Serving::start(limits, None).await;
    let (mut first, first_connection) = http2(serving.connect().await).await;
    assert!(get(&mut first, "/").await.is_ok());

    let (asked, told) = oneshot::channel();
    let stream = serving.connect().await;
    let waiting = tokio::spawn(async move {
        let (mut second, _connection) = http2(stream).await;
        asked.send(()).expect("the test waits");
        get(&mut second, "/").await
    });
    told.await.expect("the client's half of the handshake needs no server");
    assert!(get(&mut first, "/").await.is_ok());
    assert!(!waiting.is_finished());
    drop(first);
    first_connection.await.expect("it ends").expect("without an error");
    assert!(waiting.await.expect("it ends").is_ok());
}

#[tokio::test]
async fn a_drain_finishes_the_calls_in_flight_and_refuses_new_ones() {
    let serving = Serving::start(TransportLimits::default(), None).await;
    let (mut client, connection) = http2(serving.connect().await).await;
    let (mut idle, idle_connection) = http2(serving.connect().await).await;
    assert!(get(&mut idle, "/").await.is_ok());
    let mut stream = serving.connect().await;
    stream.write_all(b"GET /wait HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("sent");
    let mut asking = client.clone();
    let waiting = tokio::spawn(async move { get(&mut asking, "/wait").await });
    assert!(get(&mut client, "/").await.is_ok());

    serving.drain();
    idle_connection.await.expect("it ends").expect("told to go, without an error");
    assert!(TcpStream::connect(serving.address).await.is_err(), "nobody listens any more");
    assert!(!serving.ended.is_finished());
    // Both callers are woken, whether they wait already or not.
    serving.go.notify_one();
    serving.go.notify_one();
    serving.go.notify_waiters();
    serving.go.notify_one();
    assert_eq!(waiting.await.expect("it ends").expect("an answer"), "waited");
    assert!(all(&mut stream).await.ends_with("waited"));
    connection.await.expect("it ends").expect("without an error");
    serving.ended.await.expect("all connections have ended");
    assert!(get(&mut client, "/").await.is_err());
}

/// Answered at once, each of these leaves most of a body behind.
#[tokio::test]
async fn calls_that_are_answered_early_leave_their_connection_alone() {
    let serving = Serving::start(TransportLimits::default(), None).await;
    let (client, connection) = http2(serving.connect().await).await;
    for _ in 0..30 {
        let calls = (0..100).map(|_| {
            let mut client = client.clone();
            let pieces = (0..20).map(|_| Ok::<_, Infallible>(Bytes::from_static(&[7; 10_000])));
            async move {
                let request = Request::builder().version(Version::HTTP_2).method("POST").uri("http://cache/");
                let body = axum::body::Body::from_stream(stream::iter(pieces));
                client.send_request(request.body(body).expect("a request")).await.map(|answer| answer.status())
            }
        });
        for answer in futures::future::join_all(calls).await {
            assert_eq!(answer.expect("an answer"), 200);
        }
    }
    drop(client);
    connection.await.expect("it ends").expect("without an error");
}
