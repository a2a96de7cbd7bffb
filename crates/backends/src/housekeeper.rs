use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use ulid::Ulid;

use crate::blob_file::file_path;
use crate::engine::{Discarded, Engine, PackState};
use crate::eviction::{Evicted, Wanted};
use crate::failure::Failure;
use crate::index::folder_bytes;
use crate::op::{Change, Done, Op};
use crate::pack::Walk;
use crate::settings::{Eviction, Sizing};
use crate::space::Outcome;
use crate::sweep::all_orphans;
use crate::upkeep::check::Mending;
use crate::upkeep::collect::Goal;
use crate::upkeep::{Job, Tally, Work};

/// How often it looks without being called.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of a pack that are moved in one step.
const MOVE_BYTES: usize = 4 * 1024 * 1024;
/// A pack that could not be compacted is left alone for so long.
const RETRY_AFTER: Duration = Duration::from_secs(600);
/// Deleted bytes of the index below which it is left to compact itself.
const MIN_INDEX_GARBAGE: u64 = 1024 * 1024;

/// The thread that keeps the store within its bound: eviction, compaction, removal of files.
pub(crate) struct Housekeeper {
    engine: Arc<Engine>,
    measured_at: Instant,
}

impl Housekeeper {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        Self { engine, measured_at: Instant::now() }
    }

    /// Works until the store is closed.
    pub(crate) fn run(mut self) {
        crate::sweep::sweep(&self.engine);
        while !self.is_stopping() {
            self.engine.space.wait_for_call(LOOK_EVERY);
            self.look();
        }
        self.engine.jobs.lock().take();
        self.remove_discarded();
    }

    fn is_stopping(&self) -> bool {
        self.engine.stopping.load(Ordering::Acquire)
    }

    fn look(&mut self) {
        self.engine.space.begin_pass();
        self.remove_discarded();
        self.measure();
        let outcome = self.make_room().unwrap_or_else(|error| {
            if !matches!(error, Failure::Closed) {
                tracing::warn!(%error, "eviction failed");
            }
            Outcome::Failed
        });
        self.engine.space.end_pass(outcome);
        self.work_off_jobs();
    }

    fn work_off_jobs(&mut self) {
        let jobs = self.engine.jobs.lock().as_mut().map(std::mem::take);
        for job in jobs.into_iter().flatten() {
            // Whoever asked may have gone.
            match job {
                Job::Collect { goal, work, done } => done.send(self.collect(goal, &work)).ok(),
                Job::Sweep { mending, done } => done.send(self.sweep(mending)).ok().map(|_| ()),
            };
        }
    }

    /// Evicts down to a goal that somebody gave, with the bound kept meanwhile.
    fn collect(&mut self, goal: Goal, work: &Work) -> Result<Tally, Failure> {
        let mut evicted = Tally::default();
        if let Some(unused_for) = goal.unused_for {
            evicted += self.evict_unused(unused_for, work)?;
        }
        if let Some(max) = goal.max_bytes {
            evicted += self.shrink(max, work)?;
        }
        self.seal_sparse_pack()?;
        while !self.is_over(work) && (self.remove_empty_packs()? || self.compact_sparse_pack(false)?) {
            self.after_step();
        }
        self.measure();
        Ok(evicted)
    }

    fn is_over(&self, work: &Work) -> bool {
        self.is_stopping() || work.is_called_off()
    }

    fn evict_unused(&mut self, unused_for: Duration, work: &Work) -> Result<Tally, Failure> {
        let mut all = Tally::default();
        while !self.is_over(work) {
            let Evicted { entries, tally } = self.evict(u64::MAX, unused_for)?;
            all += tally;
            work.advance(tally.bytes);
            if entries == 0 {
                break;
            }
            self.after_step();
        }
        Ok(all)
    }

    fn shrink(&mut self, max_bytes: u64, work: &Work) -> Result<Tally, Failure> {
        let mut all = Tally::default();
        let over = |engine: &Engine| engine.space.stored_bytes().saturating_sub(max_bytes);
        let total = over(&self.engine);
        work.expect(work.done() + total);
        self.measure();
        while !self.is_over(work) {
            let short = over(&self.engine);
            if short == 0 {
                break;
            }
            self.seal_sparse_pack()?;
            if !self.remove_empty_packs()? && !self.compact_sparse_pack(true)? && !self.compact_index(short) {
                let Evicted { entries, tally } = self.evict(short, Duration::ZERO)?;
                all += tally;
                if entries == 0 && !self.squeeze()? {
                    break;
                }
            }
            self.after_step();
            work.set_done(total.saturating_sub(over(&self.engine)));
        }
        Ok(all)
    }

    /// Closes the open pack when much of it is dead.
    fn seal_sparse_pack(&self) -> Result<(), Failure> {
        let is_sparse = |pack: &PackState| !pack.sealed && pack.dead() > pack.live;
        if self.engine.packs.table.lock().values().any(is_sparse) {
            self.ask(|done| Op::Seal { done })?;
        }
        Ok(())
    }

    fn sweep(&self, mending: Mending) -> Result<Vec<PathBuf>, Failure> {
        self.remove_discarded();
        let orphans = all_orphans(&self.engine)?;
        if mending == Mending::Mend {
            for path in &orphans {
                std::fs::remove_file(path)?;
            }
        }
        Ok(orphans)
    }

    fn measure(&mut self) {
        self.measured_at = Instant::now();
        match self.engine.index.disk_bytes() {
            Ok(bytes) => self.engine.space.index_measured(bytes),
            Err(error) => tracing::warn!(%error, "cannot measure the index"),
        }
    }

    /// Frees what is short, the cheapest way first.
    fn make_room(&mut self) -> Result<Outcome, Failure> {
        let Sizing { high, low, .. } = self.engine.space.sizing;
        // Once begun, eviction goes on below the mark at which it begins.
        let mut limit = high;
        loop {
            let short = self.engine.space.shortage(limit);
            if self.is_stopping() {
                return Ok(Outcome::Room);
            }
            if self.remove_empty_packs()? || self.compact_sparse_pack(short > 0)? {
                self.after_step();
                continue;
            }
            if short == 0 || self.engine.eviction == Eviction::OnRequest {
                return Ok(Outcome::Room);
            }
            limit = low;
            if !self.compact_index(short) && self.evict(short, Duration::ZERO)?.entries == 0 && !self.squeeze()? {
                return Ok(Outcome::AllLeased);
            }
            self.after_step();
        }
    }

    fn after_step(&mut self) {
        self.remove_discarded();
        if self.measured_at.elapsed() >= LOOK_EVERY {
            self.measure();
        }
        self.engine.space.progress();
    }

    fn evict(&self, bytes: u64, unused_for: Duration) -> Result<Evicted, Failure> {
        let wanted = Wanted { bytes, unused_for };
        self.ask(|done| Op::Evict { wanted, done })
    }

    fn ask<T>(&self, op: impl FnOnce(Done<T>) -> Op) -> Result<T, Failure> {
        let (done, answer) = oneshot::channel();
        self.engine.queue.push(op(done));
        answer.blocking_recv().map_err(|_dropped| Failure::Closed)?
    }

    /// Packs that no record is live in. Whether there were any.
    fn remove_empty_packs(&self) -> Result<bool, Failure> {
        let empty = self.packs(|pack| pack.live == 0);
        for (segment, _) in &empty {
            self.ask(|done| Op::RemovePack { segment: *segment, done })?;
        }
        Ok(!empty.is_empty())
    }

    /// Compacts the worst pack when less than half of it is live, or when space is short and dead bytes take much of it.
    fn compact_sparse_pack(&self, is_short: bool) -> Result<bool, Failure> {
        let many_dead = is_short && self.engine.packs.dead_bytes() > self.engine.space.sizing.max / 10;
        self.compact_worst(if many_dead { 10 } else { 2 })
    }

    /// The last resort: dead bytes wherever they are, then the index's own.
    fn squeeze(&mut self) -> Result<bool, Failure> {
        if self.compact_worst(10)? {
            return Ok(true);
        }
        if self.engine.index_garbage.load(Ordering::Relaxed) < MIN_INDEX_GARBAGE / 16 {
            return Ok(false);
        }
        self.compact_index_now();
        Ok(true)
    }

    /// Compacts the pack with the greatest dead share if that is at least one `share`th.
    fn compact_worst(&self, share: u64) -> Result<bool, Failure> {
        let worst = self.packs(|pack| !pack.is_stuck() && pack.dead() > 0 && pack.dead() * share >= pack.len);
        let Some((segment, _)) = worst.into_iter().max_by_key(|(_, pack)| pack.dead() * 1000 / pack.len.max(1)) else {
            return Ok(false);
        };
        self.compact(segment)?;
        Ok(true)
    }

    fn packs(&self, wanted: impl Fn(&PackState) -> bool) -> Vec<(Ulid, PackState)> {
        let table = self.engine.packs.table.lock();
        table.iter().filter(|(_, pack)| pack.sealed && wanted(pack)).map(|(segment, pack)| (*segment, *pack)).collect()
    }

    /// Appends what is live in a pack again and removes the pack.
    fn compact(&self, segment: Ulid) -> Result<(), Failure> {
        if let Err(error) = self.move_records(segment) {
            tracing::warn!(%segment, %error, "a pack could not be compacted");
        }
        self.ask(|done| Op::RemovePack { segment, done })?;
        // What could not be moved, for want of space or because its header is damaged, stays where it is.
        if let Some(pack) = self.engine.packs.table.lock().get_mut(&segment) {
            pack.stuck_until = Some(Instant::now() + RETRY_AFTER);
        }
        Ok(())
    }

    fn move_records(&self, segment: Ulid) -> Result<(), Failure> {
        let mut walk = Walk::new(self.engine.packs.file(segment)?, segment)?;
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(met) = walk.next_record()? {
            // The frame goes as it is: a damaged one stays damaged under its old checksum, and a read finds that out.
            bytes += met.frame.stored.len();
            batch.push(Change::Move {
                key: met.header.key,
                from: met.place,
                raw_size: met.header.raw_size,
                frame: met.frame,
            });
            if self.is_stopping() {
                return Ok(());
            }
            if bytes >= MOVE_BYTES {
                self.engine.commit_blocking(std::mem::take(&mut batch))?;
                bytes = 0;
            }
        }
        self.engine.commit_blocking(batch)
    }

    /// Compacts the index when what was deleted in it is worth that.
    fn compact_index(&mut self, short: u64) -> bool {
        let garbage = self.engine.index_garbage.load(Ordering::Relaxed);
        let worth =
            garbage >= MIN_INDEX_GARBAGE && (garbage >= short || garbage >= self.engine.space.index_bytes() / 4);
        if worth {
            self.compact_index_now();
        }
        worth
    }

    fn compact_index_now(&mut self) {
        self.engine.index_garbage.store(0, Ordering::Relaxed);
        let slice_bytes = self.engine.space.sizing.index_slice;
        if let Err(error) = self.engine.index.compact(slice_bytes, &self.engine.stopping) {
            tracing::warn!(%error, "the index could not be compacted");
        }
        self.measure();
    }

    fn remove_discarded(&self) {
        let discarded = std::mem::take(&mut *self.engine.discarded.lock());
        for file in discarded {
            let result = self.discard(file);
            if let Discarded::Quarantine(segment, _) = file {
                self.engine.uncommitted.lock().remove(&segment);
            }
            if let Err(error) = result
                && error.kind() != std::io::ErrorKind::NotFound
            {
                tracing::warn!(?file, %error, "cannot remove a file; the next start tries again");
            }
        }
    }

    fn discard(&self, file: Discarded) -> std::io::Result<()> {
        let dir = &self.engine.dir;
        match file {
            Discarded::Remove(segment) => std::fs::remove_file(file_path(&dir.files(), segment)),
            Discarded::Quarantine(segment, len) if len <= self.engine.space.sizing.quarantine => {
                let aside = dir.quarantine().join(segment.to_string());
                std::fs::rename(file_path(&dir.files(), segment), aside)?;
                self.prune_quarantine()
            }
            Discarded::Quarantine(segment, _too_long) => std::fs::remove_file(file_path(&dir.files(), segment)),
        }
    }

    /// Removes the oldest damaged files until the rest is within its bound.
    fn prune_quarantine(&self) -> std::io::Result<()> {
        let folder = self.engine.dir.quarantine();
        let mut paths: Vec<_> = std::fs::read_dir(&folder)?.flatten().map(|entry| entry.path()).collect();
        paths.sort();
        let mut bytes = folder_bytes(&folder)?;
        for path in paths {
            if bytes <= self.engine.space.sizing.quarantine {
                break;
            }
            std::fs::remove_file(path)?;
            bytes = folder_bytes(&folder)?;
        }
        self.engine.space.quarantine.store(bytes, Ordering::Release);
        Ok(())
    }
}
