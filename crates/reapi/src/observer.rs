//! What the services count while they work: calls, and hits and misses of the action cache.
//!
//! Everything is an atomic that any path may add to without a lock, an allocation or a registry; whoever shows the numbers
//! reads them here. A path that answers below the ordinary services opens a [`Call`] itself.

mod actions;
mod call;
mod layer;
mod names;
mod route;
mod rpc;

pub use actions::{Actions, Asker, Miss, Outcome, Tally};
pub use call::{Call, CallMeter, Code, Endpoint};
pub use names::OTHER;
pub use route::{Method, Route};
pub use rpc::Rpc;

pub use crate::request_metadata::Requester;
pub(crate) use layer::Observing;

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use store::RecordKey;

/// The counts of one server.
#[derive(Debug)]
pub struct Observer {
    rpcs: [CallMeter; Rpc::ALL.len()],
    routes: [[CallMeter; Method::ALL.len()]; Route::ALL.len()],
    actions: Actions,
    was_evicted: WasEvicted,
}

type Question = dyn Fn(&RecordKey) -> bool + Send + Sync;

/// Tells whether a record was evicted lately.
#[derive(Default)]
struct WasEvicted(OnceLock<Box<Question>>);

impl std::fmt::Debug for WasEvicted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WasEvicted").finish_non_exhaustive()
    }
}

impl Default for Observer {
    fn default() -> Self {
        Self {
            rpcs: std::array::from_fn(|_| CallMeter::default()),
            routes: std::array::from_fn(|_| std::array::from_fn(|_| CallMeter::default())),
            actions: Actions::default(),
            was_evicted: WasEvicted::default(),
        }
    }
}

impl Observer {
    /// Opens a call; what becomes of it is counted when it is dropped.
    pub fn call(self: &Arc<Self>, endpoint: Endpoint) -> Call {
        self.meter(endpoint).begin();
        Call::new(Arc::clone(self), endpoint, Instant::now())
    }

    /// The counts of one kind of call.
    pub fn meter(&self, endpoint: Endpoint) -> &CallMeter {
        match endpoint {
            Endpoint::Rpc(rpc) => &self.rpcs[rpc as usize],
            Endpoint::Http(route, method) => &self.routes[route as usize][method as usize],
        }
    }

    /// The hits and misses of the action cache.
    pub fn actions(&self) -> &Actions {
        &self.actions
    }

    /// Takes over the memory of a store, which tells a miss of what was evicted from one of what was never here. Only the
    /// first one is asked.
    pub fn ask_whether_evicted(&self, was_evicted: impl Fn(&RecordKey) -> bool + Send + Sync + 'static) {
        self.was_evicted.0.get_or_init(|| Box::new(was_evicted));
    }

    /// Why there is no record of this key.
    pub fn absence(&self, key: &RecordKey) -> Miss {
        let evicted = self.was_evicted.0.get().is_some_and(|was_evicted| was_evicted(key));
        if evicted { Miss::Evicted } else { Miss::Absent }
    }

    /// Bodies of blobs that are on their way in: streams and PUTs.
    pub fn uploads_in_flight(&self) -> u64 {
        let puts = Route::ALL.into_iter().map(|route| Endpoint::Http(route, Method::Put));
        let streams = [Endpoint::Rpc(Rpc::Write), Endpoint::Rpc(Rpc::BatchUpdateBlobs)];
        puts.chain(streams).map(|endpoint| self.meter(endpoint).in_flight()).sum()
    }
}
