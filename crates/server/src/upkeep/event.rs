use backends::{Checked, Collected, Rebuilt, Tally};
use serde::{Deserialize, Serialize};

/// What is told while upkeep runs, a line of JSON each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// How far it is: rows, or bytes where bytes are to be freed. `total` is 0 while it is not known.
    Progress {
        /// Done so far.
        done: u64,
        /// In all.
        total: u64,
    },
    /// The last one: what was done.
    Report(Report),
    /// The last one: why it failed.
    Error(String),
}

/// What was done, or would be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Report {
    /// Of an eviction.
    Gc(GcReport),
    /// Of a check.
    Fsck(FsckReport),
    /// Of a purge.
    Purge(PurgeReport),
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TallyReport {
    /// Blobs.
    pub blobs: u64,
    /// Action results and the like.
    pub records: u64,
    /// What they take on disk, about.
    pub bytes: u64,
}

impl From<Tally> for TallyReport {
    fn from(Tally { blobs, records, bytes }: Tally) -> Self {
        Self { blobs, records, bytes }
    }
}

/// What an eviction did, or would do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GcReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// What went.
    pub evicted: TallyReport,
    /// What the goal asks for and a lease, or the floor of what was just written, holds.
    pub held: TallyReport,
    /// What the store took on disk before.
    pub bytes_before: u64,
    /// What it takes now.
    pub bytes_after: u64,
}

impl GcReport {
    pub(super) fn new(collected: Collected, dry_run: bool) -> Self {
        let Collected { evicted, held, bytes_before, bytes_after } = collected;
        Self { dry_run, evicted: evicted.into(), held: held.into(), bytes_before, bytes_after }
    }
}

/// What a check read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FsckReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Faults in all.
    pub faults: u64,
    /// Blobs that are whole.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that are whole.
    pub records: u64,
    /// Blobs whose bytes fail their checksum or hash; put aside.
    pub damaged_blobs: u64,
    /// Blobs whose bytes are gone; dropped.
    pub lost_blobs: u64,
    /// Records that fail their checksum; dropped.
    pub damaged_records: u64,
    /// Rows of the index that are none; dropped.
    pub broken_rows: u64,
    /// Entries that eviction would not have found; they are found again.
    pub unlisted: u64,
    /// Sums that were wrong; set right.
    pub wrong_sums: u64,
    /// Files that nothing names; removed.
    pub orphan_files: u64,
    /// Parts of the index that cannot be read; `twofold fsck --data` makes the index anew.
    pub unreadable_parts: u64,
    /// The index was made anew from what was left of it and from the bytes; `None` when it was not.
    pub rebuilt: Option<RebuiltReport>,
    /// Whether it ended early.
    pub called_off: bool,
    /// The first hundred faults in words.
    pub examples: Vec<String>,
}

/// How an index was made anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RebuiltReport {
    /// Rows that the damaged index still told.
    pub rows_kept: u64,
    /// Blobs that packs and files told.
    pub blobs_found: u64,
    /// Parts of the damaged index that could not be read.
    pub parts_lost: u64,
    /// Whether nothing of the damaged index could be read: action results and the smallest blobs are gone.
    pub from_bytes_alone: bool,
}

impl FsckReport {
    pub(super) fn new(found: Checked, dry_run: bool) -> Self {
        Self {
            dry_run,
            faults: found.faults(),
            blobs: found.blobs,
            bytes: found.bytes,
            records: found.records,
            damaged_blobs: found.damaged_blobs,
            lost_blobs: found.lost_blobs,
            damaged_records: found.damaged_records,
            broken_rows: found.broken_rows,
            unlisted: found.unlisted,
            wrong_sums: found.wrong_sums,
            orphan_files: found.orphan_files,
            unreadable_parts: found.unreadable_parts,
            rebuilt: None,
            called_off: found.called_off,
            examples: found.examples,
        }
    }

    pub(super) fn add_rebuilt(&mut self, rebuilt: &Rebuilt) {
        self.faults += 1;
        self.rebuilt = Some(RebuiltReport {
            rows_kept: rebuilt.kept,
            blobs_found: rebuilt.found,
            parts_lost: rebuilt.lost_parts,
            from_bytes_alone: rebuilt.from_bytes_alone,
        });
    }
}

/// What a purge dropped, or would drop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PurgeReport {
    /// Whether nothing was changed.
    pub dry_run: bool,
    /// Action results and values of the HTTP caches.
    pub records: u64,
    /// Blobs.
    pub blobs: u64,
    /// Records that were looked at.
    pub seen: u64,
}
