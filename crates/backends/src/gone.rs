use std::collections::{HashSet, VecDeque};
use std::hash::BuildHasher;

use foldhash::fast::RandomState;
use parking_lot::Mutex;

use crate::key::Key;

/// So many evicted records are remembered. About 20 bytes each.
const MAX_KNOWN: usize = 64 * 1024;

/// The records that were evicted lately, by a hash of their key: what misses them would have hit in a larger store.
#[derive(Default)]
pub(crate) struct Gone {
    hasher: RandomState,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    set: HashSet<u64, RandomState>,
    order: VecDeque<u64>,
}

impl Gone {
    pub(crate) fn note(&self, key: &Key) {
        let hash = self.hasher.hash_one(key);
        let mut known = self.known.lock();
        if !known.set.insert(hash) {
            return;
        }
        known.order.push_back(hash);
        if known.order.len() > MAX_KNOWN
            && let Some(oldest) = known.order.pop_front()
        {
            known.set.remove(&oldest);
        }
    }

    pub(crate) fn has(&self, key: &Key) -> bool {
        self.known.lock().set.contains(&self.hasher.hash_one(key))
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn the_latest_are_known_and_the_oldest_forgotten() {
        let gone = Gone::default();
        let key = |n: usize| Key::blob(&DigestFunction::Sha256.hash(&n.to_le_bytes()));
        for n in 0..MAX_KNOWN + 10 {
            gone.note(&key(n));
            gone.note(&key(n));
        }
        assert!((10..20).all(|n| gone.has(&key(n))));
        assert!((0..10).all(|n| !gone.has(&key(n))));
        assert!(!gone.has(&key(MAX_KNOWN + 10)));
        assert_eq!(gone.known.lock().order.len(), MAX_KNOWN);
    }
}
