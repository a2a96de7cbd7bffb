use std::future::poll_fn;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Sleep, sleep, timeout};
use tower::ServiceExt;

use super::calls::{self, Calls};
use super::socket::Socket;
use super::{Accepted, App, Arriving, Draining, Transport, TransportLimits, deadline};

/// What a peer sends before it is known which version of HTTP it speaks.
const PREFACE_BYTES: u64 = 24;
/// The head of an HTTP/1.1 request, and the most of its body that is read ahead.
const HTTP1_BUFFER_BYTES: usize = 128 * 1024;

/// How long a connection that has ended waits for its peer to have read the end of it.
const LINGER: Duration = Duration::from_secs(1);
/// What is read of a peer meanwhile, and dropped.
const LINGER_BYTES: u64 = 256 * 1024;

/// Serves one connection until the peer closes it, a limit ends it, or a drain does.
pub(super) async fn serve<A: App>(accepted: Accepted, transport: Arc<Transport>, app: A, draining: Draining) {
    let address = accepted.peer.address;
    match prepare(accepted, &transport).await {
        Ok(accepted) => match speak(accepted, &transport.limits(), app, draining).await {
            Ok(()) => tracing::trace!(peer = %address, "closed"),
            Err(error) => tracing::debug!(peer = %address, error, "connection ended"),
        },
        Err(error) => tracing::debug!(peer = %address, %error, "no handshake"),
    }
}

async fn prepare(accepted: Accepted, transport: &Transport) -> io::Result<Accepted> {
    let Some(wrap) = &transport.wrap else { return Ok(accepted) };
    timeout(transport.limits().handshake, wrap(accepted)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
}

async fn speak<A: App>(
    accepted: Accepted,
    limits: &TransportLimits,
    app: A,
    mut draining: Draining,
) -> Result<(), tower::BoxError> {
    let Accepted { stream, peer } = accepted;
    let (io, mut socket) = Socket::new(stream);
    let leftover_bytes = limits.stream_window_bytes as usize;
    let service = service_fn(move |request: Request<Incoming>| {
        let mut request = Arriving::of(request, leftover_bytes);
        request.extensions_mut().insert(peer.clone());
        calls::announce(request.uri().path());
        let limit = deadline::of(request.headers());
        deadline::keep(limit, app.clone().oneshot(request))
    });
    let builder = builder(limits);
    let mut http = pin!(builder.serve_connection(TokioIo::new(io), service));
    let mut patience = Patience::new(limits);
    let heard = draining.clone();
    let mut turn = pin!(draining.my_turn());
    let mut is_told = false;
    let mut is_first = true;
    let ended = poll_fn(|cx| {
        // Polled once, it wakes this task when the drain begins; until then there is no need to ask again.
        if !is_told && (is_first || heard.has_begun()) && turn.as_mut().poll(cx).is_ready() {
            is_told = true;
            http.as_mut().graceful_shutdown();
        }
        is_first = false;
        let ended = http.as_mut().poll(cx);
        if let Poll::Ready(Err(error)) = socket.send(cx) {
            return Poll::Ready(Err::<_, tower::BoxError>(error.into()));
        }
        if let Poll::Ready(ended) = ended {
            return Poll::Ready(Ok(ended));
        }
        patience.poll(cx, &socket).map(|reason| Err(reason.into()))
    })
    .await?;
    linger(&mut socket).await;
    ended
}

/// Says that nothing more comes, and then waits a moment for the peer to say the same. A socket that is closed with
/// bytes unread takes back what its peer has not read yet, such as the last answer before a drain.
async fn linger(socket: &mut Socket) {
    let drained = async {
        socket.shutdown().await?;
        tokio::io::copy(&mut socket.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    match timeout(LINGER, drained).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::trace!(%error, "the peer was gone already"),
        Err(_) => tracing::trace!("the peer does not close its half"),
    }
}

/// A call rests for longer than any wait within it may take, which are all bounded by `no_progress`.
const CALL_IDLE_FACTOR: u32 = 2;

fn builder(limits: &TransportLimits) -> Builder<Calls> {
    let mut builder = Builder::new(Calls { idle: CALL_IDLE_FACTOR * limits.no_progress });
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.header_read)
        .max_buf_size(HTTP1_BUFFER_BYTES)
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.max_streams)
        .max_header_list_size(limits.max_header_list_bytes)
        .max_pending_accept_reset_streams(limits.max_pending_resets)
        .initial_stream_window_size(limits.stream_window_bytes)
        .initial_connection_window_size(limits.connection_window_bytes)
        .max_send_buf_size(limits.stream_send_bytes)
        .keep_alive_interval(limits.ping_every)
        .keep_alive_timeout(limits.ping_timeout);
    builder
}

/// Ends a connection whose peer keeps it waiting.
struct Patience<'a> {
    limits: &'a TransportLimits,
    /// Runs until the peer has said what it speaks.
    first_bytes: Option<Pin<Box<Sleep>>>,
    /// Runs while the peer takes nothing: how much it had taken, and until when it may stay so.
    blocked: Option<(u64, Pin<Box<Sleep>>)>,
}

impl<'a> Patience<'a> {
    fn new(limits: &'a TransportLimits) -> Self {
        Self { limits, first_bytes: Some(Box::pin(sleep(limits.handshake))), blocked: None }
    }

    /// Ready, with the reason, when the connection has to end.
    fn poll(&mut self, cx: &mut Context<'_>, socket: &Socket) -> Poll<&'static str> {
        if let Some(end) = &mut self.first_bytes {
            if socket.received_bytes() >= PREFACE_BYTES {
                self.first_bytes = None;
            } else if end.as_mut().poll(cx).is_ready() {
                return Poll::Ready("the peer did not say what it speaks");
            }
        }
        let Some(at) = socket.blocked_at() else {
            self.blocked = None;
            return Poll::Pending;
        };
        let (before, end) = self.blocked.get_or_insert_with(|| (at, Box::pin(sleep(self.limits.no_progress))));
        if *before != at {
            (*before, *end) = (at, Box::pin(sleep(self.limits.no_progress)));
        }
        end.as_mut().poll(cx).map(|()| "the peer takes nothing of what it asked for")
    }
}
