use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt, TryStreamExt};
use store::{BlobBody, StoreError};
use tokio::task::JoinHandle;

use crate::blob_file::{FileReader, ReadFailure};
use crate::engine::Engine;
use crate::failure::{Failure, LEVEL, blocking, joined};
use crate::frame::FRAME_BYTES;
use crate::hot::Seen;
use crate::key::Key;
use crate::op::{Change, Why};
use crate::pack::read_frame;
use crate::row::{BlobRow, FilePlace, Place};
use crate::touches::Touch;

/// Chunks that are read at once, so that one is decoded while another is on its way.
const CHUNKS_AHEAD: usize = 2;

/// A blob of which the first bytes have been read and checked.
enum Opened {
    Whole(Bytes),
    /// A file, and its first frame that is needed, already cut.
    File(FileStream, Bytes),
    Chunks(Vec<Digest>),
}

/// A row found and promised, and when.
struct Found {
    digest: Digest,
    key: Key,
    row: BlobRow,
    seen: Seen,
}

impl Engine {
    pub(crate) async fn read(
        self: &Arc<Self>,
        digest: &Digest,
        range: ByteRange,
    ) -> Result<Option<BlobBody>, StoreError> {
        let wanted = range.within(digest.size_bytes());
        if digest.is_empty() {
            wanted.map_err(|source| StoreError::Range { digest: *digest, source })?;
            return Ok(Some(Bytes::new().into()));
        }
        if let (Some(bytes), Ok(wanted)) = (self.hot_blob(digest), &wanted) {
            return Ok(Some(cut(&bytes, wanted.clone()).into()));
        }
        let (engine, digest) = (Arc::clone(self), *digest);
        let Some(opened) = blocking(move || engine.open_blob(&digest, range)).await? else {
            return Ok(None);
        };
        match opened {
            Opened::Whole(bytes) => Ok(Some(bytes.into())),
            Opened::File(stream, first) => Ok(Some(stream.body(first))),
            Opened::Chunks(chunks) => {
                let wanted = wanted.map_err(|source| StoreError::Range { digest, source })?;
                Arc::clone(self).read_chunks(digest, chunks, wanted).await
            }
        }
    }

    /// The blob from memory, promised like one from the index.
    fn hot_blob(&self, digest: &Digest) -> Option<Bytes> {
        self.hot_blobs(std::slice::from_ref(digest)).pop().flatten()
    }

    /// The same for many at once.
    pub(crate) fn hot_blobs(&self, digests: &[Digest]) -> Vec<Option<Bytes>> {
        let keys: Vec<Key> = digests.iter().map(|digest| Key::blob(digest.hash())).collect();
        let _gate = self.gate.read();
        let hits = self.hot.get_many(&keys, self.period());
        let mut firsts = Vec::new();
        let mut found = Vec::with_capacity(digests.len());
        for ((digest, key), hit) in digests.iter().zip(keys).zip(hits) {
            if hit.as_ref().is_some_and(|hit| hit.is_first) {
                firsts.push((key, Touch::Promised));
            }
            let bytes = hit.map(|hit| hit.bytes);
            found.push(bytes.filter(|bytes| bytes.len() as u64 == digest.size_bytes()));
        }
        if !firsts.is_empty() {
            self.touch(firsts);
        }
        found
    }

    fn find(&self, digest: &Digest) -> Result<Option<Found>, StoreError> {
        let key = Key::blob(digest.hash());
        let seen = self.hot.before(self.period());
        let row = self.promise_row(digest, &key)?;
        Ok(row.map(|row| Found { digest: *digest, key, row, seen }))
    }

    /// Looks the blob up, reads and checks its first bytes. Bytes that moved meanwhile are looked up once more. Blocks.
    fn open_blob(self: &Arc<Self>, digest: &Digest, range: ByteRange) -> Result<Option<Opened>, StoreError> {
        let mut gone_from = None;
        loop {
            let Some(found) = self.find(digest)? else {
                return Ok(None);
            };
            let wanted =
                range.within(digest.size_bytes()).map_err(|source| StoreError::Range { digest: *digest, source })?;
            match self.fetch(&found, wanted) {
                Ok(opened) => return Ok(Some(opened)),
                Err(ReadFailure::Gone) if gone_from.as_ref() != Some(&found.row.place) => {
                    gone_from = Some(found.row.place);
                }
                Err(ReadFailure::Gone) => {
                    return self.drop_blob(digest, &found.key, found.row.place, Why::Gone).map(|()| None);
                }
                Err(ReadFailure::Damaged) => {
                    return self.drop_blob(digest, &found.key, found.row.place, Why::Damaged).map(|()| None);
                }
                Err(ReadFailure::Io(error)) => {
                    return Err(StoreError::Internal { level: LEVEL, source: error.into() });
                }
            }
        }
    }

    pub(crate) fn drop_blob(&self, digest: &Digest, key: &Key, place: Place, why: Why) -> Result<(), StoreError> {
        tracing::warn!(%digest, ?why, "a stored blob cannot be served and is dropped");
        let key = key.clone();
        // A store that is closing drops it at the next read.
        match self.commit_blocking(vec![Change::Drop { key, place, why }]) {
            Ok(()) | Err(Failure::Closed) => Ok(()),
            Err(failure) => Err(failure.into()),
        }
    }

    fn fetch(self: &Arc<Self>, found: &Found, wanted: Range<u64>) -> Result<Opened, ReadFailure> {
        let size_bytes = found.row.size_bytes;
        let whole = match &found.row.place {
            Place::Inline { crc, bytes } => {
                if crc32c::crc32c(bytes) != *crc || bytes.len() as u64 != size_bytes {
                    return Err(ReadFailure::Damaged);
                }
                bytes.clone()
            }
            Place::Pack(pack) => {
                let frame = read_frame(&*self.packs.file(pack.segment)?, pack)?;
                let raw_len = usize::try_from(size_bytes).map_err(|_| ReadFailure::Damaged)?;
                self.codec.decode(frame, raw_len).ok_or(ReadFailure::Damaged)?
            }
            Place::File(file) => return self.fetch_file(found, file, wanted),
            Place::Chunks { .. } => {
                let list =
                    self.index.list(&found.key).map_err(|failure| ReadFailure::Io(std::io::Error::other(failure)))?;
                return Ok(Opened::Chunks(list.ok_or(ReadFailure::Gone)?));
            }
        };
        self.hot.insert(found.key.clone(), &whole, found.seen);
        Ok(Opened::Whole(cut(&whole, wanted)))
    }

    fn fetch_file(
        self: &Arc<Self>,
        found: &Found,
        place: &FilePlace,
        wanted: Range<u64>,
    ) -> Result<Opened, ReadFailure> {
        let reader = Arc::new(FileReader::open(&self.dir.files(), place, found.row.size_bytes)?);
        if wanted.is_empty() {
            return Ok(Opened::Whole(Bytes::new()));
        }
        let number = frame_of(wanted.start);
        let first = cut_frame(&reader.frame(&self.codec, number)?, number, &wanted);
        let stream = FileStream {
            engine: Arc::clone(self),
            digest: found.digest,
            place: *place,
            reader,
            wanted,
            next: number + 1,
            ahead: None,
        };
        Ok(Opened::File(stream, first))
    }

    /// A boxed future, because a chunk may be a list as well.
    fn read_chunks(
        self: Arc<Self>,
        digest: Digest,
        chunks: Vec<Digest>,
        wanted: Range<u64>,
    ) -> BoxFuture<'static, Result<Option<BlobBody>, StoreError>> {
        async move {
            let mut parts = parts_of(&chunks, &wanted).into_iter();
            let Some((chunk, range)) = parts.next() else {
                return Ok(Some(Bytes::new().into()));
            };
            let Some(first) = self.read(&chunk, range).await? else {
                return Ok(None);
            };
            let rest = futures::stream::iter(parts).map(move |(chunk, range)| {
                let engine = Arc::clone(&self);
                async move { engine.read(&chunk, range).await?.ok_or(StoreError::Damaged(digest)) }
            });
            let rest = rest.buffered(CHUNKS_AHEAD).try_flatten();
            Ok(Some(BlobBody::from_stream(first.chain(rest))))
        }
        .boxed()
    }
}

/// The parts of chunks that make up a range.
fn parts_of(chunks: &[Digest], wanted: &Range<u64>) -> Vec<(Digest, ByteRange)> {
    let mut at = 0;
    let mut parts = Vec::new();
    for chunk in chunks {
        let (start, end) = (wanted.start.max(at), wanted.end.min(at + chunk.size_bytes()));
        if start < end {
            parts.push((*chunk, ByteRange::new(start - at, Some(end - start))));
        }
        at += chunk.size_bytes();
    }
    parts
}

/// A file that is being read, one frame ahead of who listens.
struct FileStream {
    engine: Arc<Engine>,
    digest: Digest,
    place: FilePlace,
    reader: Arc<FileReader>,
    wanted: Range<u64>,
    next: usize,
    ahead: Option<JoinHandle<Result<Bytes, StoreError>>>,
}

impl FileStream {
    fn body(self, first: Bytes) -> BlobBody {
        let rest = futures::stream::try_unfold(self, Self::next);
        BlobBody::from_stream(futures::stream::once(async { Ok(first) }).chain(rest))
    }

    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let Some(frame) = self.ahead.take().or_else(|| self.start()) else {
            return Ok(None);
        };
        let frame = joined(frame.await)?;
        let piece = cut_frame(&frame, self.next, &self.wanted);
        self.next += 1;
        self.ahead = self.start();
        Ok(Some((piece, self)))
    }

    /// Starts to read the next frame; `None` when none is left.
    fn start(&self) -> Option<JoinHandle<Result<Bytes, StoreError>>> {
        if self.next as u64 * FRAME_BYTES as u64 >= self.wanted.end {
            return None;
        }
        let (engine, reader, number) = (Arc::clone(&self.engine), Arc::clone(&self.reader), self.next);
        let (digest, place) = (self.digest, self.place);
        Some(tokio::task::spawn_blocking(move || match reader.frame(&engine.codec, number) {
            Ok(frame) => Ok(frame),
            Err(ReadFailure::Io(error)) => Err(StoreError::Internal { level: LEVEL, source: error.into() }),
            Err(ReadFailure::Damaged | ReadFailure::Gone) => {
                engine.drop_blob(&digest, &Key::blob(digest.hash()), Place::File(place), Why::Damaged)?;
                Err(StoreError::Damaged(digest))
            }
        }))
    }
}

fn frame_of(offset: u64) -> usize {
    usize::try_from(offset / FRAME_BYTES as u64).unwrap_or(usize::MAX)
}

/// The part of frame `number` that lies in `wanted`.
fn cut_frame(frame: &Bytes, number: usize, wanted: &Range<u64>) -> Bytes {
    let at = number as u64 * FRAME_BYTES as u64;
    cut(frame, wanted.start.saturating_sub(at)..wanted.end.saturating_sub(at))
}

/// The part of `bytes` in `range`, as far as there is any.
fn cut(bytes: &Bytes, range: Range<u64>) -> Bytes {
    let end = usize::try_from(range.end).unwrap_or(usize::MAX).min(bytes.len());
    let start = usize::try_from(range.start).unwrap_or(usize::MAX).min(end);
    bytes.slice(start..end)
}
