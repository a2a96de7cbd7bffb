use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use lru::LruCache;
use parking_lot::Mutex;
use store::{RecordKey, StoreError};
use tokio::time::Instant;

use crate::cache::Inner;
use crate::entry;
use crate::names::Names;
use crate::proto::Invalidations;

/// Namespaces whose invalidations are held.
const MAX_NAMESPACES: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");
/// How long they are held. Reading the record again keeps it from being evicted before what it invalidates.
const HELD_FOR: Duration = Duration::from_secs(60);

/// The invalidations of namespaces that are in use, so that a lookup does not read them each time.
pub(crate) struct Held(Mutex<State>);

struct State {
    of: LruCache<RecordKey, (Instant, Arc<Invalidations>)>,
    /// How often something was forgotten: what was read before that is not held.
    forgotten: u64,
}

impl Default for Held {
    fn default() -> Self {
        Self(Mutex::new(State { of: LruCache::new(MAX_NAMESPACES), forgotten: 0 }))
    }
}

impl Held {
    /// Forgets those of a namespace, which have changed.
    pub(crate) fn forget(&self, name: &RecordKey) {
        let mut state = self.0.lock();
        state.forgotten += 1;
        state.of.pop(name);
    }

    fn get(&self, name: &RecordKey) -> Result<Arc<Invalidations>, u64> {
        let mut state = self.0.lock();
        match state.of.get(name) {
            Some((since, held)) if since.elapsed() < HELD_FOR => Ok(held.clone()),
            _ => Err(state.forgotten),
        }
    }

    fn hold(&self, name: RecordKey, read: &Arc<Invalidations>, forgotten: u64) {
        let mut state = self.0.lock();
        if state.forgotten == forgotten {
            state.of.put(name, (Instant::now(), read.clone()));
        }
    }
}

impl Inner {
    /// What was invalidated in a namespace.
    pub(crate) async fn invalidations(&self, names: &Names) -> Result<Arc<Invalidations>, StoreError> {
        let name = names.invalidations();
        let forgotten = match self.held.get(&name) {
            Ok(held) => return Ok(held),
            Err(forgotten) => forgotten,
        };
        let read: Arc<Invalidations> = Arc::new(entry::load(self, &name).await?.unwrap_or_default());
        self.held.hold(name, &read, forgotten);
        Ok(read)
    }
}
