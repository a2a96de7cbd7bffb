use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_types::Digest;
use parking_lot::{Condvar, Mutex};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use ulid::Ulid;

use crate::engine::Uncommitted;
use crate::eviction::{Evicted, Wanted};
use crate::failure::Failure;
use crate::frame::Frame;
use crate::key::Key;
use crate::row::{FilePlace, PackPlace, Place};
use crate::space::Reservation;
use crate::touches::Touch;

/// Where the committer answers.
pub(crate) type Done<T = ()> = oneshot::Sender<Result<T, Failure>>;

/// A verified blob on its way into the index.
pub(crate) struct PutBlob {
    pub key: Key,
    pub size_bytes: u64,
    pub body: Body,
    pub touch: Touch,
}

/// The bytes of a verified blob, by size class.
pub(crate) enum Body {
    Inline(Bytes),
    Frame(Frame),
    File(NewFile),
}

impl Body {
    /// The bytes it holds in memory.
    pub(crate) fn len_bytes(&self) -> usize {
        match self {
            Self::Inline(bytes) => bytes.len(),
            Self::Frame(frame) => frame.stored.len(),
            Self::File(_) => 0,
        }
    }
}

/// A file in its place that no row names yet.
pub(crate) struct NewFile {
    pub place: FilePlace,
    pub guard: Uncommitted,
}

/// A file's name in `files/` until a row names it; dropped before that, the file goes away.
pub(crate) struct FileName {
    pub path: PathBuf,
    pub segment: Ulid,
}

/// Why a blob's row is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// The bytes fail their checksum.
    Damaged,
    /// The bytes are not there.
    Gone,
}

/// A change of the index that others are grouped with.
pub(crate) enum Change {
    /// Put-if-absent; a blob that is here is touched.
    Put(PutBlob),
    /// Makes a blob a list of chunks, which are here, and frees the bytes it had.
    PutList {
        key: Key,
        size_bytes: u64,
        chunks: Arc<[Digest]>,
    },
    /// Last write wins.
    PutRecord {
        key: Key,
        value: Bytes,
    },
    RemoveRecord {
        key: Key,
    },
    /// Drops a record if it is still damaged.
    DropRecord {
        key: Key,
    },
    /// Drops a blob's row if its bytes are still said to be there.
    Drop {
        key: Key,
        place: Place,
        why: Why,
    },
    /// Drops a record if its value is still this one.
    PurgeRecord {
        key: Key,
        value: Bytes,
    },
    PurgeBlob {
        key: Key,
    },
    /// Deletes a row of the index that is none.
    DropRow {
        family: &'static str,
        key: Box<[u8]>,
    },
    /// Puts an entry into the order of eviction again.
    List {
        key: Key,
    },
    /// Corrects the live bytes of packs, and the totals, by what they are off.
    Adjust {
        packs: Vec<(Ulid, i64)>,
        totals: [i64; 4],
    },
    /// Has the sweep leave a file alone.
    NameFile {
        segment: Ulid,
    },
    UnnameFile {
        segment: Ulid,
    },
    /// Appends a record of a pack again, if it is still the one that counts.
    Move {
        key: Key,
        from: PackPlace,
        raw_size: u32,
        frame: Frame,
    },
}

/// Changes of one caller, which are made in one group, and each of which succeeds or fails alone.
pub(crate) struct Submission {
    pub changes: Vec<Change>,
    /// Takes the outcomes, in the order of the changes.
    pub done: oneshot::Sender<Vec<Result<(), Failure>>>,
    pub held: Held,
}

/// What a submission holds until it is answered.
#[derive(Default)]
pub(crate) struct Held {
    /// Its share of the queue.
    pub _permit: Option<OwnedSemaphorePermit>,
    /// Room that is set aside until the bytes themselves are counted.
    pub _room: Option<Reservation>,
}

/// What the committer is asked to do.
pub(crate) enum Op {
    Change(Submission),
    Evict {
        wanted: Wanted,
        done: Done<Evicted>,
    },
    /// Writes the touches that wait, then does nothing until the other end of `resumed` is dropped.
    Pause {
        ready: oneshot::Sender<()>,
        resumed: oneshot::Receiver<()>,
    },
    /// Has the pack that is open take no more records, so that it can be compacted.
    Seal {
        done: Done,
    },
    /// Removes a pack of which nothing is live.
    RemovePack {
        segment: Ulid,
        done: Done,
    },
}

impl Change {
    /// The bytes it carries.
    fn len_bytes(&self) -> usize {
        match self {
            Self::Put(put) => put.body.len_bytes(),
            Self::PutRecord { value, .. } => value.len(),
            Self::Move { frame, .. } => frame.stored.len(),
            Self::PutList { chunks, .. } => chunks.len() * 41,
            _ => 0,
        }
    }
}

impl Op {
    /// The changes and bytes that a group counts it for.
    pub(crate) fn weight(&self) -> (usize, usize) {
        match self {
            Self::Change(Submission { changes, .. }) => (changes.len(), changes.iter().map(Change::len_bytes).sum()),
            Self::Evict { .. } | Self::Pause { .. } | Self::Seal { .. } | Self::RemovePack { .. } => (1, 0),
        }
    }
}

/// The way to the committer. Its length is bounded by permits that writers take before.
#[derive(Default)]
pub(crate) struct Queue {
    state: Mutex<State>,
    filled: Condvar,
}

#[derive(Default)]
struct State {
    ops: VecDeque<Op>,
    closed: bool,
    flush: bool,
}

/// What the committer finds in the queue.
pub(crate) struct Taken {
    pub ops: Vec<Op>,
    /// Nothing comes any more.
    pub closed: bool,
    /// Touches are to be flushed before their time.
    pub flush: bool,
}

impl Queue {
    /// Adds an operation; a closed queue drops it, which its `done` tells.
    pub(crate) fn push(&self, op: Op) {
        let mut state = self.state.lock();
        if !state.closed {
            state.ops.push_back(op);
            drop(state);
            self.filled.notify_one();
        }
    }

    pub(crate) fn close(&self) {
        self.state.lock().closed = true;
        self.filled.notify_one();
    }

    /// Has the touches flushed soon.
    pub(crate) fn ask_flush(&self) {
        self.state.lock().flush = true;
        self.filled.notify_one();
    }

    /// What waits, up to a number of changes and a size; waits at most `pause` for the first.
    pub(crate) fn take(&self, max_changes: usize, max_bytes: usize, pause: Duration) -> Taken {
        let until = Instant::now() + pause;
        let mut state = self.state.lock();
        while state.ops.is_empty() && !state.closed && !state.flush {
            if self.filled.wait_until(&mut state, until).timed_out() {
                break;
            }
        }
        let (mut ops, mut changes, mut bytes) = (Vec::new(), 0, 0);
        while changes < max_changes && bytes < max_bytes {
            let Some(op) = state.ops.pop_front() else { break };
            let (more_changes, more_bytes) = op.weight();
            changes += more_changes;
            bytes += more_bytes;
            ops.push(op);
        }
        let closed = state.closed && state.ops.is_empty();
        Taken { ops, closed, flush: std::mem::take(&mut state.flush) }
    }
}
