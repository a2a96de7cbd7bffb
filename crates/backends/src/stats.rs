use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// How full a store is and what happened to it since it was opened.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Blobs, chunk lists included.
    pub blobs: u64,
    /// Records.
    pub records: u64,
    /// The bound.
    pub max_bytes: u64,
    /// What counts against the bound: all of the below.
    pub used_bytes: u64,
    /// Packs, dead bytes included.
    pub pack_bytes: u64,
    /// Bytes in packs that no blob needs any more.
    pub dead_bytes: u64,
    /// Files of large blobs.
    pub file_bytes: u64,
    /// The index with its log.
    pub index_bytes: u64,
    /// Damaged files kept aside.
    pub quarantine_bytes: u64,
    /// Room promised to uploads that are on their way.
    pub reserved_bytes: u64,
    /// Blobs evicted.
    pub evicted_blobs: u64,
    /// Records evicted.
    pub evicted_records: u64,
    /// Bytes that eviction freed, those of the index roughly.
    pub evicted_bytes: u64,
    /// The youngest promise that was ever evicted; never below the lease. `None` when none was.
    pub youngest_evicted: Option<Duration>,
    /// Blobs and records dropped because their bytes were damaged.
    pub quarantined: u64,
    /// Blobs dropped because their bytes were gone.
    pub lost: u64,
    /// Writes refused because all that was left is leased.
    pub lease_refusals: u64,
    /// Blobs and records that were promised to somebody and whose lease has not passed.
    pub leases: u64,
    /// How long a promise is kept.
    pub lease: Duration,
    /// Free space of the file system that holds the data; 0 when it cannot be asked.
    pub disk_free_bytes: u64,
    /// Whether writes are refused because that file system is full and nothing may be evicted.
    pub disk_is_full: bool,
}

/// What is counted while the store runs.
#[derive(Default)]
pub(crate) struct Counters {
    pub evicted_blobs: AtomicU64,
    pub evicted_records: AtomicU64,
    pub evicted_bytes: AtomicU64,
    /// Seconds, 0 for none.
    youngest_evicted: AtomicU64,
    pub quarantined: AtomicU64,
    pub lost: AtomicU64,
    pub lease_refusals: AtomicU64,
}

impl Counters {
    pub(crate) fn add(counter: &AtomicU64, count: u64) {
        counter.fetch_add(count, Ordering::Relaxed);
    }

    pub(crate) fn evicted_promise(&self, age: Duration) {
        let age = age.as_secs().max(1);
        let younger = |known: u64| (known == 0 || age < known).then_some(age);
        // An age that is no younger changes nothing.
        self.youngest_evicted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, younger).ok();
    }

    pub(crate) fn fill(&self, stats: &mut Stats) {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        stats.evicted_blobs = load(&self.evicted_blobs);
        stats.evicted_records = load(&self.evicted_records);
        stats.evicted_bytes = load(&self.evicted_bytes);
        stats.quarantined = load(&self.quarantined);
        stats.lost = load(&self.lost);
        stats.lease_refusals = load(&self.lease_refusals);
        let seconds = load(&self.youngest_evicted);
        stats.youngest_evicted = (seconds > 0).then(|| Duration::from_secs(seconds));
    }
}
