use bytes::Bytes;
use lru::LruCache;
use parking_lot::Mutex;

use crate::key::Key;

/// The largest value that is kept in memory.
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// What an entry takes beside its value, roughly.
const OVERHEAD_BYTES: u64 = 256;

/// Verified small values in memory, least recently used first out.
///
/// An entry exists only while its row does: a reader that found a row hands in the epoch it saw before, and whatever drops
/// or replaces rows moves the epoch on, so a late reader cannot bring back what is gone.
pub(crate) struct Hot {
    max_bytes: u64,
    state: Mutex<State>,
}

struct State {
    epoch: u64,
    bytes: u64,
    values: LruCache<Key, Bytes>,
}

/// A moment between two removals.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Epoch(u64);

fn cost(value: &Bytes) -> u64 {
    value.len() as u64 + OVERHEAD_BYTES
}

impl Hot {
    pub(crate) fn new(max_bytes: u64) -> Self {
        Self { max_bytes, state: Mutex::new(State { epoch: 0, bytes: 0, values: LruCache::unbounded() }) }
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Bytes> {
        self.state.lock().values.get(key).cloned()
    }

    pub(crate) fn epoch(&self) -> Epoch {
        Epoch(self.state.lock().epoch)
    }

    /// Keeps the value of a row that was read after `seen`.
    pub(crate) fn insert(&self, key: Key, value: &Bytes, seen: Epoch) {
        if value.len() > MAX_VALUE_BYTES || cost(value) > self.max_bytes {
            return;
        }
        let mut state = self.state.lock();
        if state.epoch != seen.0 {
            return;
        }
        state.bytes += cost(value);
        // A slice of a larger buffer would keep all of it alive.
        if let Some(old) = state.values.put(key, Bytes::copy_from_slice(value)) {
            state.bytes -= cost(&old);
        }
        while state.bytes > self.max_bytes {
            let Some((_key, old)) = state.values.pop_lru() else { break };
            state.bytes -= cost(&old);
        }
    }

    /// Drops what these keys name.
    pub(crate) fn remove<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut state = self.state.lock();
        for key in keys {
            state.epoch += 1;
            if let Some(old) = state.values.pop(key) {
                state.bytes -= cost(&old);
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
            hot.insert(key(n), &value, hot.epoch());
        }
        assert!((0..100).filter(|n| hot.get(&key(*n)).is_some()).count() <= 8);
        assert_eq!(hot.get(&key(99)), Some(value.clone()));
        let seen = hot.epoch();
        hot.remove([&key(99)]);
        hot.insert(key(99), &value, seen);
        assert_eq!(hot.get(&key(99)), None);
    }
}
