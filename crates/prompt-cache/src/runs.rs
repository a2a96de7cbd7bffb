use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use store::RecordKey;

/// Runs and keys that are remembered; the least recently used go first.
const MAX_CALLS: NonZeroUsize = NonZeroUsize::new(100_000).expect("not zero");

/// How often each call was looked up in each run: the n-th identical call within a run is another sample.
/// Spec: prompt-key §6.
pub(crate) struct Runs(Mutex<LruCache<(RecordKey, String), u64>>);

impl Default for Runs {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_CALLS)))
    }
}

impl Runs {
    /// How many lookups of this call came before in the run; counts this one.
    pub(crate) fn occurrence(&self, entry: RecordKey, run: &str) -> u64 {
        let mut runs = self.0.lock();
        let seen = runs.get_or_insert_mut((entry, run.to_owned()), || 0);
        let before = *seen;
        *seen += 1;
        before
    }
}
