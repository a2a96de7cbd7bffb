use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use tokio::sync::watch;

use crate::{BlobBody, BlobStore, StoreError};

/// What one fetch holds of a large blob for those who look on.
pub(super) const WINDOW_BYTES: u64 = 4 * 1024 * 1024;

/// The name of this level in errors.
const LEVEL: &str = "the far store";

/// How far a fetch has come.
#[derive(Default)]
pub(super) struct Progress {
    /// The latest pieces of a large blob.
    pieces: VecDeque<Bytes>,
    /// Where the first of them starts in the blob.
    start: u64,
    held_bytes: u64,
    /// Set once, last.
    pub(super) outcome: Option<Outcome>,
}

/// How a fetch ended.
#[derive(Clone)]
pub(super) enum Outcome {
    /// The far store lacks the blob.
    Missing,
    /// A small blob, verified.
    Whole(Bytes),
    /// The near store has it, verified.
    Kept,
    /// The near store has no room for it.
    NotKept,
    Failed(Arc<StoreError>),
}

/// What a reader can do next.
enum Step {
    Wait,
    Piece(Bytes),
    /// The rest is near.
    Near,
    Failed(StoreError),
}

impl Progress {
    pub(super) fn push(&mut self, piece: Bytes) {
        if piece.is_empty() {
            return;
        }
        self.held_bytes += piece.len() as u64;
        self.pieces.push_back(piece);
        // Two at least: the last is held back, so it is the one before it that can be passed on.
        while self.held_bytes > WINDOW_BYTES && self.pieces.len() > 2 {
            if let Some(first) = self.pieces.pop_front() {
                self.start += first.len() as u64;
                self.held_bytes -= first.len() as u64;
            }
        }
    }

    /// Whether there is a piece that may be passed on.
    pub(super) fn has_begun(&self) -> bool {
        self.start > 0 || self.pieces.len() > 1
    }

    fn step(&self, next: u64) -> Step {
        match &self.outcome {
            Some(Outcome::Failed(error)) => return Step::Failed(shared(error)),
            Some(Outcome::Missing | Outcome::Whole(_) | Outcome::NotKept) => return Step::Failed(lost()),
            Some(Outcome::Kept) | None => {}
        }
        let kept = self.outcome.is_some();
        let usable = if kept { self.pieces.len() } else { self.pieces.len().saturating_sub(1) };
        match self.at(next, usable) {
            Some(piece) => Step::Piece(piece),
            None if kept => Step::Near,
            None => Step::Wait,
        }
    }

    /// What the first `usable` pieces hold from `next` on, up to the end of a piece.
    fn at(&self, next: u64, usable: usize) -> Option<Bytes> {
        let mut skip = next.checked_sub(self.start)?;
        for piece in self.pieces.iter().take(usable) {
            match usize::try_from(skip) {
                Ok(skip) if skip < piece.len() => return Some(piece.slice(skip..)),
                _ => skip = skip.checked_sub(piece.len() as u64)?,
            }
        }
        None
    }
}

/// One reader of a large blob that is being fetched, from an offset to the end.
pub(super) struct Reader {
    near: Arc<dyn BlobStore>,
    digest: Digest,
    next: u64,
    flight: watch::Receiver<Progress>,
    /// From where the reader went on near.
    rest: Option<BlobBody>,
}

impl Reader {
    pub(super) fn new(near: Arc<dyn BlobStore>, digest: Digest, next: u64, flight: watch::Receiver<Progress>) -> Self {
        Self { near, digest, next, flight, rest: None }
    }

    pub(super) fn into_body(self) -> BlobBody {
        BlobBody::from_stream(futures::stream::try_unfold(self, |mut reader| async move {
            Ok(reader.next_piece().await?.map(|piece| (piece, reader)))
        }))
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, StoreError> {
        if self.next >= self.digest.size_bytes() {
            return Ok(None);
        }
        if self.rest.is_none() {
            let next = self.next;
            let ready = |progress: &Progress| !matches!(progress.step(next), Step::Wait);
            let step = self.flight.wait_for(ready).await.map_err(|_| lost())?.step(next);
            match step {
                Step::Piece(piece) => {
                    self.next += piece.len() as u64;
                    return Ok(Some(piece));
                }
                Step::Failed(error) => return Err(error),
                Step::Near | Step::Wait => {
                    let rest = self.near.read(&self.digest, ByteRange::new(self.next, None)).await?;
                    self.rest = Some(rest.ok_or_else(lost)?);
                }
            }
        }
        match &mut self.rest {
            Some(rest) => rest.next().await.transpose(),
            None => Ok(None),
        }
    }
}

/// The error of a fetch for one of several who wait for it.
pub(super) fn shared(error: &Arc<StoreError>) -> StoreError {
    match &**error {
        StoreError::Damaged(digest) => StoreError::Damaged(*digest),
        StoreError::LeftOut { level } => StoreError::LeftOut { level },
        _ => StoreError::Unavailable { level: LEVEL, source: Joint(Arc::clone(error)).into() },
    }
}

/// The error of a reader whose fetch came to nothing.
pub(super) fn lost() -> StoreError {
    StoreError::Unavailable { level: LEVEL, source: Lost.into() }
}

#[derive(Debug, thiserror::Error)]
#[error(transparent)]
struct Joint(Arc<StoreError>);

#[derive(Debug, thiserror::Error)]
#[error("the fetch of the blob was given up")]
struct Lost;
