use std::time::Duration;

use crate::engine::Engine;
use crate::failure::Failure;
use crate::group::Group;
use crate::index::Sync;
use crate::key::Key;
use crate::row::{Life, Queue};
use crate::stats::Counters;

/// Entries that go in one closing of the gate.
const BATCH: usize = 256;

/// Deletes the oldest entries, about `wanted_bytes` of them but few at a time; answers how many rows went.
///
/// The two queues are merged by age. A promised entry is taken only when its lease has passed; records go before blobs of
/// the same age. Runs on the committer's thread.
pub(crate) fn evict(engine: &Engine, wanted_bytes: u64) -> Result<usize, Failure> {
    let _gate = engine.gate.write();
    let mut group = Group::new(engine);
    for (key, touch) in engine.touches.take() {
        group.apply_touch(&key, touch)?;
    }
    let (mut freed, mut gone) = (0, 0);
    for (life, key) in candidates(engine, group.now)? {
        if freed >= wanted_bytes {
            break;
        }
        if let Some(bytes) = group.evict(life, &key)? {
            freed += bytes;
            count(engine, &group, life, &key);
        }
        // A row that was out of date counts too: there may be more behind it.
        gone += 1;
    }
    group.finish(&[], Sync::No)?;
    Ok(gone)
}

/// The oldest rows of both queues that may go, oldest first.
fn candidates(engine: &Engine, now: Duration) -> Result<Vec<(Life, Key)>, Failure> {
    let mut rows = engine.index.oldest(Queue::Written, BATCH)?;
    rows.extend(engine.index.oldest(Queue::Leased, BATCH)?);
    rows.retain(|(life, _)| engine.ages.is_evictable(*life, now));
    rows.sort_by(|(a, a_key), (b, b_key)| (a.bucket, a_key.class()).cmp(&(b.bucket, b_key.class())));
    rows.truncate(BATCH);
    Ok(rows)
}

fn count(engine: &Engine, group: &Group<'_>, life: Life, key: &Key) {
    let counters = &engine.counters;
    Counters::add(if key.is_blob() { &counters.evicted_blobs } else { &counters.evicted_records }, 1);
    if life.queue == Queue::Leased {
        counters.evicted_promise(engine.ages.age_seconds(life.bucket, group.now).unwrap_or(0));
    }
}
