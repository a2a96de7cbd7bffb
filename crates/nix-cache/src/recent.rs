use std::hash::Hash;
use std::sync::Arc;

use lru::LruCache;
use parking_lot::Mutex;

/// What was made last and may be asked for again, the longest unused first out.
pub(crate) struct Recent<K, V> {
    kept: Mutex<Kept<K, V>>,
    max_bytes: usize,
}

struct Kept<K, V> {
    values: LruCache<K, Arc<V>>,
    bytes: usize,
}

/// What takes memory.
pub(crate) trait Weigh {
    /// About how many bytes.
    fn weight(&self) -> usize;
}

impl<K: Hash + Eq, V: Weigh> Recent<K, V> {
    /// Of about this much memory at most.
    pub(crate) fn new(max_bytes: usize) -> Self {
        Self { kept: Mutex::new(Kept { values: LruCache::unbounded(), bytes: 0 }), max_bytes }
    }

    pub(crate) fn get(&self, key: &K) -> Option<Arc<V>> {
        self.kept.lock().values.get(key).cloned()
    }

    /// Keeps a value, unless another one was kept meanwhile, which is answered then.
    pub(crate) fn insert_first(&self, key: K, value: V) -> Arc<V> {
        let mut kept = self.kept.lock();
        match kept.values.get(&key) {
            Some(known) => known.clone(),
            None => kept.put(key, value, self.max_bytes),
        }
    }

    /// Keeps a value in place of what was there.
    pub(crate) fn insert(&self, key: K, value: V) -> Arc<V> {
        self.kept.lock().put(key, value, self.max_bytes)
    }

    pub(crate) fn remove(&self, key: &K) {
        let mut kept = self.kept.lock();
        if let Some(gone) = kept.values.pop(key) {
            kept.bytes -= gone.weight();
        }
    }
}

impl<K: Hash + Eq, V: Weigh> Kept<K, V> {
    fn put(&mut self, key: K, value: V, max_bytes: usize) -> Arc<V> {
        let value = Arc::new(value);
        self.bytes += value.weight();
        if let Some(old) = self.values.put(key, value.clone()) {
            self.bytes -= old.weight();
        }
        while self.bytes > max_bytes
            && let Some((_, gone)) = self.values.pop_lru()
        {
            self.bytes -= gone.weight();
        }
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Weight(usize);

    impl Weigh for Weight {
        fn weight(&self) -> usize {
            self.0
        }
    }

    #[test]
    fn it_is_bounded_and_what_is_used_stays() {
        let recent = Recent::new(100);
        recent.insert(0, Weight(10));
        for key in 1..50 {
            recent.insert(key, Weight(10));
            assert!(recent.get(&0).is_some());
        }
        assert_eq!((0..50).filter(|key| recent.get(key).is_some()).count(), 10);
        assert_eq!(recent.insert_first(0, Weight(1)).0, 10);
        recent.insert(0, Weight(90));
        recent.remove(&0);
        assert!(recent.get(&0).is_none());
        assert!(recent.kept.lock().bytes <= 10);
        recent.insert(7, Weight(1000));
        assert!(recent.get(&7).is_none());
    }
}
