//! Messages on their way in: those of many peers share a bounded memory, and none may take forever to come.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http::{Request, Response, header};
use http_body::Frame;
use parking_lot::Mutex;
use store::StoreError;
use tokio::time::Sleep;
use tonic::Status;
use tower::{Layer, Service};

use crate::budget::{Budget, Share};
use crate::cut::Cut;
use crate::limits::{Limits, LiveLimits};
use crate::status;

/// A message of less is not counted as long as it comes without a pause.
const FREE_BYTES: usize = 64 * 1024;

/// The least speed of a message that is counted, in bytes a second.
const LEAST_SPEED: u64 = 64 * 1024;

/// Calls whose peer may be silent between messages: they watch over themselves.
const STREAMING: [&str; 3] = ["/Write", "/RegisterChunkMapping", "/ServerReflectionInfo"];

/// Bounds the memory of messages that are not here whole, and of calls until they are answered. Spec: R-077.
#[derive(Clone)]
pub(crate) struct Inbound {
    budget: Budget,
    limits: LiveLimits,
    cut: Cut,
}

impl Inbound {
    /// All messages together take what `budget` has; each is held to the limits. None is waited for once there is a cut.
    pub(crate) fn new(budget: Budget, limits: LiveLimits, cut: Cut) -> Self {
        Self { budget, limits, cut }
    }
}

impl<S> Layer<S> for Inbound {
    type Service = Received<S>;

    fn layer(&self, inner: S) -> Received<S> {
        Received { inner, inbound: self.clone() }
    }
}

/// The service below [`Inbound`].
#[derive(Clone)]
pub(crate) struct Received<S> {
    inner: S,
    inbound: Inbound,
}

impl<S, R> Service<Request<Body>> for Received<S>
where
    S: Service<Request<Body>, Response = Response<R>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let request = request.map(|body| self.inbound.cut.body(body));
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if !content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            return self.inner.call(request).boxed();
        }
        let is_streaming = STREAMING.iter().any(|method| request.uri().path().ends_with(method));
        let held = Arc::new(Mutex::new(None));
        let request = request.map(|body| Body::new(Messages::new(body, &self.inbound, held.clone(), is_streaming)));
        let answer = self.inner.call(request);
        // A call holds its message, decoded, until it is answered.
        answer.inspect(move |_| drop(held)).boxed()
    }
}

/// The share of the message that a call has now.
type Held = Arc<Mutex<Option<Share>>>;

type Taking = BoxFuture<'static, Result<Share, StoreError>>;

/// The body of a call, its messages counted.
struct Messages {
    inner: Body,
    budget: Budget,
    limits: Arc<Limits>,
    held: Held,
    is_streaming: bool,
    at: Position,
    /// A share that is waited for, and the bytes that are passed on then.
    waiting: Option<(Bytes, Taking)>,
    /// When the peer has been too slow.
    limit: Option<Pin<Box<Sleep>>>,
}

impl Messages {
    fn new(inner: Body, inbound: &Inbound, held: Held, is_streaming: bool) -> Self {
        let (budget, limits) = (inbound.budget.clone(), inbound.limits.now());
        Self { inner, budget, limits, held, is_streaming, at: Position::default(), waiting: None, limit: None }
    }

    /// Takes notice of bytes; what has to be waited for before they are passed on.
    ///
    /// # Errors
    /// The message is too large.
    fn receive(&mut self, data: &[u8]) -> Result<Option<Taking>, Status> {
        let before = self.at.messages;
        self.at.advance(data);
        if self.at.messages != before && self.is_streaming {
            self.held.lock().take();
        }
        let len = self.at.len as u64;
        if len > self.limits.message_bytes {
            let limit = self.limits.message_bytes;
            return Err(Status::resource_exhausted(format!("a message of {len} bytes; the limit is {limit}")));
        }
        if self.at.len <= FREE_BYTES {
            self.limit = None;
            return Ok(None);
        }
        if self.held.lock().is_some() {
            return Ok(None);
        }
        let patience = self.limits.no_progress + Duration::from_secs(len / LEAST_SPEED);
        self.limit = Some(Box::pin(tokio::time::sleep(patience)));
        Ok(Some(self.take()))
    }

    /// Takes the share of the message that is open.
    fn take(&self) -> Taking {
        let (budget, len) = (self.budget.clone(), self.at.len as u64);
        async move { budget.take(len).await }.boxed()
    }

    /// Whether a message that is not here whole holds memory that was not counted.
    fn is_owing(&self) -> bool {
        self.at.len > 0 && self.held.lock().is_none()
    }

    /// Ready when the peer has been silent for too long.
    fn poll_limit(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.is_streaming && self.at.is_between() {
            return Poll::Pending;
        }
        let limit = self.limit.get_or_insert_with(|| Box::pin(tokio::time::sleep(self.limits.no_progress)));
        limit.as_mut().poll(cx)
    }
}

impl HttpBody for Messages {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        loop {
            if let Some((data, taking)) = &mut this.waiting {
                let taken = ready!(taking.as_mut().poll(cx));
                let data = std::mem::take(data);
                this.waiting = None;
                match taken {
                    Ok(share) => *this.held.lock() = Some(share),
                    Err(error) => return Poll::Ready(Some(Err(axum::Error::new(status::busy(&error))))),
                }
                if !data.is_empty() {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
            }
            match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) if frame.is_data() => {
                    let data = frame.into_data().unwrap_or_default();
                    match this.receive(&data).map_err(axum::Error::new)? {
                        None => return Poll::Ready(Some(Ok(Frame::data(data)))),
                        Some(taking) => this.waiting = Some((data, taking)),
                    }
                }
                Poll::Ready(other) => return Poll::Ready(other),
                Poll::Pending if this.is_owing() => this.waiting = Some((Bytes::new(), this.take())),
                Poll::Pending => {
                    ready!(this.poll_limit(cx));
                    return Poll::Ready(Some(Err(axum::Error::new(status::no_progress(this.limits.no_progress)))));
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }
}

/// Where a body is in its messages, each of which begins with a flag and its length.
#[derive(Debug, Default, PartialEq, Eq)]
struct Position {
    /// Messages that have ended.
    messages: u64,
    head: [u8; 5],
    head_len: usize,
    /// The length of the message that is open; 0 when none is.
    len: usize,
    /// What is still to come of it.
    left: usize,
}

impl Position {
    fn advance(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            if self.left > 0 {
                let taken = self.left.min(data.len());
                data = &data[taken..];
                self.left -= taken;
            } else {
                let taken = (self.head.len() - self.head_len).min(data.len());
                let (head, rest) = data.split_at(taken);
                self.head[self.head_len..self.head_len + taken].copy_from_slice(head);
                self.head_len += taken;
                data = rest;
                if self.head_len < self.head.len() {
                    return;
                }
                let [_, len @ ..] = self.head;
                self.len = usize::try_from(u32::from_be_bytes(len)).unwrap_or(usize::MAX);
                self.left = self.len;
            }
            if self.left == 0 {
                (self.head_len, self.len) = (0, 0);
                self.messages += 1;
            }
        }
    }

    fn is_between(&self) -> bool {
        self.head_len == 0
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};
    use proptest::prelude::*;

    use super::*;

    fn message(len: usize) -> Vec<u8> {
        let head = u32::try_from(len).expect("small").to_be_bytes();
        [&[0], &head[..], &vec![7; len]].concat()
    }

    proptest! {
        #[test]
        fn messages_are_told_apart_in_any_pieces(
            lens in proptest::collection::vec(0usize..300, 0..8),
            cuts in proptest::collection::vec(1usize..400, 1..8),
            open in 0usize..250,
        ) {
            let all: Vec<u8> = lens.iter().flat_map(|len| message(*len)).chain(message(250)[..open].to_vec()).collect();
            let mut at = Position::default();
            let mut rest = &all[..];
            for cut in cuts.iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at((*cut).min(rest.len()));
                at.advance(piece);
                rest = after;
            }
            prop_assert_eq!(at.messages, lens.len() as u64);
            prop_assert_eq!(at.is_between(), open == 0);
            prop_assert_eq!(at.len, if open >= 5 { 250 } else { 0 });
        }
    }

    /// A mebibyte of memory for messages, and what takes of it.
    fn inbound() -> (Inbound, Budget) {
        let limits = LiveLimits::default();
        let budget = Budget::memory("memory", &limits, |_| 1 << 20);
        (Inbound::new(budget.clone(), limits, Cut::default()), budget)
    }

    #[tokio::test(start_paused = true)]
    async fn a_small_message_is_counted_when_it_does_not_come_whole() {
        let (inbound, budget) = inbound();
        let small = message(50_000);
        let (body, held) = messages(&inbound, vec![small[..100].to_vec()], false);
        let mut body = body.into_data_stream();
        assert_eq!(body.next().await.expect("a piece").expect("bytes").len(), 100);
        assert!(held.lock().is_none());
        assert!(futures::poll!(body.next()).is_pending());
        assert!(held.lock().is_some());
        assert!(budget.take(1 << 20).await.is_err());
        drop((body, held));
        assert!(budget.take(1 << 20).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_over_the_limit_is_refused_by_its_length() {
        let (inbound, _) = inbound();
        inbound.limits.replace(Limits { message_bytes: 1000, ..Limits::default() });
        for (len, fits) in [(1000, true), (1001, false)] {
            let (body, _held) = messages(&inbound, vec![message(len)[..10].to_vec()], false);
            let first = body.into_data_stream().next().await.expect("a piece");
            assert_eq!(first.is_ok(), fits, "{len}");
        }
    }

    fn body(pieces: Vec<Vec<u8>>) -> Body {
        let pieces = stream::iter(pieces.into_iter().map(|piece| Ok::<_, std::io::Error>(Bytes::from(piece))));
        Body::from_stream(pieces.chain(stream::pending()))
    }

    fn messages(inbound: &Inbound, pieces: Vec<Vec<u8>>, is_streaming: bool) -> (Body, Held) {
        let held = Held::default();
        (Body::new(Messages::new(body(pieces), inbound, held.clone(), is_streaming)), held)
    }

    #[tokio::test(start_paused = true)]
    async fn large_messages_wait_for_memory_and_small_ones_do_not() {
        let (inbound, budget) = inbound();
        let large = message(1 << 20);
        let (first, held) = messages(&inbound, vec![large[..100].to_vec(), large[100..].to_vec()], false);
        let mut first = first.into_data_stream();
        assert_eq!(first.next().await.expect("a piece").expect("bytes").len(), 100);
        assert!(held.lock().is_some());
        let (second, _held) = messages(&inbound, vec![large[..100].to_vec()], false);
        let busy = second.into_data_stream().next().await.expect("an end").expect_err("no memory");
        assert!(format!("{busy}").contains("memory"), "{busy}");
        let (small, none) = messages(&inbound, vec![message(1000)], false);
        assert!(small.into_data_stream().next().await.expect("a piece").is_ok());
        assert!(none.lock().is_none());
        assert_eq!(first.next().await.expect("a piece").expect("bytes").len(), large.len() - 100);
        assert!(held.lock().is_some(), "until the call is answered");
        drop((first, held));
        assert!(budget.take(1 << 20).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_gives_back_what_each_message_took() {
        let (inbound, _) = inbound();
        let large = message(1 << 20);
        let pieces = (0..3).flat_map(|_| [large[..100].to_vec(), large[100..].to_vec()]).collect();
        let (stream, held) = messages(&inbound, pieces, true);
        let mut stream = stream.into_data_stream();
        for _ in 0..3 {
            assert_eq!(stream.next().await.expect("a piece").expect("bytes").len(), 100);
            assert!(held.lock().is_some());
            assert!(stream.next().await.expect("a piece").is_ok());
            assert!(held.lock().is_none());
        }
        let silent = tokio::time::timeout(Duration::from_secs(3600), stream.next()).await;
        assert!(silent.is_err(), "between messages the call itself watches");
    }

    #[tokio::test(start_paused = true)]
    async fn a_message_that_stands_still_is_given_up() {
        let (inbound, _) = inbound();
        let large = message(1 << 20);
        for pieces in [vec![], vec![large[..3].to_vec()], vec![large[..500_000].to_vec()]] {
            let count = pieces.len();
            let (stream, _held) = messages(&inbound, pieces, false);
            let ended: Vec<_> = stream.into_data_stream().take(count + 1).collect().await;
            assert!(ended.last().expect("an end").is_err());
        }
    }
}
