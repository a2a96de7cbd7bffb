use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cache_types::{ByteRange, Digest, Hasher};
use futures::StreamExt;
use store::{BlobBody, Chunker, MAX_CHUNK_BYTES, StoreError};

use crate::engine::Engine;
use crate::failure::{Failure, blocking};
use crate::key::Key;
use crate::op::Change;
use crate::row::{Place, Queue};
use crate::writer::verify;

/// The longest list of chunks. Spec: R-111.
const MAX_CHUNKS: usize = 1_000_000;

fn mismatch(expected: Digest, found: String) -> StoreError {
    StoreError::Mismatch { expected, found }
}

impl Engine {
    pub(crate) async fn split(self: &Arc<Self>, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        if digest.is_empty() {
            return Ok(Some(Vec::new()));
        }
        let (engine, digest) = (Arc::clone(self), *digest);
        let known = blocking(move || engine.known_list(&digest)).await?;
        match known {
            Known::Missing => Ok(None),
            Known::List(chunks) => Ok(Some(chunks)),
            Known::Whole => self.cut(digest).await,
        }
    }

    /// The list of a blob that is here, if one is known that clients can use. Blocks.
    fn known_list(&self, digest: &Digest) -> Result<Known, StoreError> {
        if !self.promise(&[*digest])?.into_iter().all(|here| here) {
            return Ok(Known::Missing);
        }
        if digest.size_bytes() <= MAX_CHUNK_BYTES as u64 {
            return Ok(Known::List(vec![*digest]));
        }
        let fits = |chunk: &Digest| chunk.size_bytes() <= MAX_CHUNK_BYTES as u64;
        Ok(match self.list_of(digest)? {
            Some(chunks) if chunks.iter().all(fits) => Known::List(chunks),
            _ => Known::Whole,
        })
    }

    fn list_of(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, Failure> {
        let key = Key::blob(digest.hash());
        match self.index.blob(&key)?.map(|row| row.place) {
            Some(Place::Chunks { .. }) => self.index.list(&key),
            _ => Ok(None),
        }
    }

    /// Cuts a blob, stores the chunks as blobs of their own, and keeps the list in place of the blob's bytes.
    async fn cut(self: &Arc<Self>, digest: Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        let Some(mut body) = self.read(&digest, ByteRange::ALL).await? else {
            return Ok(None);
        };
        let mut chunks = Vec::new();
        let mut chunker = Chunker::default();
        while let Some(piece) = body.next().await.transpose()? {
            let cut = blocking(move || Ok(cut_on(chunker, &piece, &digest))).await?;
            chunker = cut.0;
            self.put_chunks(cut.1, &mut chunks).await?;
        }
        let rest = blocking(move || Ok(cut_rest(chunker, &digest))).await?;
        self.put_chunks(rest, &mut chunks).await?;
        match self.put_list(digest, chunks.clone()).await {
            Ok(()) => Ok(Some(chunks)),
            Err(StoreError::MissingChunk(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn put_chunks(self: &Arc<Self>, cut: Vec<(Digest, Bytes)>, all: &mut Vec<Digest>) -> Result<(), StoreError> {
        for (chunk, data) in cut {
            self.put_verified(chunk, data).await?;
            all.push(chunk);
        }
        Ok(())
    }

    /// Makes `digest` a list of chunks that were here a moment ago.
    async fn put_list(self: &Arc<Self>, digest: Digest, chunks: Vec<Digest>) -> Result<(), StoreError> {
        let room = self.space.reserve(chunks.len() as u64 * 128 + 512).await?;
        let cost = chunks.len() * 41;
        let size_bytes = digest.size_bytes();
        let change = Change::PutList { key: Key::blob(digest.hash()), size_bytes, chunks: chunks.into() };
        self.commit(change, cost, Some(room)).await?;
        let engine = Arc::clone(self);
        blocking(move || Ok(engine.keep_long_promise(&digest)?)).await
    }

    /// A list that was promised for long has the chunks that it rests on promised for as long. Blocks.
    fn keep_long_promise(&self, digest: &Digest) -> Result<(), Failure> {
        match self.index.blob(&Key::blob(digest.hash()))? {
            Some(row) if row.life.queue == Queue::Kept => self.promise_long(&[], &[*digest]),
            _ => Ok(()),
        }
    }

    pub(crate) async fn splice(self: &Arc<Self>, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        let (engine, asked) = (Arc::clone(self), chunks.to_vec());
        let Some(flat) = blocking(move || engine.prepare_splice(&digest, &asked)).await? else {
            return Ok(());
        };
        if digest.size_bytes() <= MAX_CHUNK_BYTES as u64 {
            let data = self.gather(&digest, &flat).await?;
            let data = blocking(move || verify(&digest, &data).map(|()| data)).await?;
            return self.put_verified(digest, data).await;
        }
        self.verify_list(digest, &flat).await?;
        self.put_list(digest, flat).await
    }

    /// The chunks that really hold bytes; `None` when the blob is here already. Blocks.
    fn prepare_splice(&self, digest: &Digest, chunks: &[Digest]) -> Result<Option<Vec<Digest>>, StoreError> {
        if digest.is_empty() && chunks.iter().all(Digest::is_empty) {
            return Ok(None);
        }
        if self.promise(&[*digest])?.into_iter().all(|here| here) {
            // The chunks live longer too; those that are not here are not needed.
            self.missing(chunks)?;
            return Ok(None);
        }
        if let Some(chunk) = self.missing(chunks)?.first() {
            return Err(StoreError::MissingChunk(*chunk));
        }
        let sum = chunks.iter().try_fold(0u64, |sum, chunk| sum.checked_add(chunk.size_bytes()));
        if sum != Some(digest.size_bytes()) {
            let sum = sum.map_or_else(|| "too many".to_owned(), |sum| sum.to_string());
            return Err(mismatch(*digest, format!("chunks of {sum} bytes in all")));
        }
        let mut flat = Vec::with_capacity(chunks.len());
        self.flatten(chunks, &mut flat)?;
        if flat.len() > MAX_CHUNKS {
            return Err(mismatch(*digest, format!("{} chunks, where {MAX_CHUNKS} are the most", flat.len())));
        }
        Ok(Some(flat))
    }

    /// Puts the chunks of chunks in their place. Chunks that were cut are small, so this ends.
    fn flatten(&self, chunks: &[Digest], flat: &mut Vec<Digest>) -> Result<(), Failure> {
        for chunk in chunks.iter().filter(|chunk| chunk.size_bytes() > 0) {
            let list = if chunk.size_bytes() > MAX_CHUNK_BYTES as u64 { self.list_of(chunk)? } else { None };
            match list {
                Some(list) => self.flatten(&list, flat)?,
                None => flat.push(*chunk),
            }
        }
        Ok(())
    }

    /// The concatenation of chunks, in memory; the digest's size bounds it.
    async fn gather(self: &Arc<Self>, digest: &Digest, chunks: &[Digest]) -> Result<Bytes, StoreError> {
        let mut data = BytesMut::with_capacity(usize::try_from(digest.size_bytes()).unwrap_or(0).min(MAX_CHUNK_BYTES));
        for chunk in chunks {
            let mut body = self.chunk(chunk).await?;
            while let Some(piece) = body.next().await.transpose()? {
                data.extend_from_slice(&piece);
            }
        }
        Ok(data.freeze())
    }

    async fn verify_list(self: &Arc<Self>, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        let mut hasher = Hasher::new(digest.function(), digest.size_bytes());
        for chunk in chunks {
            let mut body = self.chunk(chunk).await?;
            while let Some(piece) = body.next().await.transpose()? {
                hasher = blocking(move || {
                    hasher.update(&piece);
                    Ok(hasher)
                })
                .await?;
            }
        }
        let found = hasher.finish();
        if found != *digest.hash() {
            return Err(mismatch(digest, format!("hash {found}")));
        }
        Ok(())
    }

    async fn chunk(self: &Arc<Self>, chunk: &Digest) -> Result<BlobBody, StoreError> {
        self.read(chunk, ByteRange::ALL).await?.ok_or(StoreError::MissingChunk(*chunk))
    }
}

/// What is known of a blob's chunks.
enum Known {
    Missing,
    /// Here, and not cut in a way that clients can use.
    Whole,
    List(Vec<Digest>),
}

fn cut_on(mut chunker: Chunker, piece: &[u8], whole: &Digest) -> (Chunker, Vec<(Digest, Bytes)>) {
    chunker.push(piece);
    let mut cut = Vec::new();
    while let Some(chunk) = chunker.next_chunk() {
        cut.push((Digest::of(whole.function(), &chunk), chunk));
    }
    (chunker, cut)
}

fn cut_rest(mut chunker: Chunker, whole: &Digest) -> Vec<(Digest, Bytes)> {
    let chunks = std::iter::from_fn(|| chunker.last_chunk());
    chunks.map(|chunk| (Digest::of(whole.function(), &chunk), chunk)).collect()
}
