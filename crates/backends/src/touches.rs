use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::key::Key;
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
}

/// How ages are counted: in buckets, from the length of the lease.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ages {
    lease_seconds: u64,
    bucket_seconds: u64,
}

impl Ages {
    pub(crate) fn of(lease: Duration) -> Self {
        let lease_seconds = lease.as_secs() + u64::from(lease.subsec_nanos() > 0);
        Self { lease_seconds, bucket_seconds: (lease_seconds / 16).clamp(1, 600) }
    }

    /// The bucket of this moment.
    pub(crate) fn bucket(&self, now: Duration) -> u32 {
        let seconds = now.as_secs();
        u32::try_from(seconds - seconds % self.bucket_seconds).unwrap_or(u32::MAX)
    }

    /// How long ago the bucket ended, in seconds; `None` while it lasts, or when it lies ahead.
    pub(crate) fn age_seconds(&self, bucket: u32, now: Duration) -> Option<u64> {
        now.as_secs().checked_sub(u64::from(bucket) + self.bucket_seconds)
    }

    /// Whether a life lets the evictor have its entry.
    pub(crate) fn is_evictable(&self, life: Life, now: Duration) -> bool {
        // A bucket that lies ahead comes of a clock that was wrong; it promises nothing.
        let ahead = u64::from(life.bucket) > now.as_secs() + self.bucket_seconds;
        life.queue == Queue::Written
            || ahead
            || self.age_seconds(life.bucket, now).is_some_and(|age| age >= self.lease_seconds)
    }

    /// The life after a touch.
    pub(crate) fn touched(&self, life: Life, touch: Touch, now: Duration) -> Life {
        let queue = if touch == Touch::Promised { Queue::Leased } else { life.queue };
        Life { queue, bucket: self.bucket(now) }
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
            let ages = Ages::of(Duration::from_secs(lease));
            for start in 1_000_000..1_000_000 + ages.bucket_seconds {
                let promised = Duration::from_secs(start);
                let life = Life { queue: Queue::Leased, bucket: ages.bucket(promised) };
                assert!(!ages.is_evictable(life, promised + Duration::from_secs(lease - 1)), "{lease} {start}");
                let end = promised + Duration::from_secs(lease + ages.bucket_seconds);
                assert!(ages.is_evictable(life, end), "{lease} {start}");
            }
        }
    }
}
