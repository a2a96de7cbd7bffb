use std::sync::Arc;
use std::time::Duration;

use store::StoreError;
use tokio::sync::oneshot;

use super::{Job, Tally, Work};
use crate::engine::Engine;
use crate::failure::{Failure, blocking};
use crate::group::{ROW_BYTES, bytes_on_disk};
use crate::index::View;
use crate::key::Key;
use crate::row::{Life, Queue};

/// Down to where an eviction goes that somebody asked for. Both goals count; leases are respected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Goal {
    /// The most bytes that the store shall take on disk.
    pub max_bytes: Option<u64>,
    /// What was not used for at least this long goes.
    pub unused_for: Option<Duration>,
}

/// What such an eviction did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Collected {
    /// What went.
    pub evicted: Tally,
    /// What the goal asks for and a lease, or the shortest stay of what was written, holds.
    pub held: Tally,
    /// What the store took on disk before.
    pub bytes_before: u64,
    /// What it takes now.
    pub bytes_after: u64,
}

impl Engine {
    /// Evicts down to the goal; answers when the disk has the space back.
    pub(crate) async fn collect(self: &Arc<Self>, goal: Goal, work: Arc<Work>) -> Result<Collected, StoreError> {
        let bytes_before = self.space.stored_bytes();
        let (done, answer) = oneshot::channel();
        self.ask_housekeeper(Job::Collect { goal, work, done });
        let evicted = answer.await.map_err(|_dropped| Failure::Closed)??;
        let held = self.plan(goal).await?.held;
        Ok(Collected { evicted, held, bytes_before, bytes_after: self.space.stored_bytes() })
    }

    /// What [`Engine::collect`] would do now.
    pub(crate) async fn plan(self: &Arc<Self>, goal: Goal) -> Result<Collected, StoreError> {
        let engine = Arc::clone(self);
        blocking(move || {
            engine.barrier()?;
            Ok(plan(&engine, goal)?)
        })
        .await
    }
}

fn plan(engine: &Engine, goal: Goal) -> Result<Collected, Failure> {
    let view = engine.index.view();
    let bytes_before = engine.space.stored_bytes();
    let mut plan = Plan { engine, now: engine.now(), goal, left: bytes_before, found: Collected::default() };
    for rows in Merged::new(&view)? {
        let (life, key) = rows?;
        if !plan.take(&view, life, &key)? {
            break;
        }
    }
    Ok(Collected { bytes_before, bytes_after: plan.left, ..plan.found })
}

struct Plan<'a> {
    engine: &'a Engine,
    now: Duration,
    goal: Goal,
    left: u64,
    found: Collected,
}

impl Plan<'_> {
    /// Counts an entry; `false` when the goal is reached.
    fn take(&mut self, view: &View<'_>, life: Life, key: &Key) -> Result<bool, Failure> {
        let over = self.goal.max_bytes.is_some_and(|max| self.left > max);
        let age = self.engine.ages.unused_for(key.class(), life, self.now);
        let old = self.goal.unused_for.is_some_and(|limit| age >= limit);
        if !over && !old {
            // Older rows come first, but the ages of the two classes are not counted alike.
            let may_be_old = self.goal.unused_for.is_some_and(|limit| age + self.engine.ages.spread() >= limit);
            return Ok(may_be_old);
        }
        let Some(bytes) = bytes_of(view, life, key)? else {
            return Ok(true);
        };
        if self.engine.ages.is_evictable(key.class(), life, self.now) {
            self.left = self.left.saturating_sub(bytes);
            self.found.evicted.add(key, bytes);
        } else {
            self.found.held.add(key, bytes);
        }
        Ok(true)
    }
}

/// What an entry takes; `None` when its row in the order of eviction is out of date.
fn bytes_of(view: &View<'_>, life: Life, key: &Key) -> Result<Option<u64>, Failure> {
    if key.is_blob() {
        let row = view.blob(key)?.filter(|row| row.life == life);
        return Ok(row.map(|row| bytes_on_disk(&row.place)));
    }
    let row = view.record(key)?.filter(|row| row.life == life);
    Ok(row.map(|row| ROW_BYTES + row.value.len() as u64))
}

type Row = Result<(Life, Key), Failure>;

/// The rows of all queues in the order that they leave in.
struct Merged<'a> {
    queues: [std::iter::Peekable<Box<dyn Iterator<Item = Row> + 'a>>; Queue::ALL.len()],
}

impl<'a> Merged<'a> {
    fn new(view: &'a View<'_>) -> Result<Self, Failure> {
        Ok(Self { queues: Queue::ALL.map(|queue| view.queue(queue).peekable()) })
    }
}

impl Iterator for Merged<'_> {
    type Item = Row;

    fn next(&mut self) -> Option<Row> {
        // An error comes first, so that it is not passed over.
        let place = |row: &Row| match row {
            Ok((life, key)) => (life.order_ms(), Some(key.class())),
            Err(_) => (0, None),
        };
        let queues = self.queues.iter_mut();
        let first = queues.filter_map(|rows| Some((place(rows.peek()?), rows))).min_by_key(|(place, _)| *place);
        first.and_then(|(_, rows)| rows.next())
    }
}
