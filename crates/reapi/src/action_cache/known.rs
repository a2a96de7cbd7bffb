use std::num::NonZeroUsize;
use std::sync::Arc;

use bytes::Bytes;
use cache_types::Digest;
use lru::LruCache;
use parking_lot::Mutex;

/// What is known of this many results at most.
const MAX_RESULTS: NonZeroUsize = NonZeroUsize::new(64 * 1024).expect("not zero");
/// And this many bytes, the records themselves included.
const MAX_BYTES: usize = 32 * 1024 * 1024;
/// A result that stands for more blobs is looked through each time.
const MAX_BLOBS: usize = 256;
/// What an entry takes beside record and blobs, roughly.
const OVERHEAD_BYTES: usize = 256;

/// What was found out about a record, so that the next look need not decode and check it again. It follows from the bytes
/// of the record and of the trees that it names, so it stays true; whether the blobs are here is asked each time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    pub(super) record: Bytes,
    /// The encoded result in it.
    pub(super) encoded: Bytes,
    /// All that the result stands for, what trees name included.
    pub(super) blobs: Arc<[Digest]>,
    /// The result names blobs for stdout or stderr, which a caller may want in the answer.
    pub(super) has_streams: bool,
}

/// The records that were looked through lately.
pub(crate) struct KnownResults {
    state: Mutex<State>,
}

struct State {
    bytes: usize,
    results: LruCache<Bytes, Known>,
}

impl Default for KnownResults {
    fn default() -> Self {
        Self { state: Mutex::new(State { bytes: 0, results: LruCache::new(MAX_RESULTS) }) }
    }
}

impl Known {
    fn cost(&self) -> usize {
        self.record.len() + size_of_val(&*self.blobs) + OVERHEAD_BYTES
    }
}

impl KnownResults {
    /// What is known of the record under this key, when it is still this one.
    pub(super) fn get(&self, key: &Bytes, record: &Bytes) -> Option<Known> {
        let mut state = self.state.lock();
        state.results.get(key).filter(|known| known.record == *record).cloned()
    }

    pub(super) fn insert(&self, key: Bytes, known: Known) {
        let cost = known.cost();
        if known.blobs.len() > MAX_BLOBS || cost > MAX_BYTES {
            return;
        }
        let mut state = self.state.lock();
        state.bytes += cost;
        if let Some((_key, old)) = state.results.push(key, known) {
            state.bytes -= old.cost();
        }
        while state.bytes > MAX_BYTES {
            let Some((_key, old)) = state.results.pop_lru() else { break };
            state.bytes -= old.cost();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(record: &[u8]) -> Known {
        let record = Bytes::copy_from_slice(record);
        Known { encoded: record.slice(1..), record, blobs: Arc::new([]), has_streams: false }
    }

    #[test]
    fn another_record_under_the_key_is_not_known() {
        let results = KnownResults::default();
        let key = Bytes::from_static(b"key");
        results.insert(key.clone(), known(b"one"));
        assert_eq!(results.get(&key, &Bytes::from_static(b"one")), Some(known(b"one")));
        assert_eq!(results.get(&key, &Bytes::from_static(b"two")), None);
        results.insert(key.clone(), known(b"two"));
        assert_eq!(results.get(&key, &Bytes::from_static(b"one")), None);
    }

    #[test]
    fn it_is_bounded() {
        let results = KnownResults::default();
        let big = vec![0; 1 << 20];
        for number in 0..100_u32 {
            results.insert(Bytes::copy_from_slice(&number.to_be_bytes()), known(&big));
        }
        let state = results.state.lock();
        assert!(state.bytes <= MAX_BYTES && state.results.len() < 32);
        assert_eq!(state.bytes, state.results.iter().map(|(_, known)| known.cost()).sum::<usize>());
    }
}
