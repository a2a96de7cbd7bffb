use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cache_types::{Digest, Hasher};
use futures::StreamExt;
use store::{BlobBody, StoreError};
use tokio::task::JoinHandle;

use crate::blob_file::{FileWriter, file_len_at_most, file_path};
use crate::engine::{Engine, Uncommitted};
use crate::failure::{blocking, joined};
use crate::frame::FRAME_BYTES;
use crate::key::Key;
use crate::op::{Body, Change, FileName, NewFile, PutBlob};
use crate::pack::record_len;
use crate::space::Reservation;
use crate::touches::Touch;

/// A blob up to this is held by the index itself.
const INLINE_BYTES: usize = 2 * 1024;
/// Up to this, hashing and compressing is quicker than a change of threads.
const AT_ONCE_BYTES: usize = 16 * 1024;
/// What a small write may take in the index beside its bytes.
const ROW_ROOM: u64 = 512;

fn mismatch(expected: Digest, found: impl Into<String>) -> StoreError {
    StoreError::Mismatch { expected, found: found.into() }
}

/// Checks size and hash of bytes in memory.
pub(crate) fn verify(digest: &Digest, data: &[u8]) -> Result<(), StoreError> {
    if data.len() as u64 != digest.size_bytes() {
        return Err(mismatch(*digest, format!("{} bytes", data.len())));
    }
    let found = digest.function().hash(data);
    if found != *digest.hash() { Err(mismatch(*digest, format!("hash {found}"))) } else { Ok(()) }
}

impl Engine {
    pub(crate) async fn write(self: &Arc<Self>, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        if digest.size_bytes() <= FRAME_BYTES as u64 {
            self.write_small(digest, body).await
        } else {
            self.write_large(digest, body).await
        }
    }

    async fn write_small(self: &Arc<Self>, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        let size = usize::try_from(digest.size_bytes()).expect("at most 1 MiB");
        let Some(data) = body.collect(size).await? else {
            return Err(mismatch(digest, "more bytes"));
        };
        if data.len() <= AT_ONCE_BYTES {
            verify(&digest, &data)?;
        } else {
            let data = data.clone();
            blocking(move || verify(&digest, &data)).await?;
        }
        self.put_small(digest, data, Touch::Written).await
    }

    /// Stores verified bytes of at most 1 MiB.
    async fn put_small(self: &Arc<Self>, digest: Digest, data: Bytes, touch: Touch) -> Result<(), StoreError> {
        if data.is_empty() {
            return Ok(());
        }
        let room = match self.space.reserve(record_len(data.len()) + ROW_ROOM).await {
            Ok(room) => room,
            // What is here already needs no room.
            Err(_full) if self.is_promised(digest).await? => return Ok(()),
            Err(full) => return Err(full),
        };
        let body = if data.len() <= INLINE_BYTES && self.space.index_has_room() {
            Body::Inline(data)
        } else if data.len() <= AT_ONCE_BYTES {
            Body::Frame(self.codec.encode(data))
        } else {
            let engine = Arc::clone(self);
            Body::Frame(blocking(move || Ok(engine.codec.encode(data))).await?)
        };
        self.put(digest, body, touch, room).await
    }

    async fn put(&self, digest: Digest, body: Body, touch: Touch, room: Reservation) -> Result<(), StoreError> {
        let cost = match &body {
            Body::Inline(bytes) => bytes.len(),
            Body::Frame(frame) => frame.stored.len(),
            Body::File(_) => 0,
        };
        let size_bytes = digest.size_bytes();
        let put = PutBlob { key: Key::blob(digest.hash()), size_bytes, body, touch, _room: room };
        self.commit(Change::Put(put), cost).await
    }

    /// Stores bytes whose digest was made from them here. They are promised.
    pub(crate) async fn put_verified(self: &Arc<Self>, digest: Digest, data: Bytes) -> Result<(), StoreError> {
        if data.len() <= FRAME_BYTES {
            return self.put_small(digest, data, Touch::Promised).await;
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
        self.put(digest, Body::File(file), Touch::Promised, room).await
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
        self.put(digest, Body::File(file), Touch::Written, room).await
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
