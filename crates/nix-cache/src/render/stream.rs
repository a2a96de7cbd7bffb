use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cache_types::{DigestFunction, Hasher};
use futures::{Stream, StreamExt, TryStreamExt, stream};
use store::{BlobBody, BlobStore, StoreError};
use tokio::task::JoinSet;

use super::plan::{Plan, Run};
use crate::compression::{Compression, Packing};

/// Blobs that are opened ahead.
const AHEAD: usize = 8;
/// Pieces that are read before they are sent.
const PIECES_AHEAD: usize = 8;
/// Smaller pieces are put together to about this size.
const PIECE_BYTES: usize = 64 * 1024;

/// The bytes of a range of a NAR. Ends with an error where a blob turns out to be gone.
pub(crate) fn plain(blobs: Arc<dyn BlobStore>, plan: Arc<Plan>, range: Range<u64>) -> BlobBody {
    let opened = stream::iter(plan.runs(range)).map(move |run| {
        let blobs = blobs.clone();
        async move {
            match run {
                Run::Framing(bytes) => Ok(BlobBody::from(bytes)),
                Run::Blob(digest, range) => blobs.read(&digest, range).await?.ok_or(StoreError::Damaged(digest)),
            }
        }
    });
    BlobBody::from_stream(joined(opened.buffered(AHEAD).try_flatten()))
}

/// The same bytes, read while those before them are sent.
pub(crate) fn ahead(mut body: BlobBody) -> BlobBody {
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES_AHEAD);
    let mut reading = JoinSet::new();
    reading.spawn(async move {
        while let Some(piece) = body.next().await {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    // The task goes with the stream: it ends when the set is dropped.
    BlobBody::from_stream(stream::unfold((receiver, reading), |(mut receiver, mut reading)| async move {
        if let Some(piece) = receiver.recv().await {
            return Some((piece, (receiver, reading)));
        }
        match reading.join_next().await {
            // An end without the end of the body.
            Some(Err(error)) => {
                let error = StoreError::Internal { level: "reading a NAR", source: error.into() };
                Some((Err(error), (receiver, reading)))
            }
            _ => None,
        }
    }))
}

/// Whether the bytes are the NAR that the plan is of: read to their end and hashed.
pub(crate) async fn is_sound(blobs: Arc<dyn BlobStore>, plan: Arc<Plan>) -> Result<bool, StoreError> {
    let mut hasher = Hasher::new(DigestFunction::Sha256, plan.size);
    let mut body = ahead(plain(blobs, plan.clone(), 0..plan.size));
    while let Some(piece) = body.next().await {
        match piece {
            Ok(piece) => hasher.update(&piece),
            Err(StoreError::Damaged(_)) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
    Ok(hasher.finish() == plan.nar)
}

/// The bytes packed; `None` for what cannot be packed here.
pub(crate) fn packed(body: BlobBody, compression: Compression) -> Result<Option<BlobBody>, StoreError> {
    let Some(packing) = compression.pack().map_err(failed)? else {
        return Ok(None);
    };
    let pieces = stream::try_unfold(Some((body, packing)), |state| async move {
        let Some((mut body, packing)) = state else {
            return Ok(None);
        };
        let Some(piece) = body.next().await.transpose()? else {
            let last = blocking(move || packing.finish()).await?;
            return Ok(Some((Bytes::from(last), None)));
        };
        let (packing, packed) = push(packing, piece).await?;
        Ok(Some((packed, Some((body, packing)))))
    });
    Ok(Some(BlobBody::from_stream(pieces.try_filter(|piece| futures::future::ready(!piece.is_empty())))))
}

async fn push(mut packing: Packing, piece: Bytes) -> Result<(Packing, Bytes), StoreError> {
    blocking(move || packing.push(&piece).map(|packed| (packing, packed.into()))).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
) -> Result<T, StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(std::io::Error::other).and_then(|done| done).map_err(failed)
}

fn failed(source: std::io::Error) -> StoreError {
    StoreError::Internal { level: "packing a NAR", source: source.into() }
}

/// The same bytes in fewer pieces.
fn joined(
    pieces: impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static,
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + 'static {
    let state = (Box::pin(pieces), BytesMut::new(), None);
    stream::try_unfold(state, |(mut pieces, mut held, next)| async move {
        if let Some(large) = next {
            return Ok(Some((large, (pieces, held, None))));
        }
        while let Some(piece) = pieces.next().await.transpose()? {
            if piece.len() >= PIECE_BYTES / 2 {
                // A large piece is not copied: what is held goes before it.
                let state = |next| (pieces, BytesMut::new(), next);
                return Ok(Some(match held.is_empty() {
                    true => (piece, state(None)),
                    false => (held.freeze(), state(Some(piece))),
                }));
            }
            held.extend_from_slice(&piece);
            if held.len() >= PIECE_BYTES {
                return Ok(Some((held.split().freeze(), (pieces, held, None))));
            }
        }
        Ok((!held.is_empty()).then(|| (held.split().freeze(), (pieces, held, None))))
    })
}
