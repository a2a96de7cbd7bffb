use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Version};
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::runtime::Handle;
use tokio::time::timeout;

/// How long the rest of a body is read that nobody wants.
const LEFTOVER: Duration = Duration::from_secs(2);

/// The body of a request.
///
/// A call may be answered before all of its body is here: an upload of a blob that is here already, or one that is
/// refused. What is on its way by then is read and dropped. A stream that is reset instead leaves frames that belong to
/// none, and HTTP/2 ends a connection with too many of those, with all other calls on it.
pub(crate) struct Arriving {
    inner: Option<Incoming>,
    /// What is read of the rest at most, in bytes.
    leftover_bytes: usize,
}

impl Arriving {
    /// The request, of whose body at most `leftover_bytes` are read once nobody wants it. In HTTP/1.1 there are no other
    /// calls to mind.
    pub(super) fn of(request: Request<Incoming>, leftover_bytes: usize) -> Request<Self> {
        let leftover_bytes = if request.version() == Version::HTTP_2 { leftover_bytes } else { 0 };
        request.map(|body| Self { inner: Some(body), leftover_bytes })
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(inner) = &mut self.inner else { return Poll::Ready(None) };
        let frame = Pin::new(inner).poll_frame(cx);
        if let Poll::Ready(None | Some(Err(_))) = frame {
            self.inner = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.inner.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Arriving {
    fn drop(&mut self) {
        let Some(rest) = self.inner.take().filter(|rest| !rest.is_end_stream() && self.leftover_bytes > 0) else {
            return;
        };
        if let Ok(runtime) = Handle::try_current() {
            runtime.spawn(timeout(LEFTOVER, discard(rest, self.leftover_bytes)));
        }
    }
}

/// Reads a body to its end, or until it is longer than `most` bytes.
async fn discard(mut body: Incoming, most: usize) {
    let mut read = 0;
    while let Some(Ok(frame)) = body.frame().await {
        read += frame.data_ref().map_or(0, Bytes::len);
        if read > most {
            return;
        }
    }
}
