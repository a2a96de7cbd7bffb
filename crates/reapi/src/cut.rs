//! The end of what is still coming in when a server stops.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body::{Frame, SizeHint};
use tokio::sync::watch;

use crate::status;

/// Ends the bodies of all requests at one moment, so that who sends them is answered rather than hung up on.
#[derive(Clone, Default)]
pub(crate) struct Cut(Arc<watch::Sender<bool>>);

impl Cut {
    /// Nothing more is read from now on.
    pub(crate) fn now(&self) {
        self.0.send_replace(true);
    }

    /// The body, which ends in UNAVAILABLE if it is waited for after the cut.
    pub(crate) fn body(&self, inner: Body) -> Body {
        if inner.is_end_stream() {
            return inner;
        }
        Body::new(Cuttable { inner, cut: self.clone(), waiting: None })
    }

    async fn wait(self) {
        // The sender is this one's own, so waiting ends with the cut alone.
        self.0.subscribe().wait_for(|is_cut| *is_cut).await.ok();
    }
}

struct Cuttable {
    inner: Body,
    cut: Cut,
    waiting: Option<BoxFuture<'static, ()>>,
}

impl HttpBody for Cuttable {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = &mut *self;
        if let Poll::Ready(frame) = Pin::new(&mut this.inner).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        let waiting = this.waiting.get_or_insert_with(|| this.cut.clone().wait().boxed());
        ready!(waiting.as_mut().poll(cx));
        // Asked once more, it says the same.
        this.waiting = None;
        Poll::Ready(Some(Err(axum::Error::new(status::stopping()))))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use futures::{StreamExt, stream};

    use super::*;

    #[tokio::test]
    async fn what_is_waited_for_ends_with_the_cut_and_what_is_here_is_read() {
        let cut = Cut::default();
        let pieces = stream::iter([Ok::<_, std::io::Error>(Bytes::from_static(b"here"))]).chain(stream::pending());
        let mut body = cut.body(Body::from_stream(pieces)).into_data_stream();
        let reading = tokio::spawn(async move { (body.next().await, body.next().await) });
        tokio::task::yield_now().await;
        cut.now();
        let (first, second) = reading.await.expect("a task");
        assert_eq!(first.expect("a piece").expect("bytes"), "here");
        let status = tonic::Status::from_error(second.expect("an end").expect_err("cut").into());
        assert_eq!(status.code(), tonic::Code::Unavailable);
    }
}
