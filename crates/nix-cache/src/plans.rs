use std::sync::Arc;

use cache_types::Hash;
use lru::LruCache;
use parking_lot::Mutex;

use crate::render::Plan;

/// The plans that are kept take about this much memory at most.
const MAX_WEIGHT_BYTES: usize = 64 * 1024 * 1024;

/// Plans of the NARs that were asked for last, so that their folders are not read again.
pub(crate) struct Plans(Mutex<Kept>);

struct Kept {
    plans: LruCache<Hash, Arc<Plan>>,
    weight: usize,
}

impl Default for Plans {
    fn default() -> Self {
        Self(Mutex::new(Kept { plans: LruCache::unbounded(), weight: 0 }))
    }
}

impl Plans {
    pub(crate) fn get(&self, nar: &Hash) -> Option<Arc<Plan>> {
        self.0.lock().plans.get(nar).cloned()
    }

    /// Keeps a plan; where another one of the same NAR was kept meanwhile, that one is answered.
    pub(crate) fn insert(&self, plan: Plan) -> Arc<Plan> {
        let mut kept = self.0.lock();
        if let Some(known) = kept.plans.get(&plan.nar) {
            return known.clone();
        }
        let plan = Arc::new(plan);
        kept.weight += plan.weight();
        kept.plans.put(plan.nar, plan.clone());
        while kept.weight > MAX_WEIGHT_BYTES
            && let Some((_, gone)) = kept.plans.pop_lru()
        {
            kept.weight -= gone.weight();
        }
        plan
    }

    pub(crate) fn remove(&self, nar: &Hash) {
        let mut kept = self.0.lock();
        if let Some(gone) = kept.plans.pop(nar) {
            kept.weight -= gone.weight();
        }
    }
}
