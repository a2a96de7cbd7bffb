use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::key::{Class, Key};
use crate::row::{Life, Queue};

/// So many waiting touches are flushed before their time.
pub(crate) const MANY: usize = 32 * 1024;

/// Why an entry is touched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Touch {
    /// It was written again.
    Written,
    /// It was promised to somebody.
    Promised,
    /// It was promised for long.
    PromisedLong,
}

impl Touch {
    /// The queue that a touched row is in at least.
    fn queue(self) -> Queue {
        match self {
            Self::Written => Queue::Written,
            Self::Promised => Queue::Leased,
            Self::PromisedLong => Queue::Kept,
        }
    }
}

/// How ages are counted.
///
/// A blob that was only written is as old as the millisecond it was written in. What was promised counts from the start
/// of a bucket, so that its rows are rewritten once per bucket at most. A record counts from a bucket earlier than it was
/// put or promised: so it is older than the blobs it names, which were promised just before, and goes before them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    lease_ms: u64,
    /// What was written stays so long, though nobody was promised it.
    floor_ms: u64,
    bucket_ms: u64,
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

impl Ages {
    /// The buckets are a sixteenth of the lease, from a second to ten minutes. The floor counts up to the lease.
    pub(crate) fn of(lease: Duration, floor: Duration) -> Self {
        let lease_ms = millis(lease);
        Self { lease_ms, floor_ms: millis(floor).min(lease_ms), bucket_ms: (lease_ms / 16).clamp(1000, 600_000) }
    }

    /// How much less than the truth an age may be.
    pub(crate) fn spread(&self) -> Duration {
        Duration::from_millis(self.bucket_ms * 2)
    }

    /// The life of what enters a queue now.
    pub(crate) fn life(&self, class: Class, queue: Queue, now: Duration) -> Life {
        let now = millis(now);
        let bucket = now - now % self.bucket_ms;
        let time_ms = match (class, queue) {
            (Class::Blob, Queue::Written) => now,
            (Class::Blob, Queue::Leased | Queue::Kept) => bucket,
            (Class::Record, _) => bucket.saturating_sub(self.bucket_ms),
        };
        Life { queue, time_ms }
    }

    /// How long ago the last moment passed that a life can stem from; `None` when it may lie ahead.
    pub(crate) fn age(&self, class: Class, life: Life, now: Duration) -> Option<Duration> {
        let spread = match (class, life.queue) {
            (Class::Blob, Queue::Written) => 0,
            (Class::Blob, Queue::Leased | Queue::Kept) => self.bucket_ms,
            (Class::Record, _) => self.bucket_ms * 2,
        };
        millis(now).checked_sub(life.time_ms.saturating_add(spread)).map(Duration::from_millis)
    }

    /// How long it was not used, as far as evicting by that goes: what was promised for long counts as used until that has
    /// passed.
    pub(crate) fn unused_for(&self, class: Class, life: Life, now: Duration) -> Duration {
        self.age(class, Life { time_ms: life.order_ms(), ..life }, now).unwrap_or_default()
    }

    /// Whether a life lets the evictor have its entry.
    pub(crate) fn is_evictable(&self, class: Class, life: Life, now: Duration) -> bool {
        // A time that lies ahead comes of a clock that was wrong; it promises nothing.
        let ahead = life.time_ms > millis(now).saturating_add(self.bucket_ms);
        ahead
            || match life.queue {
                // As the queue is sorted, so that what may go is always in front of what may not. A record is younger than
                // its place in the queue: the floor is for blobs.
                Queue::Written => self.floor_ms == 0 || millis(now) >= life.time_ms.saturating_add(self.floor_ms),
                Queue::Leased | Queue::Kept => {
                    self.age(class, life, now).is_some_and(|age| millis(age) >= self.lease_ms)
                }
            }
    }

    /// The life after a touch.
    pub(crate) fn touched(&self, class: Class, life: Life, touch: Touch, now: Duration) -> Life {
        self.life(class, life.queue.max(touch.queue()), now)
    }

    /// Whether such a touch would leave the life as it is.
    pub(crate) fn is_current(&self, class: Class, life: Life, touch: Touch, now: Duration) -> bool {
        life == self.touched(class, life, touch, now)
    }
}

/// Touches that are not in the index yet.
#[derive(Default)]
pub(crate) struct Touches {
    waiting: Mutex<HashMap<Key, Touch>>,
}

impl Touches {
    /// Notes touches; tells how many wait now.
    pub(crate) fn add(&self, touches: impl IntoIterator<Item = (Key, Touch)>) -> usize {
        let mut waiting = self.waiting.lock();
        for (key, touch) in touches {
            let known = waiting.entry(key).or_insert(touch);
            *known = touch.max(*known);
        }
        waiting.len()
    }

    pub(crate) fn take(&self) -> HashMap<Key, Touch> {
        std::mem::take(&mut *self.waiting.lock())
    }

    /// More wait than are kept in memory for long.
    pub(crate) fn are_many(&self) -> bool {
        self.waiting.lock().len() > MANY
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.lock().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_promise_lasts_at_least_the_lease_from_any_moment_of_its_bucket() {
        for lease in [1, 5, 60, 10_800] {
            let ages = Ages::of(Duration::from_secs(lease), Duration::ZERO);
            for (start, class) in
                (1_000_000..1_000_700).flat_map(|start| [(start, Class::Blob), (start, Class::Record)])
            {
                let promised = Duration::from_secs(start);
                let life = ages.life(class, Queue::Leased, promised);
                let lease = Duration::from_secs(lease);
                assert!(
                    !ages.is_evictable(class, life, promised + lease - Duration::from_millis(1)),
                    "{lease:?} {start}"
                );
                let end = promised + lease + Duration::from_millis(ages.bucket_ms * 2);
                assert!(ages.is_evictable(class, life, end), "{lease:?} {start}");
            }
        }
    }

    #[test]
    fn what_was_written_stays_for_the_floor() {
        let ages = Ages::of(Duration::from_secs(3600), Duration::from_secs(300));
        let written = Duration::from_secs(1_000_000);
        let blob = ages.life(Class::Blob, Queue::Written, written);
        let at = |seconds| ages.is_evictable(Class::Blob, blob, written + Duration::from_secs(seconds));
        assert!(!at(299) && at(300));
        let record = ages.life(Class::Record, Queue::Written, written);
        let now = written + Duration::from_secs(300);
        assert!(ages.is_evictable(Class::Record, record, now), "never after the blobs of its time");
        let short = Ages::of(Duration::from_secs(2), Duration::from_secs(300));
        let life = short.life(Class::Blob, Queue::Written, Duration::from_secs(100));
        assert!(short.is_evictable(Class::Blob, life, Duration::from_secs(102)), "the lease is shorter");
    }

    #[test]
    fn a_record_is_older_than_the_blobs_promised_before_it() {
        let ages = Ages::of(Duration::from_secs(3600), Duration::ZERO);
        for start in 1_000_000..1_000_700 {
            let blob = ages.life(Class::Blob, Queue::Leased, Duration::from_secs(start));
            let record = ages.life(Class::Record, Queue::Written, Duration::from_secs(start + 100));
            assert!((record.time_ms, Class::Record) <= (blob.time_ms, Class::Blob));
        }
    }
}
