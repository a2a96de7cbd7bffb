use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use store::StoreError;
use tokio::sync::Notify;

use crate::data_dir::{DataDir, Disk};
use crate::settings::{Settings, Sizing};
use crate::stats::Counters;

/// A writer waits this long for the housekeeper to make room.
const MAX_WAIT: Duration = Duration::from_secs(30);

/// The account of bytes on disk against the bound, and of writers that wait for room.
pub(crate) struct Space {
    pub sizing: Sizing,
    lease: Duration,
    evict_floor: Duration,
    dir: Arc<DataDir>,
    counters: Arc<Counters>,
    pub packs: AtomicU64,
    pub files: AtomicU64,
    pub quarantine: AtomicU64,
    index_polled: AtomicU64,
    /// Bytes sent to the index since it was looked at.
    index_since: AtomicU64,
    reserved: AtomicU64,
    /// The part of what is reserved that is on the disk already.
    written: AtomicU64,
    waiting: AtomicU64,
    passes: Mutex<Passes>,
    room: Notify,
    call: Mutex<bool>,
    called: Condvar,
}

/// The housekeeper's rounds, numbered from 1.
#[derive(Clone, Copy, Default)]
struct Passes {
    begun: u64,
    ended: u64,
    outcome: Outcome,
}

/// How a round of the housekeeper ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is room, or more may come.
    #[default]
    Room,
    /// All that is left is leased.
    AllLeased,
    /// Something went wrong; the log says what.
    Failed,
}

/// Which limit a request ran into.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Limit {
    Bound,
    Disk,
}

/// Room that is set aside for one upload until it is dropped.
pub(crate) struct Reservation {
    space: Arc<Space>,
    bytes: u64,
    /// So many of them are on the disk already, in a file that counts for nothing else yet.
    written: u64,
}

impl Reservation {
    /// Notes bytes that the file system has less of now.
    pub(crate) fn wrote(&mut self, bytes: u64) {
        let bytes = bytes.min(self.bytes - self.written);
        self.written += bytes;
        self.space.written.fetch_add(bytes, Ordering::AcqRel);
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.space.written.fetch_sub(self.written, Ordering::AcqRel);
        self.space.reserved.fetch_sub(self.bytes, Ordering::AcqRel);
    }
}

struct Waiting<'a>(&'a Space, u64);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(self.1, Ordering::AcqRel);
    }
}

impl Space {
    pub(crate) fn new(sizing: Sizing, settings: &Settings, dir: Arc<DataDir>, counters: Arc<Counters>) -> Self {
        Self {
            sizing,
            lease: settings.lease,
            evict_floor: settings.evict_floor.min(settings.lease),
            dir,
            counters,
            packs: AtomicU64::new(0),
            files: AtomicU64::new(0),
            quarantine: AtomicU64::new(0),
            index_polled: AtomicU64::new(0),
            index_since: AtomicU64::new(0),
            reserved: AtomicU64::new(0),
            written: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            passes: Mutex::default(),
            room: Notify::new(),
            call: Mutex::new(false),
            called: Condvar::new(),
        }
    }

    pub(crate) fn index_bytes(&self) -> u64 {
        self.index_polled.load(Ordering::Acquire) + self.index_since.load(Ordering::Acquire)
    }

    /// Whether the index is small enough, for the store's size, to hold blobs itself.
    pub(crate) fn index_has_room(&self) -> bool {
        self.index_bytes() < self.sizing.inline_index
    }

    pub(crate) fn reserved_bytes(&self) -> u64 {
        self.reserved.load(Ordering::Acquire)
    }

    /// Bytes on disk, reservations not counted.
    pub(crate) fn stored_bytes(&self) -> u64 {
        let load = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        load(&self.packs) + load(&self.files) + load(&self.quarantine) + self.index_bytes()
    }

    /// What counts against the bound.
    pub(crate) fn used_bytes(&self) -> u64 {
        self.stored_bytes() + self.reserved_bytes()
    }

    /// Notes that the index was sent so many bytes, which are in its log and in a table to be written.
    pub(crate) fn index_grew(&self, bytes: u64) {
        self.index_since.fetch_add(bytes * 2, Ordering::AcqRel);
    }

    pub(crate) fn index_measured(&self, bytes: u64) {
        self.index_since.store(0, Ordering::Release);
        self.index_polled.store(bytes, Ordering::Release);
    }

    /// How many bytes must go: once more than `limit` is used, down to `low`, and for those who wait.
    pub(crate) fn shortage(&self, limit: u64) -> u64 {
        let waiting = self.waiting.load(Ordering::Acquire);
        let used = self.used_bytes();
        let goal = self.sizing.low.min(self.sizing.max.saturating_sub(waiting));
        let over = if used > limit || waiting > 0 { used.saturating_sub(goal) } else { 0 };
        over.max(self.disk_shortage(waiting))
    }

    /// How many bytes must go for the file system's sake; 0 when it cannot be asked.
    fn disk_shortage(&self, waiting: u64) -> u64 {
        let Ok(disk) = self.dir.disk() else { return 0 };
        let wanted = self.wanted_on(disk) + waiting;
        if disk.free < wanted { wanted + self.floor_of(disk) / 2 - disk.free } else { 0 }
    }

    /// What the file system must have free for what is reserved, and for others.
    fn wanted_on(&self, disk: Disk) -> u64 {
        self.floor_of(disk) + self.reserved_bytes().saturating_sub(self.written.load(Ordering::Acquire))
    }

    /// Free space that is left to others and to the index; a small file system has a small floor.
    fn floor_of(&self, disk: Disk) -> u64 {
        self.sizing.floor.min(disk.size / 16)
    }

    /// How long a promise is kept.
    pub(crate) fn lease(&self) -> Duration {
        self.lease
    }

    /// Whether the file system has no room and the housekeeper could make none.
    pub(crate) fn disk_is_full(&self) -> bool {
        self.disk_shortage(0) > 0 && self.passes.lock().outcome != Outcome::Room
    }

    /// Whether the file system has room for the index's own small writes.
    pub(crate) fn disk_is_nearly_full(&self) -> bool {
        self.dir.disk().is_ok_and(|disk| disk.free < self.floor_of(disk) / 4)
    }

    fn try_reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, Limit> {
        self.reserved.fetch_add(bytes, Ordering::AcqRel);
        let reservation = Reservation { space: Arc::clone(self), bytes, written: 0 };
        let used = self.used_bytes();
        if used > self.sizing.high {
            self.call_housekeeper();
        }
        if used > self.sizing.max {
            return Err(Limit::Bound);
        }
        match self.dir.disk() {
            Ok(disk) if disk.free < self.wanted_on(disk) => Err(Limit::Disk),
            // A file system that cannot tell is found full by the write itself.
            _ => Ok(reservation),
        }
    }

    /// Sets room aside, after a while of waiting if need be.
    ///
    /// # Errors
    /// [`StoreError::Full`] when none can be made.
    pub(crate) async fn reserve(self: &Arc<Self>, bytes: u64) -> Result<Reservation, StoreError> {
        if bytes > self.sizing.max {
            let reason = "it is larger than the whole store; raise --max-size".to_owned();
            return Err(StoreError::Full { needed_bytes: bytes, reason });
        }
        match self.try_reserve(bytes) {
            Ok(room) => Ok(room),
            Err(_limit) => self.wait_for_room(bytes).await,
        }
    }

    async fn wait_for_room(self: &Arc<Self>, bytes: u64) -> Result<Reservation, StoreError> {
        self.waiting.fetch_add(bytes, Ordering::AcqRel);
        let _counted = Waiting(self, bytes);
        let deadline = tokio::time::Instant::now() + MAX_WAIT;
        let asked_at = self.passes.lock().begun;
        loop {
            let room = self.room.notified();
            tokio::pin!(room);
            room.as_mut().enable();
            let limit = match self.try_reserve(bytes) {
                Ok(room) => return Ok(room),
                Err(limit) => limit,
            };
            let Passes { ended, outcome, .. } = *self.passes.lock();
            if ended > asked_at && outcome != Outcome::Room {
                return Err(self.refusal(bytes, limit, outcome));
            }
            self.call_housekeeper();
            if tokio::time::timeout_at(deadline, room).await.is_err() {
                return Err(self.refusal(bytes, limit, outcome));
            }
        }
    }

    fn refusal(&self, needed_bytes: u64, limit: Limit, outcome: Outcome) -> StoreError {
        let reason = match (limit, outcome) {
            (Limit::Disk, _) => format!(
                "the file system of the data folder is full, and all that is left here was promised in the last {:?} or \
                 written in the last {:?}; free space there",
                self.lease, self.evict_floor
            ),
            (Limit::Bound, Outcome::AllLeased) => {
                Counters::add(&self.counters.lease_refusals, 1);
                let (lease, floor) = (self.lease, self.evict_floor);
                format!(
                    "all that is left was promised to clients in the last {lease:?} or written in the last {floor:?}; \
                     raise --max-size, or shorten --lease or --evict-floor"
                )
            }
            (Limit::Bound, _) => "eviction does not keep up; try again".to_owned(),
        };
        StoreError::Full { needed_bytes, reason }
    }

    /// Starts a round of the housekeeper.
    pub(crate) fn begin_pass(&self) {
        self.passes.lock().begun += 1;
    }

    /// Ends the round and lets those who wait look again.
    pub(crate) fn end_pass(&self, outcome: Outcome) {
        let mut passes = self.passes.lock();
        passes.ended = passes.begun;
        passes.outcome = outcome;
        drop(passes);
        self.room.notify_waiters();
    }

    /// Lets those who wait look again within a round.
    pub(crate) fn progress(&self) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.room.notify_waiters();
        }
    }

    pub(crate) fn call_housekeeper(&self) {
        *self.call.lock() = true;
        self.called.notify_one();
    }

    /// Waits for a call, at most `pause`.
    pub(crate) fn wait_for_call(&self, pause: Duration) {
        let mut call = self.call.lock();
        if !*call {
            self.called.wait_for(&mut call, pause);
        }
        *call = false;
    }
}
