use std::io::{self, Read};

use bytes::{Buf, Bytes};
use futures::{StreamExt, stream};
use store::{BlobBody, BodyError, StoreError};
use tokio::sync::mpsc;

use crate::settings::Uploads;
use crate::unpack::UnpackError;

/// Pieces that wait for the reader.
const WAITING: usize = 8;

/// What is still read of an upload that was refused, so that the client hears the answer.
const DRAINED_BYTES: usize = 8 * 1024 * 1024;

/// A stream as a reader that blocks. Ends only where the stream ended without an error.
pub(crate) struct Feed {
    pieces: mpsc::Receiver<Result<Option<Bytes>, StoreError>>,
    piece: Bytes,
    ended: bool,
}

impl Read for Feed {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() && !self.ended {
            match self.pieces.blocking_recv() {
                Some(Ok(Some(piece))) => self.piece = piece,
                Some(Ok(None)) => self.ended = true,
                Some(Err(error)) => return Err(io::Error::other(error)),
                None => return Err(io::Error::other(interrupted("the request was dropped"))),
            }
        }
        let count = out.len().min(self.piece.len());
        self.piece.split_to(count).copy_to_slice(out.get_mut(..count).unwrap_or_default());
        Ok(count)
    }
}

/// Has `work`, which blocks, read the body on a thread of its own.
pub(crate) async fn through<T: Send + 'static>(
    mut body: BlobBody,
    work: impl FnOnce(Feed) -> Result<T, UnpackError> + Send + 'static,
) -> Result<T, UnpackError> {
    let (sender, pieces) = mpsc::channel(WAITING);
    let feed = Feed { pieces, piece: Bytes::new(), ended: false };
    let working = tokio::task::spawn_blocking(move || work(feed));
    let pumping = async move {
        while let Some(piece) = body.next().await {
            let failed = piece.is_err();
            if sender.send(piece.map(Some)).await.is_err() {
                return drain(body).await;
            }
            if failed {
                return;
            }
        }
        // Nobody listens where the reader failed at the last piece.
        sender.send(Ok(None)).await.ok();
    };
    let ((), worked) = futures::join!(pumping, working);
    worked.map_err(|error| StoreError::Internal { level: "unpacking", source: error.into() })?
}

async fn drain(mut body: BlobBody) {
    let mut left = DRAINED_BYTES;
    while let Some(Ok(piece)) = body.next().await {
        match left.checked_sub(piece.len()) {
            Some(rest) => left = rest,
            None => return,
        }
    }
}

/// The body of a request, none of whose pieces may be long in coming. It takes a place among all uploads when it is first
/// asked for one, and keeps it to its end.
pub(crate) fn incoming(body: axum::body::Body, uploads: &Uploads) -> BlobBody {
    let no_progress = (uploads.now)().no_progress;
    let place = uploads.place.clone();
    BlobBody::from_stream(stream::try_unfold((body.into_data_stream(), None), move |(mut pieces, taken)| {
        let place = place.clone();
        async move {
            let taken = match taken {
                Some(taken) => taken,
                None => place().await?,
            };
            let next = tokio::time::timeout(no_progress, pieces.next()).await;
            let next = next.map_err(|_| interrupted(format!("no byte came for {no_progress:?}")))?;
            Ok(next.transpose().map_err(interrupted)?.map(|piece| (piece, (pieces, Some(taken)))))
        }
    }))
}

fn interrupted(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Body(BodyError::Interrupted(cause.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(pieces: Vec<Result<Bytes, StoreError>>) -> Result<Vec<u8>, UnpackError> {
        let body = BlobBody::from_stream(stream::iter(pieces));
        through(body, |mut feed| {
            let mut out = Vec::new();
            match feed.read_to_end(&mut out) {
                Ok(_) => Ok(out),
                Err(error) => Err(UnpackError::Packed { name: "none", source: error }),
            }
        })
        .await
    }

    #[tokio::test]
    async fn a_stream_is_read_to_its_end_and_a_failed_one_is_an_error() {
        let piece = |text: &'static str| Ok(Bytes::from_static(text.as_bytes()));
        assert_eq!(read(vec![piece("ab"), piece(""), piece("c")]).await.expect("all"), b"abc");
        assert!(read(vec![piece("ab"), Err(interrupted("gone"))]).await.is_err());
        let refused = through(BlobBody::from_stream(stream::iter([piece("ab"), piece("c")])), |_| {
            Err::<(), _>(UnpackError::Trailing)
        });
        assert!(matches!(refused.await, Err(UnpackError::Trailing)));
    }
}
