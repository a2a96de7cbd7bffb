use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use async_trait::async_trait;
use bytes::Bytes;
use cache_types::{ByteRange, Digest, Hash};
use parking_lot::Mutex;
use store::{
    BlobBody, BlobStore, InMemory, Inspect, LongPromise, RecordKey, RecordStore, SizeLookup, StoreError, write_each,
};

use crate::clock::{Clock, SystemClock};
use crate::committer::Committer;
use crate::engine::Engine;
use crate::failure::{Failure, blocking};
use crate::housekeeper::Housekeeper;
use crate::key::Key;
use crate::presence::Known;
use crate::settings::Settings;
use crate::stats::Stats;
use crate::upkeep::Work;
use crate::upkeep::check::{Checked, Mending};
use crate::upkeep::collect::{Collected, Goal};
use crate::upkeep::rebuild::Rebuilt;
use crate::writer::is_small;

/// The embedded store: blobs and records in one folder, within a bound. Clones share it.
///
/// Its methods run under a tokio runtime. The last clone that is dropped closes it, as [`Embedded::close`] does.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    engine: Arc<Engine>,
    threads: Mutex<Option<Threads>>,
}

struct Threads {
    committer: JoinHandle<()>,
    housekeeper: JoinHandle<()>,
    filter: JoinHandle<()>,
}

impl Embedded {
    /// Opens the store in its folder, or makes it. Blocks, for well under a second: nothing is scanned.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when another process uses the folder, a newer program wrote it, or it cannot be made;
    /// [`StoreError::Internal`] when the index cannot be opened.
    pub fn open(settings: Settings) -> Result<Self, StoreError> {
        Self::open_with_clock(settings, Arc::new(SystemClock))
    }

    /// The same with another clock.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_with_clock(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        Self::run(Engine::open(&settings, clock)?)
    }

    /// Opens a store that no server uses; when its index is damaged, makes that anew first. Blocks, and reads all of the
    /// index.
    ///
    /// # Errors
    /// As [`Embedded::open`].
    pub fn open_mending(settings: Settings, work: &Work) -> Result<(Self, Option<Rebuilt>), StoreError> {
        let (engine, rebuilt) = Engine::open_mending(&settings, Arc::new(SystemClock), work)?;
        Ok((Self::run(engine)?, rebuilt))
    }

    fn run(engine: Engine) -> Result<Self, StoreError> {
        let engine = Arc::new(engine);
        let committer = Committer::new(Arc::clone(&engine));
        let housekeeper = Housekeeper::new(Arc::clone(&engine));
        let committer = spawn("store-commit", || committer.run())?;
        let closes = |error| {
            engine.stopping.store(true, Ordering::Release);
            engine.absence.close();
            engine.queue.close();
            error
        };
        let housekeeper = spawn("store-keep", || housekeeper.run()).map_err(closes)?;
        let filtered = Arc::clone(&engine);
        let filter = spawn("store-filter", move || filtered.absence.keep(&filtered)).map_err(closes)?;
        let threads = Mutex::new(Some(Threads { committer, housekeeper, filter }));
        Ok(Self { inner: Arc::new(Inner { engine, threads }) })
    }

    /// Writes what waits and stops the threads, so that the next start finds all in order. Later writes are refused. Blocks.
    pub fn close(&self) {
        self.inner.close();
    }

    /// How full the store is and what happened since it was opened.
    pub fn stats(&self) -> Stats {
        self.inner.engine.stats()
    }

    /// Whether a record of this key was evicted lately. A bounded number is remembered, until the store is closed.
    pub fn was_evicted(&self, key: &RecordKey) -> bool {
        self.inner.engine.gone.has(&Key::record(key))
    }

    /// Evicts down to the goal, as far as leases let it; answers when the disk has the space back.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store is closing.
    pub async fn collect(&self, goal: Goal, work: Arc<Work>) -> Result<Collected, StoreError> {
        self.inner.engine.collect(goal, work).await
    }

    /// What [`Embedded::collect`] would do now. Changes nothing.
    ///
    /// # Errors
    /// [`StoreError::Internal`] when the index cannot be read.
    pub async fn plan(&self, goal: Goal) -> Result<Collected, StoreError> {
        self.inner.engine.plan(goal).await
    }

    /// Reads every blob and record, and checks every stored checksum, every hash, and the index against itself.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when a check is under way already.
    pub async fn check(&self, mending: Mending, work: Arc<Work>) -> Result<Checked, StoreError> {
        self.inner.engine.check_all(mending, work).await
    }

    /// Some of the records behind `after`, in the order of their keys; none when that was the last. Promises nothing.
    ///
    /// # Errors
    /// [`StoreError::Internal`] when the index cannot be read.
    pub async fn records_after(&self, after: Option<RecordKey>) -> Result<Vec<(RecordKey, Bytes)>, StoreError> {
        self.inner.engine.records_after(after).await
    }

    /// Drops those of these records whose value is still this one, leased or not; answers how many.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store is closing.
    pub async fn purge_records(&self, records: Vec<(RecordKey, Bytes)>) -> Result<usize, StoreError> {
        self.inner.engine.purge_records(records).await
    }

    /// Drops a blob, leased or not; whether it was here. What names it reads as missing then.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the store is closing.
    pub async fn purge_blob(&self, hash: &Hash) -> Result<bool, StoreError> {
        self.inner.engine.purge_blob(*hash).await
    }

    /// Whether a blob is here; promises nothing.
    ///
    /// # Errors
    /// [`StoreError::Internal`] when the index cannot be read.
    pub async fn has_blob(&self, hash: &Hash) -> Result<bool, StoreError> {
        Ok(self.digest_of(hash).await?.is_some())
    }

    /// Rewrites the parts of the index that purged records were in, so that no copy of them is left there.
    ///
    /// # Errors
    /// [`StoreError::Internal`] when the index cannot be written.
    pub async fn erase_purged(&self) -> Result<(), StoreError> {
        self.inner.engine.erase_purged().await
    }

    #[cfg(test)]
    pub(crate) fn engine(&self) -> &Arc<Engine> {
        &self.inner.engine
    }
}

impl Inner {
    fn close(&self) {
        let Some(threads) = self.threads.lock().take() else {
            return;
        };
        self.engine.stopping.store(true, Ordering::Release);
        self.engine.space.call_housekeeper();
        self.engine.absence.close();
        join(threads.housekeeper);
        join(threads.filter);
        self.engine.queue.close();
        join(threads.committer);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.close();
    }
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, StoreError> {
    Ok(std::thread::Builder::new().name(name.to_owned()).spawn(work).map_err(Failure::from)?)
}

fn join(thread: JoinHandle<()>) {
    if thread.join().is_err() {
        tracing::error!("a thread of the store panicked");
    }
}

#[async_trait]
impl BlobStore for Embedded {
    async fn find_missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let Known { mut missing, unknown } = self.inner.engine.known(digests);
        if !unknown.is_empty() {
            let engine = Arc::clone(&self.inner.engine);
            missing.append(&mut blocking(move || engine.missing(&unknown)).await?);
        }
        Ok(missing)
    }

    async fn read(&self, digest: &Digest, range: ByteRange) -> Result<Option<BlobBody>, StoreError> {
        self.inner.engine.read(digest, range).await
    }

    async fn write(&self, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
        self.inner.engine.write(digest, body).await
    }

    async fn write_all(&self, blobs: Vec<(Digest, Bytes)>) -> Vec<Result<(), StoreError>> {
        if blobs.iter().all(|(digest, _)| is_small(digest)) {
            self.inner.engine.write_small(blobs).await
        } else {
            write_each(self, blobs).await
        }
    }

    async fn split(&self, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
        self.inner.engine.split(digest).await
    }

    async fn splice(&self, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
        self.inner.engine.splice(digest, chunks).await
    }
}

impl InMemory for Embedded {
    fn whole(&self, digests: &[Digest]) -> Vec<Option<Bytes>> {
        self.inner.engine.hot_blobs(digests)
    }
}

#[async_trait]
impl RecordStore for Embedded {
    async fn get(&self, key: &RecordKey) -> Result<Option<Bytes>, StoreError> {
        self.inner.engine.get_record(key).await
    }

    async fn get_all(&self, keys: &[RecordKey]) -> Result<Vec<Option<Bytes>>, StoreError> {
        self.inner.engine.get_records(keys).await
    }

    fn may_have(&self, key: &RecordKey) -> bool {
        self.inner.engine.may_have_record(&Key::record(key))
    }

    async fn put(&self, key: RecordKey, value: Bytes) -> Result<(), StoreError> {
        self.inner.engine.put_record(key, value).await
    }

    async fn remove(&self, key: &RecordKey) -> Result<(), StoreError> {
        self.inner.engine.remove_record(key).await
    }
}

#[async_trait]
impl SizeLookup for Embedded {
    async fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError> {
        let (engine, hash) = (Arc::clone(&self.inner.engine), *hash);
        blocking(move || engine.digest_of(&hash)).await
    }
}

#[async_trait]
impl Inspect for Embedded {
    async fn damaged(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        self.inner.engine.damaged(digests).await
    }
}

#[async_trait]
impl LongPromise for Embedded {
    async fn promise_long(&self, records: &[RecordKey], blobs: &[Digest]) -> Result<(), StoreError> {
        let engine = Arc::clone(&self.inner.engine);
        let (records, blobs): (Vec<Key>, Vec<Digest>) = (records.iter().map(Key::record).collect(), blobs.to_vec());
        blocking(move || Ok(engine.promise_long(&records, &blobs)?)).await
    }
}
