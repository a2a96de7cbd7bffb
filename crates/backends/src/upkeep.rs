//! Work on a whole store that somebody asked for: eviction down to a goal, purging, checking.

pub(crate) mod check;
pub(crate) mod collect;
pub(crate) mod purge;
pub(crate) mod rebuild;
mod salvage;
mod verify;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::key::Key;
use crate::op::Done;

use check::Mending;
use collect::Goal;

/// How far a long piece of work is. Whoever waits for it may look, and call it off.
#[derive(Debug, Default)]
pub struct Work {
    done: AtomicU64,
    total: AtomicU64,
    called_off: AtomicBool,
}

impl Work {
    /// How much is done: rows, or bytes where bytes are to be freed.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// How much there is to do in all, as far as is known; 0 at first.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }

    /// Has it end soon, with what was done until then.
    pub fn call_off(&self) {
        self.called_off.store(true, Ordering::Relaxed);
    }

    /// Whether it is to end soon.
    pub fn is_called_off(&self) -> bool {
        self.called_off.load(Ordering::Relaxed)
    }

    /// Notes that so much more is done.
    pub fn advance(&self, done: u64) {
        self.done.fetch_add(done, Ordering::Relaxed);
    }

    pub(crate) fn set_done(&self, done: u64) {
        self.done.store(done, Ordering::Relaxed);
    }

    /// Says how much there is to do in all.
    pub fn expect(&self, total: u64) {
        self.total.store(total, Ordering::Relaxed);
    }
}

/// Work for the housekeeper's thread.
pub(crate) enum Job {
    /// Eviction down to a goal; answers what went.
    Collect { goal: Goal, work: Arc<Work>, done: Done<Tally> },
    /// Removes files that nothing names, or only looks for them; answers which.
    Sweep { mending: Mending, done: Done<Vec<PathBuf>> },
}

/// How much of something there is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blobs.
    pub blobs: u64,
    /// Records.
    pub records: u64,
    /// What they take on disk, about.
    pub bytes: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, key: &Key, bytes: u64) {
        if key.is_blob() {
            self.blobs += 1;
        } else {
            self.records += 1;
        }
        self.bytes += bytes;
    }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.blobs += other.blobs;
        self.records += other.records;
        self.bytes += other.bytes;
    }
}
