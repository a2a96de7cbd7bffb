use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Buf, BufMut};

use crate::key::Class;
use crate::row::{Life, Queue};
use crate::touches::Ages;

/// More times than a lease has buckets; the oldest are let go beyond it.
const MAX_TIMES: usize = 64;

/// How many entries are promised, for long or not, by the time that the promise counts from.
///
/// Kept in the index with every change, so that nothing has to be counted at start. A store that an older program wrote
/// begins without counts; one lease later they are right.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Leases(BTreeMap<u64, u64>);

impl Leases {
    /// An entry came into the eviction order.
    pub(crate) fn add(&mut self, life: Life) {
        if life.queue == Queue::Written {
            return;
        }
        *self.0.entry(life.time_ms).or_default() += 1;
        if self.0.len() > MAX_TIMES {
            self.0.pop_first();
        }
    }

    /// An entry left the eviction order.
    pub(crate) fn remove(&mut self, life: Life) {
        if life.queue == Queue::Written {
            return;
        }
        if let Some(count) = self.0.get_mut(&life.time_ms) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.0.remove(&life.time_ms);
            }
        }
    }

    /// The entries whose lease has not passed.
    pub(crate) fn live(&self, ages: &Ages, now: Duration) -> u64 {
        let is_live = |time_ms| !ages.is_evictable(Class::Blob, Life { queue: Queue::Leased, time_ms }, now);
        self.0.iter().filter(|(time_ms, _)| is_live(**time_ms)).map(|(_, count)| count).sum()
    }

    /// Pairs of time and count, 16 bytes each.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.0.len() * 16);
        for (time_ms, count) in &self.0 {
            out.put_u64_le(*time_ms);
            out.put_u64_le(*count);
        }
        out
    }

    /// Reads what [`Leases::encode`] wrote; a broken end is left out.
    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        let mut counts = BTreeMap::new();
        while let (Ok(time_ms), Ok(count)) = (bytes.try_get_u64_le(), bytes.try_get_u64_le()) {
            counts.insert(time_ms, count);
        }
        Self(counts)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn leased(time_ms: u64) -> Life {
        Life { queue: Queue::Leased, time_ms }
    }

    #[test]
    fn a_lease_counts_until_it_has_passed() {
        let ages = Ages::of(Duration::from_secs(3600), Duration::ZERO);
        let mut leases = Leases::default();
        let start = Duration::from_secs(1_000_000);
        for _ in 0..3 {
            leases.add(ages.life(Class::Blob, Queue::Leased, start));
        }
        leases.add(Life { queue: Queue::Written, time_ms: 1 });
        leases.remove(ages.life(Class::Blob, Queue::Leased, start));
        assert_eq!(leases.live(&ages, start), 2);
        assert_eq!(leases.live(&ages, start + Duration::from_secs(3599)), 2);
        assert_eq!(leases.live(&ages, start + Duration::from_secs(2 * 3600)), 0);
    }

    #[test]
    fn the_table_is_bounded_and_a_time_that_is_not_in_it_is_no_fault() {
        let mut leases = Leases::default();
        (0..1000).for_each(|time_ms| leases.add(leased(time_ms)));
        assert_eq!(leases.0.len(), MAX_TIMES);
        leases.remove(leased(0));
        leases.remove(leased(999));
        assert_eq!(leases.0.len(), MAX_TIMES - 1);
    }

    proptest! {
        #[test]
        fn counts_read_back(times in proptest::collection::vec(0u64..40, 0..200)) {
            let mut leases = Leases::default();
            times.into_iter().for_each(|time_ms| leases.add(leased(time_ms)));
            prop_assert_eq!(Leases::decode(&leases.encode()), leases);
        }

        #[test]
        fn any_bytes_are_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let leases = Leases::decode(&bytes);
            prop_assert!(leases.0.len() <= bytes.len() / 16);
        }
    }
}
