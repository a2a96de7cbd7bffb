use std::collections::BTreeMap;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::{StreamExt, TryStreamExt, stream};
use parking_lot::Mutex;

use crate::{BlobBody, BlobStore, StoreError, write_each};

/// How a call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The call answers [`StoreError::Unavailable`] at once.
    Unavailable,
    /// A body that is read or written ends with [`StoreError::Unavailable`] after so many bytes; a call without a body
    /// fails at once.
    CutAfter(u64),
    /// A body that is read has its last byte changed, without an error; other calls succeed.
    Flipped,
}

/// A store that fails as it is told to.
pub struct Faulty<S> {
    inner: S,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    calls: u64,
    faults: BTreeMap<u64, Fault>,
}

#[derive(Debug, thiserror::Error)]
#[error("told to fail")]
struct Told;

fn unavailable() -> StoreError {
    StoreError::Unavailable { level: "the faulty store", source: Told.into() }
}

impl<S> Faulty<S> {
    /// Wraps `inner`; nothing fails yet.
    pub fn new(inner: S) -> Self {
        Self { inner, state: Mutex::default() }
    }

    /// Has the `nth` call from now fail; the next one is the first.
    pub fn fail(&self, nth: u64, fault: Fault) {
        let mut state = self.state.lock();
        let call = state.calls + nth;
        state.faults.insert(call, fault);
    }

    /// The calls so far.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// The store within.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    fn next_fault(&self) -> Option<Fault> {
        let mut state = self.state.lock();
        state.calls += 1;
        let call = state.calls;
        state.faults.remove(&call)
    }

    fn without_body(&self) -> Result<(), StoreError> {
        match self.next_fault() {
            Some(Fault::Unavailable | Fault::CutAfter(_)) => Err(unavailable()),
            Some(Fault::Flipped) | None => Ok(()),
        }
    }
}

/// The first `left` bytes of a body, then an error.
fn cut(body: BlobBody, left: u64) -> BlobBody {
    BlobBody::from_stream(stream::try_unfold((body, left), |(mut body, left)| async move {
        if left == 0 {
            return Err(unavailable());
        }
        let Some(mut piece) = body.next().await.transpose()? else {
            return Err(unavailable());
        };
        piece.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        let left = left - piece.len() as u64;
        Ok(Some((piece, (body, left))))
    }))
}

/// The body with the last byte of its last piece changed.
async fn flipped(body: BlobBody) -> Result<BlobBody, StoreError> {
    let mut pieces: Vec<Bytes> = body.try_collect().await?;
    if let Some(last) = pieces.last_mut() {
        let mut bytes = last.to_vec();
        bytes.iter_mut().rev().take(1).for_each(|byte| *byte ^= 1);
        *last = bytes.into();
    }
    Ok(BlobBody::from_stream(stream::iter(pieces.into_iter().map(Ok))))
}

#[async_trait]
impl<S: BlobStore> BlobStore for Faulty<S> {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.without_body()?;
        self.inner.find_missing(digests).await
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        let fault = self.next_fault();
        if fault == Some(Fault::Unavailable) {
            return Err(unavailable());
        }
        let Some(body) = self.inner.read(digest, range).await? else {
            return Ok(None);
        };
        match fault {
            Some(Fault::CutAfter(bytes)) => Ok(Some(cut(body, bytes))),
            Some(Fault::Flipped) => flipped(body).await.map(Some),
            _ => Ok(Some(body)),
        }
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        match self.next_fault() {
            Some(Fault::Unavailable) => Err(unavailable()),
            Some(Fault::CutAfter(bytes)) => self.inner.write(digest, cut(body, bytes)).await,
            Some(Fault::Flipped) | None => self.inner.write(digest, body).await,
        }
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        write_each(self, blobs).await
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        self.without_body()?;
        self.inner.split(digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        self.without_body()?;
        self.inner.splice(digest, chunks).await
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;
    use crate::{MemoryStore, Verifying, conformance};

    async fn store_with(data: &Bytes) -> (Verifying<Faulty<MemoryStore>>, Digest) {
        let memory = MemoryStore::default();
        let digest = Digest::of(DigestFunction::Sha256, data);
        memory.write(digest, data.clone().into()).await.expect("written");
        (Verifying::new(Faulty::new(memory)), digest)
    }

    #[tokio::test]
    async fn without_faults_it_conforms() {
        conformance::blob_store(&Faulty::new(MemoryStore::default()), 1).await;
    }

    #[tokio::test]
    async fn a_verified_read_never_ends_well_with_a_wrong_byte() {
        let data = Bytes::from(vec![7; 100_000]);
        let (_, digest) = store_with(&data).await;
        for fault in [Fault::Flipped, Fault::CutAfter(99_999), Fault::CutAfter(0)] {
            let memory = MemoryStore::default();
            memory.write(digest, data.clone().into()).await.expect("written");
            let faulty = Faulty::new(memory);
            faulty.fail(1, fault);
            let store = Verifying::new(faulty);
            let body = store.read(&digest, ByteRange::ALL).await.expect("read").expect("here");
            assert!(body.collect(usize::MAX).await.is_err(), "{fault:?}");
            let body = store.read(&digest, ByteRange::ALL).await.expect("read").expect("here");
            assert_eq!(body.collect(usize::MAX).await.expect("whole"), Some(data.clone()));
        }
    }

    #[tokio::test]
    async fn a_write_that_is_cut_stores_nothing_and_can_be_tried_again() {
        let data = Bytes::from(vec![9; 5000]);
        let digest = Digest::of(DigestFunction::Blake3, &data);
        let store = Faulty::new(MemoryStore::default());
        store.fail(1, Fault::CutAfter(100));
        assert!(store.write(digest, data.clone().into()).await.is_err());
        assert_eq!(store.find_missing(&[digest]).await.expect("asked"), [digest]);
        store.write(digest, data.into()).await.expect("the second try");
        assert_eq!(store.find_missing(&[digest]).await.expect("asked"), []);
        store.fail(1, Fault::Unavailable);
        assert!(store.find_missing(&[digest]).await.is_err(), "a store that cannot be asked does not guess");
    }
}
