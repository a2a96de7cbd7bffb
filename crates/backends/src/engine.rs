use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lru::LruCache;
use parking_lot::{Mutex, RwLock};
use store::StoreError;
use tokio::sync::{Semaphore, oneshot};
use ulid::Ulid;

use crate::absence::Absence;
use crate::clock::Clock;
use crate::data_dir::DataDir;
use crate::eviction::Oldest;
use crate::failure::Failure;
use crate::frame::Codec;
use crate::gone::Gone;
use crate::hot::Hot;
use crate::index::{Index, Totals, is_newer, missing_index};
use crate::key::Key;
use crate::leases::Leases;
use crate::op::{Change, FileName, Held, Op, Queue, Submission};
use crate::pack::pack_path;
use crate::promised::Promised;
use crate::settings::{Durability, Eviction, Settings, Sizing};
use crate::space::{Reservation, Space};
use crate::stats::{Counters, Stats};
use crate::touches::{Ages, MANY, Touch, Touches};
use crate::upkeep::rebuild::{Rebuilt, rebuild};
use crate::upkeep::{Job, Work};

/// Bytes that may wait for the committer, in permits of 1 KiB.
const QUEUE_PERMITS: usize = 32 * 1024;
/// The row of the index that holds the counts of leases.
pub(crate) const LEASES: &str = "leases";
/// Packs that are kept open for reading.
const OPEN_PACKS: NonZeroUsize = NonZeroUsize::new(256).expect("not zero");

/// What the methods, the committer and the housekeeper share.
pub(crate) struct Engine {
    pub index: Index,
    pub codec: Codec,
    pub hot: Hot,
    pub promised: Promised,
    pub absence: Absence,
    pub touches: Touches,
    pub ages: Ages,
    /// Held shared by whoever promises (a look at the index and the touch), alone by the evictor: so nothing is evicted
    /// between a promise and its touch.
    pub gate: RwLock<()>,
    pub space: Arc<Space>,
    pub packs: Packs,
    pub clock: Arc<dyn Clock>,
    pub queue: Queue,
    pub queue_room: Arc<Semaphore>,
    /// Taken by who hashes and compresses a blob: as many at once as there are cores, since more would only push each other's
    /// bytes out of the caches.
    pub hashing: Semaphore,
    pub uncommitted: Arc<Mutex<HashSet<Ulid>>>,
    pub counters: Arc<Counters>,
    pub totals: Mutex<Totals>,
    pub leases: Mutex<Leases>,
    pub gone: Gone,
    pub discarded: Mutex<Vec<Discarded>>,
    /// No row of a queue is older than this.
    pub oldest: Oldest,
    /// Bytes of the index that were deleted since it was last compacted as a whole.
    pub index_garbage: AtomicU64,
    pub stopping: AtomicBool,
    pub eviction: Eviction,
    /// What the housekeeper was asked for; `None` when it works no more.
    pub jobs: Mutex<Option<Vec<Job>>>,
    /// Held by the one check that may run.
    pub checking: Mutex<()>,
    pub sync: bool,
    /// Last, so that the lock is given back when all else is closed.
    pub dir: Arc<DataDir>,
}

/// A file that no row names any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Discarded {
    Remove(Ulid),
    /// Damaged: kept aside.
    Quarantine(Ulid, u64),
}

impl Engine {
    pub(crate) fn open(settings: &Settings, clock: Arc<dyn Clock>) -> Result<Self, StoreError> {
        let dir = DataDir::open(&settings.data)?;
        let sizing = Sizing::of(settings.max_size_bytes, dir.disk_bytes()?);
        if dir.lacks_index()? {
            // An empty one would have everything swept away.
            return Err(missing_index(dir.index()));
        }
        let index = Index::open(dir.index(), &sizing)?;
        Self::open_index(settings, clock, dir, index)
    }

    /// Opens the index, or makes it anew when it is damaged.
    pub(crate) fn open_mending(
        settings: &Settings,
        clock: Arc<dyn Clock>,
        work: &Work,
    ) -> Result<(Self, Option<Rebuilt>), StoreError> {
        let dir = DataDir::open(&settings.data)?;
        let sizing = Sizing::of(settings.max_size_bytes, dir.disk_bytes()?);
        let mut rebuilt = None;
        let opened =
            if dir.lacks_index()? { Err(missing_index(dir.index())) } else { Index::open_whole(dir.index(), &sizing) };
        let index = match opened {
            Ok(index) => index,
            Err(error) if is_newer(&error) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "the index is damaged and is made anew");
                rebuilt = Some(rebuild(&dir, &sizing, clock.now(), work)?);
                Index::open(dir.index(), &sizing)?
            }
        };
        Ok((Self::open_index(settings, clock, dir, index)?, rebuilt))
    }

    fn open_index(settings: &Settings, clock: Arc<dyn Clock>, dir: DataDir, index: Index) -> Result<Self, StoreError> {
        let dir = Arc::new(dir);
        let sizing = Sizing::of(settings.max_size_bytes, dir.disk_bytes()?);
        let counters = Arc::new(Counters::default());
        let space = Arc::new(Space::new(sizing, settings, Arc::clone(&dir), Arc::clone(&counters)));
        let totals = index.totals()?;
        let leases = Leases::decode(&index.meta(LEASES)?.unwrap_or_default());
        let packs = Packs::load(&index, &dir)?;
        space.packs.store(packs.len_bytes(), Ordering::Release);
        space.files.store(totals.file_bytes, Ordering::Release);
        space.index_measured(index.disk_bytes()?);
        Ok(Self {
            index,
            codec: Codec::default(),
            hot: Hot::new(sizing.hot),
            promised: Promised::default(),
            absence: Absence::default(),
            touches: Touches::default(),
            ages: Ages::of(settings.lease, settings.evict_floor),
            gate: RwLock::new(()),
            space,
            packs,
            clock,
            queue: Queue::default(),
            queue_room: Arc::new(Semaphore::new(QUEUE_PERMITS)),
            hashing: Semaphore::new(std::thread::available_parallelism().map_or(2, usize::from)),
            uncommitted: Arc::default(),
            counters,
            totals: Mutex::new(totals),
            leases: Mutex::new(leases),
            gone: Gone::default(),
            discarded: Mutex::default(),
            oldest: Oldest::default(),
            index_garbage: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
            eviction: settings.eviction,
            jobs: Mutex::new(Some(Vec::new())),
            checking: Mutex::default(),
            sync: settings.durability == Durability::PowerLoss,
            dir,
        })
    }

    pub(crate) fn now(&self) -> Duration {
        self.clock.now()
    }

    /// Hands a job to the housekeeper. One that is over drops it, which its `done` tells.
    pub(crate) fn ask_housekeeper(&self, job: Job) {
        if let Some(jobs) = &mut *self.jobs.lock() {
            jobs.push(job);
        }
        self.space.call_housekeeper();
    }

    /// Notes touches for the committer to write.
    pub(crate) fn touch(&self, touches: impl IntoIterator<Item = (Key, Touch)>) {
        if self.touches.add(touches) > MANY {
            self.queue.ask_flush();
        }
    }

    /// Hands a change to the committer and waits until it is durable. `cost_bytes` is what waits in memory meanwhile, `room`
    /// what it takes on disk.
    pub(crate) async fn commit(
        &self,
        change: Change,
        cost_bytes: usize,
        room: Option<Reservation>,
    ) -> Result<(), StoreError> {
        let outcome = self.commit_all(vec![change], cost_bytes, room).await?.pop().unwrap_or(Err(Failure::Closed));
        outcome.map_err(|failure| failure.into_store(cost_bytes as u64))
    }

    /// The same for changes that are made together, each of which succeeds or fails alone.
    pub(crate) async fn commit_all(
        &self,
        changes: Vec<Change>,
        cost_bytes: usize,
        room: Option<Reservation>,
    ) -> Result<Vec<Result<(), Failure>>, Failure> {
        let permits = u32::try_from(1 + cost_bytes / 1024).unwrap_or(u32::MAX).min(QUEUE_PERMITS as u32);
        let permit = Arc::clone(&self.queue_room).acquire_many_owned(permits).await;
        let permit = permit.map_err(|_closed| Failure::Closed)?;
        self.submit(changes, Held { _permit: Some(permit), _room: room }).await.map_err(|_dropped| Failure::Closed)
    }

    /// The same from a thread that may block, for small changes and the engine's own.
    pub(crate) fn commit_blocking(&self, changes: Vec<Change>) -> Result<(), Failure> {
        let outcomes = self.submit(changes, Held::default()).blocking_recv().map_err(|_dropped| Failure::Closed)?;
        outcomes.into_iter().collect()
    }

    fn submit(&self, changes: Vec<Change>, held: Held) -> oneshot::Receiver<Vec<Result<(), Failure>>> {
        let (done, answer) = oneshot::channel();
        self.queue.push(Op::Change(Submission { changes, done, held }));
        answer
    }

    pub(crate) fn stats(&self) -> Stats {
        let totals = *self.totals.lock();
        let mut stats = Stats {
            blobs: totals.blobs,
            records: totals.records,
            max_bytes: self.space.sizing.max,
            used_bytes: self.space.used_bytes(),
            pack_bytes: self.packs.len_bytes(),
            dead_bytes: self.packs.dead_bytes(),
            file_bytes: totals.file_bytes,
            index_bytes: self.space.index_bytes(),
            quarantine_bytes: self.space.quarantine.load(Ordering::Acquire),
            reserved_bytes: self.space.reserved_bytes(),
            leases: self.leases.lock().live(&self.ages, self.now()),
            lease: self.space.lease(),
            disk_free_bytes: self.dir.free_bytes().unwrap_or(0),
            disk_is_full: self.space.disk_is_full(),
            ..Stats::default()
        };
        self.counters.fill(&mut stats);
        stats
    }
}

/// The table of packs, and their open files.
pub(crate) struct Packs {
    dir: Arc<DataDir>,
    pub table: Mutex<HashMap<Ulid, PackState>>,
    handles: Mutex<LruCache<Ulid, Arc<File>>>,
}

/// What is known of one pack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct PackState {
    /// Bytes on disk.
    pub len: u64,
    /// Bytes of records that rows point at, headers included.
    pub live: u64,
    /// No more records go into it.
    pub sealed: bool,
    /// A compaction could not move all of it; it is not tried again before this.
    pub stuck_until: Option<Instant>,
}

impl PackState {
    pub(crate) fn dead(&self) -> u64 {
        self.len.saturating_sub(self.live)
    }

    pub(crate) fn is_stuck(&self) -> bool {
        self.stuck_until.is_some_and(|until| Instant::now() < until)
    }
}

impl Packs {
    fn load(index: &Index, dir: &Arc<DataDir>) -> Result<Self, Failure> {
        let mut table = HashMap::new();
        for (segment, live) in index.packs()? {
            // A pack that is gone has length 0; its rows read as missing, and it is removed once none is left.
            let len = std::fs::metadata(pack_path(&dir.packs(), segment)).map_or(0, |meta| meta.len());
            table.insert(segment, PackState { len, live, sealed: true, stuck_until: None });
        }
        let handles = Mutex::new(LruCache::new(OPEN_PACKS));
        Ok(Self { dir: Arc::clone(dir), table: Mutex::new(table), handles })
    }

    pub(crate) fn len_bytes(&self) -> u64 {
        self.table.lock().values().map(|pack| pack.len).sum()
    }

    pub(crate) fn dead_bytes(&self) -> u64 {
        self.table.lock().values().map(PackState::dead).sum()
    }

    /// The open file of a pack.
    pub(crate) fn file(&self, segment: Ulid) -> std::io::Result<Arc<File>> {
        if let Some(file) = self.handles.lock().get(&segment) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(pack_path(&self.dir.packs(), segment))?);
        self.handles.lock().put(segment, Arc::clone(&file));
        Ok(file)
    }

    /// Keeps the file of a pack that was written just now open.
    pub(crate) fn keep_open(&self, segment: Ulid, file: &Arc<File>) {
        self.handles.lock().get_or_insert(segment, || Arc::clone(file));
    }

    /// Notes that no pack takes records now, because those that were open were given up.
    pub(crate) fn seal_all(&self) {
        self.table.lock().values_mut().for_each(|pack| pack.sealed = true);
    }

    /// Removes a pack from table and disk; answers its length.
    pub(crate) fn remove(&self, segment: Ulid) -> u64 {
        self.handles.lock().pop(&segment);
        let state = self.table.lock().remove(&segment);
        if let Err(error) = std::fs::remove_file(pack_path(&self.dir.packs(), segment))
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(%segment, %error, "cannot remove an empty pack; the next start tries again");
        }
        state.map_or(0, |state| state.len)
    }
}

/// Keeps a new file from the sweep until a row names it, and removes it if none ever does.
pub(crate) struct Uncommitted {
    set: Arc<Mutex<HashSet<Ulid>>>,
    name: Option<FileName>,
    segment: Ulid,
}

impl Uncommitted {
    /// Call it before the file is in its place.
    pub(crate) fn new(set: &Arc<Mutex<HashSet<Ulid>>>, name: FileName) -> Self {
        let segment = name.segment;
        set.lock().insert(segment);
        Self { set: Arc::clone(set), name: Some(name), segment }
    }

    /// A row names the file now.
    pub(crate) fn commit(mut self) {
        self.name = None;
    }
}

impl Drop for Uncommitted {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // It may never have got to its place; what stays is swept.
            std::fs::remove_file(name.path).ok();
        }
        self.set.lock().remove(&self.segment);
    }
}
