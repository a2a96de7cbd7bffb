use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::key::Key;
use crate::removals::{Moment, Removals};

/// The largest value that is kept in memory.
pub(crate) const MAX_VALUE_BYTES: usize = 64 * 1024;
/// What an entry takes beside its value, roughly.
const OVERHEAD_BYTES: u64 = 256;

/// Verified small values in memory, least recently used first out, each with the period of the lease in which it was
/// promised last.
///
/// An entry exists only while its row does; see [`Removals`].
pub(crate) struct Hot {
    max_bytes: u64,
    state: Mutex<State>,
}

struct State {
    removals: Removals,
    bytes: u64,
    values: LruCache<Key, Value>,
}

struct Value {
    bytes: Bytes,
    period: u64,
}

/// A value from memory.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Hit {
    pub bytes: Bytes,
    /// It was not promised in this period before: its row needs a touch.
    pub is_first: bool,
}

/// What a reader saw before it looked at the index.
#[derive(Clone, Copy)]
pub(crate) struct Seen {
    moment: Moment,
    period: u64,
}

impl State {
    fn get(&mut self, key: &Key, period: u64) -> Option<Hit> {
        let value = self.values.get_mut(key)?;
        let is_first = value.period != period;
        value.period = period;
        Some(Hit { bytes: value.bytes.clone(), is_first })
    }
}

fn cost(value: &Bytes) -> u64 {
    value.len() as u64 + OVERHEAD_BYTES
}

impl Hot {
    pub(crate) fn new(max_bytes: u64) -> Self {
        let state = State { removals: Removals::default(), bytes: 0, values: LruCache::unbounded() };
        Self { max_bytes, state: Mutex::new(state) }
    }

    /// The value, promised for this period of the lease.
    pub(crate) fn get(&self, key: &Key, period: u64) -> Option<Hit> {
        self.state.lock().get(key, period)
    }

    /// The same for many at once, in their order.
    pub(crate) fn get_many(&self, keys: &[Key], period: u64) -> Vec<Option<Hit>> {
        let mut state = self.state.lock();
        keys.iter().map(|key| state.get(key, period)).collect()
    }

    /// Before a look at the index that promises for this period.
    pub(crate) fn before(&self, period: u64) -> Seen {
        Seen { moment: self.state.lock().removals.moment(), period }
    }

    /// Keeps the value of a row that was read and promised after `seen`.
    pub(crate) fn insert(&self, key: Key, value: &Bytes, seen: Seen) {
        if value.len() > MAX_VALUE_BYTES || cost(value) > self.max_bytes {
            return;
        }
        let mut state = self.state.lock();
        if state.removals.any_since(seen.moment) {
            return;
        }
        state.bytes += cost(value);
        // A slice of a larger buffer would keep all of it alive.
        let value = Value { bytes: Bytes::copy_from_slice(value), period: seen.period };
        if let Some(old) = state.values.put(key, value) {
            state.bytes -= cost(&old.bytes);
        }
        while state.bytes > self.max_bytes {
            let Some((_key, old)) = state.values.pop_lru() else { break };
            state.bytes -= cost(&old.bytes);
        }
    }

    /// Drops what these keys name.
    pub(crate) fn remove<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut state = self.state.lock();
        for key in keys {
            state.removals.note();
            if let Some(old) = state.values.pop(key) {
                state.bytes -= cost(&old.bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn it_is_bounded_and_a_late_reader_brings_nothing_back() {
        let key = |n: u8| Key::blob(&DigestFunction::Sha256.hash(&[n]));
        let value = Bytes::from(vec![1; 1000]);
        let hot = Hot::new(10_000);
        for n in 0..100 {
            hot.insert(key(n), &value, hot.before(7));
        }
        assert!((0..100).filter(|n| hot.get(&key(*n), 7).is_some()).count() <= 8);
        assert_eq!(hot.get(&key(99), 7), Some(Hit { bytes: value.clone(), is_first: false }));
        let seen = hot.before(7);
        hot.remove([&key(99)]);
        hot.insert(key(99), &value, seen);
        assert_eq!(hot.get(&key(99), 7), None);
    }

    #[test]
    fn the_first_hit_of_a_period_says_so() {
        let key = Key::blob(&DigestFunction::Sha256.hash(b"x"));
        let hot = Hot::new(10_000);
        hot.insert(key.clone(), &Bytes::from_static(b"x"), hot.before(7));
        let firsts = [7, 7, 8, 8, 9].map(|period| hot.get(&key, period).expect("here").is_first);
        assert_eq!(firsts, [false, false, true, false, true]);
    }
}
