use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::engine::Engine;
use crate::failure::Failure;
use crate::group::Group;
use crate::index::Sync;
use crate::key::Key;
use crate::listing::{Listing, Row};
use crate::row::{Life, Queue};
use crate::stats::Counters;
use crate::upkeep::Tally;

/// Entries that go in one closing of the gate.
const BATCH: usize = 256;

/// What an eviction is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wanted {
    /// About so many bytes go, but few entries at a time.
    pub bytes: u64,
    /// Only what was not used for so long goes.
    pub unused_for: Duration,
}

/// What an eviction did.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Evicted {
    /// Entries of the order of eviction that were gone through, those that were out of date among them.
    pub entries: usize,
    pub tally: Tally,
}

/// Deletes the oldest entries that may go.
///
/// The queues are merged by age, what was promised for long counted as so much younger. A promised entry is taken only
/// when its lease has passed; records go before blobs of the same age. Runs on the committer's thread.
pub(crate) fn evict(engine: &Engine, wanted: Wanted) -> Result<Evicted, Failure> {
    let _gate = engine.gate.write();
    let mut group = Group::new(engine);
    for (key, touch) in engine.touches.take() {
        group.apply_touch(&key, touch)?;
    }
    let mut evicted = Evicted::default();
    let mut passed = HashMap::new();
    'enough: for (row, Listing { life, keys }) in candidates(engine, &wanted, group.now)? {
        for key in keys {
            if evicted.tally.bytes >= wanted.bytes || evicted.entries >= BATCH {
                // The row stays, out of date for those that went.
                break 'enough;
            }
            passed.insert(life.queue, life.time_ms);
            if let Some(bytes) = group.evict(life, &key)? {
                evicted.tally.add(&key, bytes);
                Counters::add(&engine.counters.evicted_bytes, bytes);
                count(engine, &group, life, &key);
            }
            // What was out of date counts too: there may be more behind it.
            evicted.entries += 1;
        }
        group.unlist(&row);
    }
    // What the group puts is noted when it is finished, and may lower the marks again.
    for (queue, time_ms) in passed {
        engine.oldest.raise(queue, time_ms);
    }
    group.finish(&[], Sync::No).inspect_err(|_| engine.oldest.forget())?;
    Ok(evicted)
}

/// Up to which age the queues are known to be empty, so that a search need not wade through what was deleted.
#[derive(Default)]
pub(crate) struct Oldest([AtomicU64; Queue::ALL.len()]);

impl Oldest {
    fn of(&self, queue: Queue) -> u64 {
        self.0[queue as usize].load(Ordering::Relaxed)
    }

    fn raise(&self, queue: Queue, time_ms: u64) {
        self.0[queue as usize].fetch_max(time_ms, Ordering::Relaxed);
    }

    fn forget(&self) {
        self.0.iter().for_each(|mark| mark.store(0, Ordering::Relaxed));
    }

    /// A row of this age comes into the queue.
    pub(crate) fn lower(&self, life: Life) {
        self.0[life.queue as usize].fetch_min(life.time_ms, Ordering::Relaxed);
    }
}

/// The oldest rows of all queues that may go, oldest first.
fn candidates(engine: &Engine, wanted: &Wanted, now: Duration) -> Result<Vec<Row>, Failure> {
    let mut rows = Vec::new();
    for queue in Queue::ALL {
        rows.extend(engine.index.oldest(queue, engine.oldest.of(queue), BATCH)?);
    }
    rows.retain(|(_, listing)| {
        let is_unused = engine.ages.unused_for(listing.class(), listing.life, now) >= wanted.unused_for;
        is_unused && engine.ages.is_evictable(listing.class(), listing.life, now)
    });
    rows.sort_by_key(|(_, listing)| (listing.life.order_ms(), listing.class()));
    Ok(rows)
}

fn count(engine: &Engine, group: &Group<'_>, life: Life, key: &Key) {
    let counters = &engine.counters;
    if key.is_blob() {
        Counters::add(&counters.evicted_blobs, 1);
    } else {
        Counters::add(&counters.evicted_records, 1);
        engine.gone.note(key);
    }
    if life.queue != Queue::Written {
        counters.evicted_promise(engine.ages.age(key.class(), life, group.now).unwrap_or_default());
    }
}
