//! Storage as the protocol crates see it: two small traits, a memory store, wrappers, and one conformance suite.

mod blob_store;
mod body;
mod chunker;
mod coalescing;
mod error;
mod histogram;
mod in_memory;
mod inspect;
mod long_promise;
mod memory;
mod metered;
mod provenance;
mod record_store;
mod size_lookup;
mod two_level;
mod verifying;

#[cfg(feature = "testkit")]
pub mod conformance;
#[cfg(feature = "testkit")]
mod faulty;

pub use blob_store::{BlobStore, write_each};
pub use body::BlobBody;
pub use chunker::{AVG_CHUNK_BYTES, Chunker, MAX_CHUNK_BYTES, MIN_CHUNK_BYTES};
pub use coalescing::Coalescing;
pub use error::{BodyError, StoreError};
#[cfg(feature = "testkit")]
pub use faulty::{Fault, Faulty};
pub use histogram::{Histogram, LATENCY_BOUNDS_MICROS, Latencies};
pub use in_memory::InMemory;
pub use inspect::Inspect;
pub use long_promise::{LONG_PROMISE, LongPromise};
pub use memory::MemoryStore;
pub use metered::{Metered, StoreCall, StoreMeters};
pub use provenance::Provenance;
pub use record_store::{RecordKey, RecordKind, RecordStore};
pub use size_lookup::SizeLookup;
pub use two_level::{FarWrites, QueueForFar, TwoLevel};
pub use verifying::Verifying;
