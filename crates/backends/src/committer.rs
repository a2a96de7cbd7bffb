use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ulid::Ulid;

use crate::engine::Engine;
use crate::eviction::{Evicted, Wanted};
use crate::failure::Failure;
use crate::group::Group;
use crate::index::Sync;
use crate::op::{Body, Change, Done, Op, PutBlob, Submission, Taken};
use crate::pack::PackWriter;

const MAX_GROUP_CHANGES: usize = 4096;
/// Touches that are written at a time.
const MAX_GROUP_TOUCHES: usize = 1024;
const MAX_GROUP_BYTES: usize = 16 * 1024 * 1024;
/// Touches wait this long at most.
const FLUSH_EVERY: Duration = Duration::from_secs(2);

/// The one thread that changes the index and appends to packs.
pub(crate) struct Committer {
    engine: Arc<Engine>,
    packs: PackWriter,
    flushed_at: Instant,
}

impl Committer {
    pub(crate) fn new(engine: Arc<Engine>) -> Self {
        let mut packs =
            PackWriter::new(engine.dir.packs(), engine.space.sizing.pack, engine.sync, Arc::clone(&engine.uncommitted));
        reopen_last_pack(&engine, &mut packs);
        Self { engine, packs, flushed_at: Instant::now() }
    }

    /// Works until the queue is closed and empty.
    pub(crate) fn run(mut self) {
        loop {
            let Taken { ops, closed, flush } = self.engine.queue.take(MAX_GROUP_CHANGES, MAX_GROUP_BYTES, FLUSH_EVERY);
            self.work(ops);
            let due = flush || closed || self.flushed_at.elapsed() >= FLUSH_EVERY;
            if due && let Err(error) = self.flush_touches() {
                tracing::warn!(%error, "touches could not be written; what they promised may go early");
            }
            if closed {
                break;
            }
        }
        if let Err(error) = self.leave_clean() {
            tracing::warn!(%error, "the store could not be closed in good order; it recovers at the next start");
        }
    }

    /// Changes first, as one group; then what has to be alone.
    fn work(&mut self, ops: Vec<Op>) {
        let (mut submissions, mut alone) = (Vec::new(), Vec::new());
        for op in ops {
            match op {
                Op::Change(submission) => submissions.push(submission),
                other => alone.push(other),
            }
        }
        if !submissions.is_empty() {
            self.commit(submissions);
        }
        for op in alone {
            self.work_alone(op);
        }
    }

    fn work_alone(&mut self, op: Op) {
        match op {
            Op::Evict { wanted, done } => answer(done, self.evict(wanted)),
            Op::Seal { done } => {
                // Nothing is staged between groups, so nothing is lost.
                self.packs.abandon();
                self.engine.packs.seal_all();
                answer(done, Ok(()));
            }
            Op::Pause { ready, resumed } => {
                if let Err(error) = self.flush_touches() {
                    tracing::warn!(%error, "touches could not be written");
                }
                if ready.send(()).is_ok() {
                    // An error is what ends the pause.
                    resumed.blocking_recv().ok();
                }
            }
            Op::RemovePack { segment, done } => answer(done, self.remove_pack(segment)),
            Op::Change(_) => unreachable!("changes were taken out before"),
        }
    }

    fn commit(&mut self, submissions: Vec<Submission>) {
        let engine = Arc::clone(&self.engine);
        let (mut group, mut outcomes) = self.build(&engine, &submissions, None);
        let flushed = match self.packs.flush() {
            Ok(flushed) => flushed,
            Err(failure) => {
                // What needs no pack goes on; what does is told why not.
                tracing::warn!(error = %failure, "cannot append to a pack");
                engine.packs.seal_all();
                (group, outcomes) = self.build(&engine, &submissions, Some(&failure));
                Vec::new()
            }
        };
        let written = group.finish(&flushed, self.durable());
        if let Err(failure) = &written {
            tracing::warn!(error = %failure, "cannot write the index");
        }
        for (Submission { changes, done, held }, outcomes) in submissions.into_iter().zip(outcomes) {
            for change in changes {
                if written.is_ok()
                    && let Change::Put(PutBlob { body: Body::File(file), .. }) = change
                    && group.adopted.contains(&file.place.segment)
                {
                    file.guard.commit();
                }
            }
            drop(held);
            // The answer may come too late for the one who asked.
            done.send(outcomes.into_iter().map(|outcome| outcome.and(written.clone())).collect()).ok();
        }
    }

    /// The group of all changes, and the outcome of each so far.
    fn build<'a>(
        &mut self,
        engine: &'a Engine,
        submissions: &[Submission],
        no_packs: Option<&Failure>,
    ) -> (Group<'a>, Vec<Vec<Result<(), Failure>>>) {
        let mut group = Group::new(engine);
        if let Err(error) = group.look_up(submissions.iter().flat_map(|submission| &submission.changes)) {
            // Each change asks again, and fails alone.
            tracing::debug!(%error, "the index could not be asked for many blobs at once");
        }
        let mut add = |change| group.add(change, no_packs.map_or(Ok(&mut self.packs), Err));
        let outcomes = submissions.iter().map(|submission| submission.changes.iter().map(&mut add).collect()).collect();
        (group, outcomes)
    }

    fn durable(&self) -> Sync {
        if self.engine.sync { Sync::Yes } else { Sync::No }
    }

    /// Writes the touches that wait. A disk without room for them keeps them waiting.
    pub(crate) fn flush_touches(&mut self) -> Result<(), Failure> {
        self.flushed_at = Instant::now();
        if self.engine.touches.is_empty() || self.engine.space.disk_is_nearly_full() {
            return Ok(());
        }
        let mut touches = self.engine.touches.take().into_iter().peekable();
        // A touch writes its row again, with the bytes it holds: all at once would be memory and a log without bound.
        while touches.peek().is_some() {
            let mut group = Group::new(&self.engine);
            for (key, touch) in touches.by_ref().take(MAX_GROUP_TOUCHES) {
                group.apply_touch(&key, touch)?;
            }
            group.finish(&[], Sync::No)?;
        }
        Ok(())
    }

    fn evict(&mut self, wanted: Wanted) -> Result<Evicted, Failure> {
        // The bulk of the touches is written before the gate is closed, so that it is closed for a moment only.
        self.flush_touches()?;
        let engine = Arc::clone(&self.engine);
        crate::eviction::evict(&engine, wanted)
    }

    fn remove_pack(&mut self, segment: Ulid) -> Result<(), Failure> {
        let live = self.engine.packs.table.lock().get(&segment).map_or(0, |pack| pack.live);
        if live > 0 || self.packs.active() == Some(segment) {
            return Ok(());
        }
        let mut group = Group::new(&self.engine);
        group.forget_pack(segment);
        group.finish(&[], Sync::No)?;
        let len = self.engine.packs.remove(segment);
        self.engine.space.packs.fetch_sub(len, Ordering::AcqRel);
        Ok(())
    }

    fn leave_clean(&mut self) -> Result<(), Failure> {
        let mut batch = self.engine.index.batch();
        let active = self.packs.active().map(|segment| segment.to_bytes()).unwrap_or_default();
        batch.put_meta("clean", &active);
        batch.write(Sync::Yes)?;
        self.engine.index.sync()
    }
}

/// The answer may come too late for the one who asked.
fn answer<T>(done: Done<T>, result: Result<T, Failure>) {
    done.send(result).ok();
}

/// Goes on with the last pack after an orderly stop. After any other, the end of that pack may be torn: it is left alone.
fn reopen_last_pack(engine: &Engine, packs: &mut PackWriter) {
    let reopen = || -> Result<Option<Ulid>, Failure> {
        let Some(raw) = engine.index.meta("clean")?.and_then(|bytes| <[u8; 16]>::try_from(bytes).ok()) else {
            return Ok(None);
        };
        let mut batch = engine.index.batch();
        batch.delete_meta("clean");
        batch.write(Sync::Yes)?;
        Ok(Some(Ulid::from_bytes(raw)))
    };
    match reopen() {
        Ok(Some(segment)) => {
            let mut table = engine.packs.table.lock();
            let Some(state) = table.get_mut(&segment) else { return };
            if packs.reopen(segment, state.len).is_ok() && packs.active() == Some(segment) {
                state.sealed = false;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "cannot go on with the last pack; a new one is begun"),
    }
}
