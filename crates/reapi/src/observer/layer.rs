use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body::{Body as HttpBody, Frame, SizeHint};
use pin_project_lite::pin_project;
use tonic::Code as RpcCode;
use tower::{Layer, Service};

use super::{Call, Code, Endpoint, Observer};

/// Counts what passes: calls by code, how long they take, and the bytes of their bodies.
#[derive(Clone)]
pub(crate) struct Observing(pub(crate) Arc<Observer>);

impl<S> Layer<S> for Observing {
    type Service = Observed<S>;

    fn layer(&self, inner: S) -> Observed<S> {
        Observed { inner, observer: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
pub(crate) struct Observed<S> {
    inner: S,
    observer: Arc<Observer>,
}

impl<S: Service<Request<Body>, Response = Response<Body>>> Service<Request<Body>> for Observed<S> {
    type Response = Response<Body>;
    type Error = S::Error;
    type Future = Answering<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let endpoint = Endpoint::of(&request);
        let call = self.observer.call(endpoint);
        let request = match request.body().is_end_stream() {
            true => request,
            false => {
                request.map(|inner| Body::new(RequestBody { inner, observer: Arc::clone(&self.observer), endpoint }))
            }
        };
        Answering { answer: self.inner.call(request), call: Some(call) }
    }
}

pin_project! {
    /// A call whose answer has not begun.
    pub(crate) struct Answering<F> {
        #[pin]
        answer: F,
        call: Option<Call>,
    }
}

impl<F, E> Future for Answering<F>
where
    F: Future<Output = Result<Response<Body>, E>>,
{
    type Output = Result<Response<Body>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let response = ready!(this.answer.poll(cx))?;
        let Some(mut call) = this.call.take() else {
            return Poll::Ready(Ok(response));
        };
        match call.endpoint() {
            Endpoint::Rpc(_) => note_status(&mut call, response.headers()),
            Endpoint::Http(..) => call.set_code(Code::http(response.status())),
        }
        Poll::Ready(Ok(response.map(|inner| Body::new(ResponseBody { inner, call }))))
    }
}

/// Takes the code of a gRPC call from headers or trailers, where it is.
fn note_status(call: &mut Call, headers: &HeaderMap) {
    if let Some(code) = headers.get("grpc-status") {
        call.set_code(Code::rpc(RpcCode::from_bytes(code.as_bytes())));
    }
}

/// The body of a request, whose bytes are counted as they come.
struct RequestBody {
    inner: Body,
    observer: Arc<Observer>,
    endpoint: Endpoint,
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(data) = frame.as_ref().and_then(|frame| frame.as_ref().ok()).and_then(Frame::data_ref) {
            self.observer.meter(self.endpoint).received(data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// The body of an answer. The call ends with it.
struct ResponseBody {
    inner: Body,
    call: Call,
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            if let Some(data) = frame.data_ref() {
                self.call.sent(data.len() as u64);
            } else if let Some(trailers) = frame.trailers_ref() {
                note_status(&mut self.call, trailers);
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
