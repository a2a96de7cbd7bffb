use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};

use crate::StoreError;

/// The bytes of a blob on their way, as one piece or a stream of pieces.
///
/// It is a [`Stream`] of pieces of any size; a stream that ends without an error is complete.
pub struct BlobBody(Inner);

enum Inner {
    Whole(Option<Bytes>),
    Stream(BoxStream<'static, Result<Bytes, StoreError>>),
}

impl BlobBody {
    /// A body of pieces that arrive over time.
    pub fn from_stream(stream: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static) -> Self {
        Self(Inner::Stream(stream.boxed()))
    }

    /// The bytes, when the body is one piece that is here already.
    pub fn whole(&self) -> Option<&Bytes> {
        match &self.0 {
            Inner::Whole(bytes) => bytes.as_ref(),
            Inner::Stream(_) => None,
        }
    }

    /// Gathers the body in memory; `None` when it is longer than `limit_bytes`.
    ///
    /// # Errors
    /// The stream's own.
    pub async fn collect(mut self, limit_bytes: usize) -> Result<Option<Bytes>, StoreError> {
        let Some(first) = self.next().await.transpose()? else {
            return Ok(Some(Bytes::new()));
        };
        if first.len() > limit_bytes {
            return Ok(None);
        }
        let Some(second) = self.next().await.transpose()? else {
            return Ok(Some(first));
        };
        let mut all = BytesMut::from(first);
        let mut piece = second;
        loop {
            if all.len() + piece.len() > limit_bytes {
                return Ok(None);
            }
            all.extend_from_slice(&piece);
            match self.next().await.transpose()? {
                Some(next) => piece = next,
                None => return Ok(Some(all.freeze())),
            }
        }
    }
}

impl From<Bytes> for BlobBody {
    fn from(bytes: Bytes) -> Self {
        Self(Inner::Whole(Some(bytes)))
    }
}

impl Stream for BlobBody {
    type Item = Result<Bytes, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        match &mut self.0 {
            Inner::Whole(bytes) => Poll::Ready(bytes.take().filter(|bytes| !bytes.is_empty()).map(Ok)),
            Inner::Stream(stream) => stream.poll_next_unpin(cx),
        }
    }
}
