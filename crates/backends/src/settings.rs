use std::path::PathBuf;
use std::time::Duration;

const MIB: u64 = 1024 * 1024;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The loss of power: every acknowledgement waits for an fsync that it shares with others.
    PowerLoss,
    /// The end of the process, also by SIGKILL; the last seconds can be lost with the power.
    Process,
}

/// How an embedded store is set up.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The folder that holds everything; made when it is not there.
    pub data: PathBuf,
    /// The bound on what the folder takes on disk.
    pub max_size_bytes: u64,
    /// How long what was promised is kept.
    pub lease: Duration,
    /// How long what was written stays, though nobody was promised it; at most the lease. Writes are refused rather than
    /// to evict what is younger, unless the file system is full. Spec: R-162.
    pub evict_floor: Duration,
    /// When the store evicts.
    pub eviction: Eviction,
    /// What an acknowledged write survives.
    pub durability: Durability,
}

/// When a store evicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Eviction {
    /// In the background, to stay within its bound.
    Bounded,
    /// When somebody asks for it only: for work on a store that no server uses, whose bound is not known.
    OnRequest,
}

/// The sizes that follow from the bound: a small store has small parts, so that the parts fit the bound too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizing {
    /// The bound itself.
    pub max: u64,
    /// Eviction starts above this.
    pub high: u64,
    /// Eviction goes down to this.
    pub low: u64,
    /// Space on the file system that is left alone.
    pub floor: u64,
    /// A pack is full at this size.
    pub pack: u64,
    /// One write buffer of the index.
    pub write_buffer: usize,
    /// The index's log in all.
    pub wal: u64,
    /// Blocks of the index in memory.
    pub block_cache: usize,
    /// Verified small blobs in memory.
    pub hot: u64,
    /// Above this, the index holds no more blobs itself.
    pub inline_index: u64,
    /// A part of the index that is compacted at once.
    pub index_slice: u64,
    /// Damaged files that are kept aside.
    pub quarantine: u64,
}

impl Sizing {
    /// `disk` is the size of the file system, which a bound may exceed: RocksDB goes on after a full disk only once a
    /// write buffer finds room.
    pub(crate) fn of(max: u64, disk: u64) -> Self {
        let room = max.min(disk);
        Self {
            max,
            high: max - max / 20,
            low: max - max / 10,
            floor: (room / 32).clamp(4 * MIB, 256 * MIB),
            pack: (room / 64).clamp(MIB, 64 * MIB),
            write_buffer: to_usize((room / 64).clamp(MIB / 4, 16 * MIB)),
            wal: (room / 32).clamp(MIB, 32 * MIB),
            block_cache: to_usize((max / 32).clamp(8 * MIB, 64 * MIB)),
            hot: (max / 8).min(64 * MIB),
            inline_index: max / 4,
            index_slice: (max / 32).clamp(MIB, 256 * MIB),
            quarantine: max / 64,
        }
    }
}

fn to_usize(bytes: u64) -> usize {
    usize::try_from(bytes).expect("clamped to at most 64 MiB")
}
