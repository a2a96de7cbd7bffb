//! The embedded storage engine: one folder on one machine that holds blobs and records within a bound.
//!
//! RocksDB is the index, and holds blobs up to 2 KiB itself; blobs up to 1 MiB are appended to *packs*, larger ones get a
//! *file* each. One committer thread owns every change of the index and every append to a pack, so that many writers share
//! one fsync. A housekeeper thread evicts, compacts and sweeps. Order of writes: bytes, fsync, index, acknowledgement.
//!
//! | module | owns |
//! |---|---|
//! | `data_dir` | the folder: its lock, its format version, its parts |
//! | `index`, `row`, `key`, `listing` | RocksDB, the encoding of its rows and keys |
//! | `pack`, `blob_file`, `frame` | the bytes outside the index, and their encoding |
//! | `committer`, `group` | group commit |
//! | `housekeeper`, `eviction`, `space` | the bound on size, eviction, compaction |
//! | `upkeep` | purging, eviction on request, checks, repair of the index |
//! | `absence`, `promised`, `hot` | what is known in memory: keys that are not here, what was promised, small values |
//! | `reader`, `writer`, `chunks`, `records` | the two traits' methods |
//! | `inspection` | whether stored bytes are as they were stored |
//!
//! Spec: storage §1, §2.

mod absence;
mod blob_file;
mod chunks;
mod clock;
mod committer;
mod data_dir;
mod embedded;
mod engine;
mod eviction;
mod failure;
mod frame;
mod gone;
mod group;
mod hot;
mod housekeeper;
mod index;
mod inspection;
mod key;
mod leases;
mod listing;
mod op;
mod pack;
mod presence;
mod promised;
mod reader;
mod records;
mod removals;
mod row;
mod settings;
mod space;
mod stats;
mod sweep;
mod touches;
mod upkeep;
mod writer;

pub use clock::{Clock, SystemClock};
pub use embedded::Embedded;
pub use settings::{Durability, Eviction, Settings};
pub use stats::Stats;
pub use upkeep::check::{Checked, Mending};
pub use upkeep::collect::{Collected, Goal};
pub use upkeep::rebuild::Rebuilt;
pub use upkeep::{Tally, Work};

#[cfg(test)]
mod tests;
