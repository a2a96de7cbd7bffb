use std::num::NonZeroUsize;
use std::time::Duration;

use cache_types::Digest;
use lru::LruCache;
use parking_lot::Mutex;
use tokio::time::Instant;

/// Digests that are remembered at once: some 30 MB.
const MOST: NonZeroUsize = NonZeroUsize::new(256 * 1024).expect("not zero");

/// What the far store was known to have a short while ago.
pub(super) struct Remembered {
    until: Mutex<LruCache<Digest, Instant>>,
    time: Duration,
}

impl Remembered {
    /// For `time` after each answer; zero remembers nothing.
    pub(super) fn new(time: Duration) -> Self {
        Self { until: Mutex::new(LruCache::new(MOST)), time }
    }

    /// Those of `digests` that have to be asked for.
    pub(super) fn unknown(&self, mut digests: Vec<Digest>) -> Vec<Digest> {
        let now = Instant::now();
        let mut until = self.until.lock();
        digests.retain(|digest| until.get(digest).is_none_or(|until| *until <= now));
        digests
    }

    pub(super) fn has(&self, digest: &Digest) -> bool {
        self.until.lock().get(digest).is_some_and(|until| *until > Instant::now())
    }

    pub(super) fn add<'a>(&self, present: impl Iterator<Item = &'a Digest>) {
        if self.time.is_zero() {
            return;
        }
        let Some(time) = Instant::now().checked_add(self.time) else {
            return;
        };
        let mut until = self.until.lock();
        for digest in present {
            until.put(*digest, time);
        }
    }

    pub(super) fn forget(&self, digest: &Digest) {
        self.until.lock().pop(digest);
    }
}
