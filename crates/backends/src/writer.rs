use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cache_types::{Digest, Hasher};
use futures::StreamExt;
use futures::future::join_all;
use store::{BlobBody, StoreError};
use tokio::task::JoinHandle;

use crate::blob_file::{FileWriter, file_len_at_most, file_path};
use crate::engine::{Engine, Uncommitted};
use crate::failure::{Failure, blocking, joined};
use crate::frame::FRAME_BYTES;
use crate::key::Key;
use crate::op::{Body, Change, FileName, NewFile, PutBlob};
use crate::pack::record_len;
use crate::space::Reservation;
use crate::touches::Touch;

/// A blob up to this is held by the index itself.
const INLINE_BYTES: usize = 2 * 1024;
/// Up to this in all, hashing and compressing is quicker than a change of threads.
const AT_ONCE_BYTES: usize = 16 * 1024;
/// What a small write may take in the index beside its bytes.
const ROW_ROOM: u64 = 512;

fn mismatch(expected: Digest, found: impl Into<String>) -> StoreError {
    StoreError::Mismatch { expected, found: found.into() }
}

/// What it may take on disk.
fn room_of((_, put): &Put) -> u64 {
    record_len(put.body.len_bytes()) + ROW_ROOM
}

/// Whether a blob is stored in one piece: in the index or in a pack.
pub(crate) fn is_small(digest: &Digest) -> bool {
    digest.size_bytes() <= FRAME_BYTES as u64
}

/// Checks size and hash of bytes in memory.
pub(crate) fn verify(digest: &Digest, data: &[u8]) -> Result<(), StoreError> {
    if data.len() as u64 != digest.size_bytes() {
        return Err(mismatch(*digest, format!("{} bytes", data.len())));
    }
    let found = digest.function().hash(data);
    if found != *digest.hash() { Err(mismatch(*digest, format!("hash {found}"))) } else { Ok(()) }
}

/// A small blob in memory, whose size is known before it is here; `None` when it is longer.
async fn gather(mut body: BlobBody, size: usize) -> Result<Option<Bytes>, StoreError> {
    let mut all = BytesMut::new();
    while let Some(piece) = body.next().await.transpose()? {
        if all.len() + piece.len() > size {
            return Ok(None);
        }
        if piece.len() == size {
            // What may follow is looked at all the same.
            return Ok(body.collect(0).await?.map(|_nothing| piece));
        }
        all.reserve(size - all.len());
        all.extend_from_slice(&piece);
    }
    Ok(Some(all.freeze()))
}

/// A verified blob of at most 1 MiB, ready for the committer.
type Put = (Digest, PutBlob);

impl Engine {
    pub(crate) async fn write(self: &Arc<Self>, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        if !is_small(&digest) {
            return self.write_large(digest, body).await;
        }
        let size = usize::try_from(digest.size_bytes()).expect("at most 1 MiB");
        let Some(data) = gather(body, size).await? else {
            return Err(mismatch(digest, "more bytes"));
        };
        self.write_small(vec![(digest, data)]).await.pop().unwrap_or_else(|| Err(Failure::Stopped.into()))
    }

    /// Verifies and stores small blobs, as one submission.
    pub(crate) async fn write_small(self: &Arc<Self>, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        let mut outcomes = Vec::with_capacity(blobs.len());
        let mut puts: Vec<Put> = Vec::with_capacity(blobs.len());
        for prepared in self.prepare(blobs).await {
            let put = prepared.transpose();
            outcomes.push(match put {
                Some(Ok(put)) => {
                    puts.push(put);
                    None
                }
                Some(Err(error)) => Some(Err(error)),
                None => Some(Ok(())),
            });
        }
        let mut stored = self.put_all(puts).await.into_iter();
        let outcomes = outcomes.into_iter().map(|known| known.or_else(|| stored.next()));
        outcomes.map(|outcome| outcome.unwrap_or_else(|| Err(Failure::Stopped.into()))).collect()
    }

    /// Verifies blobs and encodes them as they are stored; `None` for what is empty.
    async fn prepare(self: &Arc<Self>, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<Option<Put>, StoreError>> {
        let count = blobs.len();
        let at_once = blobs.iter().map(|(_, data)| data.len()).sum::<usize>() <= AT_ONCE_BYTES;
        let engine = Arc::clone(self);
        let prepare = move || {
            let put = |(digest, data): (Digest, Bytes)| {
                verify(&digest, &data)?;
                Ok(engine.encode(digest, data, Touch::Written))
            };
            blobs.into_iter().map(put).collect()
        };
        if at_once {
            return prepare();
        }
        // Never closed; without a turn it would be done all the same.
        let _turn = self.hashing.acquire().await;
        let prepared = blocking(move || Ok(prepare())).await;
        prepared.unwrap_or_else(|_stopped| (0..count).map(|_| Err(Failure::Stopped.into())).collect())
    }

    /// A verified blob of at most 1 MiB as it is stored; `None` for the empty one, which always is.
    fn encode(&self, digest: Digest, data: Bytes, touch: Touch) -> Option<Put> {
        if data.is_empty() {
            return None;
        }
        let body = if data.len() <= INLINE_BYTES && self.space.index_has_room() {
            Body::Inline(data)
        } else {
            Body::Frame(self.codec.encode(data))
        };
        Some((digest, PutBlob { key: Key::blob(digest.hash()), size_bytes: digest.size_bytes(), body, touch }))
    }

    /// Stores verified blobs, as one submission if there is room for all.
    async fn put_all(self: &Arc<Self>, puts: Vec<Put>) -> Vec<Result<(), StoreError>> {
        if puts.len() > 1
            && let Ok(room) = self.space.reserve(puts.iter().map(room_of).sum()).await
        {
            return self.put_in(puts, room).await;
        }
        // Where there is no room for all, some may be here already, or find room alone.
        join_all(puts.into_iter().map(|put| self.put_alone(put))).await
    }

    async fn put_alone(self: &Arc<Self>, put: Put) -> Result<(), StoreError> {
        match self.space.reserve(room_of(&put)).await {
            Ok(room) => self.put_in(vec![put], room).await.into_iter().collect(),
            // What is here already needs no room.
            Err(_full) if self.is_promised(put.0).await? => Ok(()),
            Err(full) => Err(full),
        }
    }

    async fn put_in(&self, puts: Vec<Put>, room: Reservation) -> Vec<Result<(), StoreError>> {
        let costs: Vec<usize> = puts.iter().map(|(_, put)| put.body.len_bytes()).collect();
        let changes = puts.into_iter().map(|(_, put)| Change::Put(put)).collect();
        let outcomes = self.commit_all(changes, costs.iter().sum(), Some(room)).await;
        let outcomes = outcomes.unwrap_or_else(|failure| costs.iter().map(|_| Err(failure.clone())).collect());
        let each = outcomes.into_iter().zip(costs);
        each.map(|(outcome, cost)| outcome.map_err(|failure| failure.into_store(cost as u64))).collect()
    }

    /// Stores bytes whose digest was made from them here. They are promised.
    pub(crate) async fn put_verified(self: &Arc<Self>, digest: Digest, data: Bytes) -> Result<(), StoreError> {
        if data.len() <= FRAME_BYTES {
            let engine = Arc::clone(self);
            let put = blocking(move || Ok(engine.encode(digest, data, Touch::Promised))).await?;
            return match put {
                Some(put) => self.put_alone(put).await,
                None => Ok(()),
            };
        }
        let room = self.space.reserve(file_len_at_most(digest.size_bytes()) + ROW_ROOM).await?;
        let engine = Arc::clone(self);
        let file = blocking(move || {
            let mut upload = Upload::new(&engine, digest, room)?;
            let mut rest = data;
            while !rest.is_empty() {
                upload.push(rest.split_to(rest.len().min(FRAME_BYTES)))?;
            }
            upload.finish()
        });
        let (file, room) = file.await?;
        self.put_file(digest, file, Touch::Promised, room).await
    }

    async fn put_file(&self, digest: Digest, file: NewFile, touch: Touch, room: Reservation) -> Result<(), StoreError> {
        let (key, size_bytes) = (Key::blob(digest.hash()), digest.size_bytes());
        let put = PutBlob { key, size_bytes, body: Body::File(file), touch };
        self.commit(Change::Put(put), 0, Some(room)).await
    }

    async fn write_large(self: &Arc<Self>, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        if self.is_promised(digest).await? {
            return self.check(digest, body).await;
        }
        let room = self.space.reserve(file_len_at_most(digest.size_bytes()) + ROW_ROOM).await?;
        let engine = Arc::clone(self);
        let upload = blocking(move || Upload::new(&engine, digest, room)).await?;
        let upload = feed(digest, body, upload).await?;
        let (file, room) = blocking(move || upload.finish()).await?;
        self.put_file(digest, file, Touch::Written, room).await
    }

    /// Whether the blob is here; it is promised then.
    async fn is_promised(self: &Arc<Self>, digest: Digest) -> Result<bool, StoreError> {
        let engine = Arc::clone(self);
        blocking(move || Ok(engine.promise(&[digest])?.into_iter().all(|here| here))).await
    }

    /// Reads the body of a blob that is here already, and tells whether it would have been that blob.
    async fn check(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        let hasher = Hasher::new(digest.function(), digest.size_bytes());
        let found = feed(digest, body, hasher).await?.finish();
        if found != *digest.hash() { Err(mismatch(digest, format!("hash {found}"))) } else { Ok(()) }
    }
}

/// What takes the frames of a body, on a thread that may block.
trait Sink: Send + Sized + 'static {
    fn take(&mut self, frame: Bytes) -> Result<(), StoreError>;
}

impl Sink for Hasher {
    fn take(&mut self, frame: Bytes) -> Result<(), StoreError> {
        self.update(&frame);
        Ok(())
    }
}

impl Sink for Upload {
    fn take(&mut self, frame: Bytes) -> Result<(), StoreError> {
        self.push(frame)
    }
}

/// Cuts a body into frames and hands them on, one being taken while the next arrives. Ends with exactly the digest's size.
async fn feed<S: Sink>(digest: Digest, mut body: BlobBody, sink: S) -> Result<S, StoreError> {
    let mut taking = Taking { idle: Some(sink), busy: None };
    let mut frame = BytesMut::new();
    let mut left = digest.size_bytes();
    while let Some(mut piece) = body.next().await.transpose()? {
        left = left.checked_sub(piece.len() as u64).ok_or_else(|| mismatch(digest, "more bytes"))?;
        while !piece.is_empty() {
            frame.reserve(FRAME_BYTES - frame.len());
            frame.extend_from_slice(&piece.split_to(piece.len().min(FRAME_BYTES - frame.len())));
            if frame.len() == FRAME_BYTES {
                taking.give(frame.split().freeze()).await?;
            }
        }
    }
    if left > 0 {
        return Err(mismatch(digest, format!("{} bytes", digest.size_bytes() - left)));
    }
    if !frame.is_empty() {
        taking.give(frame.freeze()).await?;
    }
    taking.end().await
}

/// A sink that is idle, or busy on another thread.
struct Taking<S> {
    idle: Option<S>,
    busy: Option<JoinHandle<Result<S, StoreError>>>,
}

impl<S: Sink> Taking<S> {
    async fn give(&mut self, frame: Bytes) -> Result<(), StoreError> {
        let mut sink = self.wait().await?;
        self.busy = Some(tokio::task::spawn_blocking(move || sink.take(frame).map(|()| sink)));
        Ok(())
    }

    async fn wait(&mut self) -> Result<S, StoreError> {
        if let Some(busy) = self.busy.take() {
            return joined(busy.await);
        }
        Ok(self.idle.take().expect("a sink that is not busy is idle"))
    }

    async fn end(mut self) -> Result<S, StoreError> {
        self.wait().await
    }
}

/// A large blob on its way into a file; dropped, it leaves nothing.
struct Upload {
    engine: Arc<Engine>,
    digest: Digest,
    hasher: Hasher,
    file: FileWriter,
    room: Reservation,
}

impl Upload {
    fn new(engine: &Arc<Engine>, digest: Digest, room: Reservation) -> Result<Self, StoreError> {
        let file = FileWriter::create(&engine.dir.tmp()).map_err(|failure| failure.into_store(digest.size_bytes()))?;
        let hasher = Hasher::new(digest.function(), digest.size_bytes());
        Ok(Self { engine: Arc::clone(engine), digest, hasher, file, room })
    }

    fn push(&mut self, frame: Bytes) -> Result<(), StoreError> {
        self.hasher.update(&frame);
        let before = self.file.len_bytes();
        let pushed = self.file.push(&self.engine.codec, frame);
        pushed.map_err(|failure| failure.into_store(self.digest.size_bytes()))?;
        self.room.wrote(self.file.len_bytes() - before);
        Ok(())
    }

    /// Verifies the hash and moves the file to its place; gives the room back, which lasts until the file is counted.
    fn finish(self) -> Result<(NewFile, Reservation), StoreError> {
        let Self { engine, digest, hasher, file, room } = self;
        let found = hasher.finish();
        if found != *digest.hash() {
            return Err(mismatch(digest, format!("hash {found}")));
        }
        let (folder, segment) = (engine.dir.files(), file.segment());
        let name = FileName { path: file_path(&folder, segment), segment };
        let guard = Uncommitted::new(&engine.uncommitted, name);
        let place = file.finish(&Key::blob(digest.hash()), &folder, engine.sync);
        let place = place.map_err(|failure| failure.into_store(digest.size_bytes()))?;
        Ok((NewFile { place, guard }, room))
    }
}
