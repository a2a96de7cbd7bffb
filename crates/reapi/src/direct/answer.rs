use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::StreamExt;
use futures::stream::BoxStream;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body::{Body as HttpBody, Frame};
use tonic::Status;
use tonic::body::Body;

use super::frames::{self, Frames};
use crate::observer::{Call, Code};

/// What a call is answered with, up to its status.
pub(super) struct Answer {
    ready: Frames,
    /// The data of further messages.
    more: Option<BoxStream<'static, Result<Bytes, Status>>>,
}

impl Answer {
    pub(super) fn of(frames: Frames) -> Self {
        Self { ready: frames, more: None }
    }

    /// A read, whose pieces each make a message.
    pub(super) fn stream(pieces: BoxStream<'static, Result<Bytes, Status>>) -> Self {
        Self { ready: Frames::new(), more: Some(pieces) }
    }

    pub(super) fn response(self, call: Call) -> Response<Body> {
        let mut response = Response::new(Body::new(AnswerBody { answer: self, call, has_ended: false }));
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        response
    }
}

/// The body of an answer: its messages, then the status as trailers. Counted as one call that lasts until then.
struct AnswerBody {
    answer: Answer,
    call: Call,
    has_ended: bool,
}

impl AnswerBody {
    /// Ends the answer with a status.
    fn end(&mut self, code: tonic::Code, trailers: HeaderMap) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.has_ended = true;
        self.call.set_code(Code::rpc(code));
        Poll::Ready(Some(Ok(Frame::trailers(trailers))))
    }
}

fn with_status(code: &'static str) -> HeaderMap {
    let mut trailers = HeaderMap::with_capacity(1);
    trailers.insert("grpc-status", HeaderValue::from_static(code));
    trailers
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let this = &mut *self;
        loop {
            if let Some(bytes) = this.answer.ready.pop_front() {
                this.call.sent(bytes.len() as u64);
                return Poll::Ready(Some(Ok(Frame::data(bytes))));
            }
            if this.has_ended {
                return Poll::Ready(None);
            }
            let Some(more) = &mut this.answer.more else {
                return this.end(tonic::Code::Ok, with_status("0"));
            };
            match std::task::ready!(more.poll_next_unpin(cx)) {
                Some(Ok(data)) => this.answer.ready = frames::piece(data),
                Some(Err(status)) => {
                    let mut trailers = HeaderMap::new();
                    // What cannot be written in a header is told without its message.
                    if status.add_header(&mut trailers).is_err() {
                        trailers = with_status("13");
                    }
                    return this.end(status.code(), trailers);
                }
                None => this.answer.more = None,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.has_ended
    }
}
