use std::collections::HashSet;

use cache_types::{Digest, Hash};
use foldhash::fast::RandomState;
use store::StoreError;

use crate::engine::Engine;
use crate::failure::Failure;
use crate::index::Index;
use crate::key::{Class, Key};
use crate::removals::Moment;
use crate::row::{BlobRow, Life, Place, Queue};
use crate::touches::Touch;

/// So many digests are asked for in one hold of the gate.
const SLICE: usize = 1024;
/// A chunk may have been cut itself after it was listed; its chunks cannot, being small enough.
const MAX_DEPTH: usize = 4;

/// A look at the index for many blobs at once.
struct Look<'a> {
    index: &'a Index,
    /// Every row that presence rests on, with its life.
    relied_on: Vec<(Key, Life)>,
    /// The blobs among them that rest on no other row.
    plain: Vec<Digest>,
    /// Those that rest on their chunks.
    lists: Vec<Digest>,
}

impl<'a> Look<'a> {
    fn new(index: &'a Index) -> Self {
        Self { index, relied_on: Vec::new(), plain: Vec::new(), lists: Vec::new() }
    }

    /// Which of `digests` are here whole, in their order.
    fn presence(&mut self, digests: &[Digest], depth: usize) -> Result<Vec<bool>, Failure> {
        let keys: Vec<Key> = digests.iter().map(|digest| Key::blob(digest.hash())).collect();
        let rows = self.index.blobs(&keys)?;
        let mut here = Vec::with_capacity(digests.len());
        for ((digest, key), row) in digests.iter().zip(keys).zip(rows) {
            here.push(digest.is_empty() || self.is_here(digest, key, row, depth)?);
        }
        Ok(here)
    }

    fn is_here(&mut self, digest: &Digest, key: Key, row: Option<BlobRow>, depth: usize) -> Result<bool, Failure> {
        let Some(row) = row.filter(|row| row.size_bytes == digest.size_bytes()) else {
            return Ok(false);
        };
        if !matches!(row.place, Place::Chunks { .. }) {
            self.plain.push(*digest);
        } else if self.list_is_here(&key, depth)? {
            self.lists.push(*digest);
        } else {
            return Ok(false);
        }
        self.relied_on.push((key, row.life));
        Ok(true)
    }

    fn list_is_here(&mut self, key: &Key, depth: usize) -> Result<bool, Failure> {
        if depth == MAX_DEPTH {
            return Ok(false);
        }
        let Some(chunks) = self.index.list(key)? else {
            return Ok(false);
        };
        Ok(self.presence(&chunks, depth + 1)?.into_iter().all(|here| here))
    }
}

/// What is known of digests without a look at the index; those that are here and promised are in neither list.
pub(crate) struct Known {
    /// They are surely not here; each once.
    pub missing: Vec<Digest>,
    /// The index has to be asked for them.
    pub unknown: Vec<Digest>,
}

/// The digests, each once.
fn once(digests: &[Digest]) -> Vec<Digest> {
    let mut seen = HashSet::with_capacity_and_hasher(digests.len(), RandomState::default());
    digests.iter().filter(|digest| seen.insert(**digest)).copied().collect()
}

/// Whether every one of `chunks` is here. Nothing is promised by that.
pub(crate) fn all_here(index: &Index, chunks: &[Digest]) -> Result<bool, Failure> {
    let mut look = Look::new(index);
    Ok(look.presence(chunks, 0)?.into_iter().all(|here| here))
}

impl Engine {
    /// What is known of digests without a look at the index. Does not block.
    pub(crate) fn known(&self, digests: &[Digest]) -> Known {
        let mut unknown = self.promised.unknown(digests, self.period());
        unknown.retain(|digest| !digest.is_empty());
        let mut absent = self.absence.of(&unknown).into_iter();
        let mut missing: Vec<Digest> = Vec::new();
        unknown.retain(|digest| {
            let is_absent = absent.next().unwrap_or(false);
            if is_absent {
                missing.push(*digest);
            }
            !is_absent
        });
        Known { missing: once(&missing), unknown }
    }

    /// The digests that are not here, each once; the others are promised. Blocks.
    pub(crate) fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        let mut missing = Vec::new();
        for slice in once(digests).chunks(SLICE) {
            if self.touches.are_many() {
                self.barrier()?;
            }
            let here = self.promise(slice)?;
            missing.extend(slice.iter().zip(here).filter(|(_, here)| !here).map(|(digest, _)| *digest));
        }
        Ok(missing)
    }

    /// Which of `digests` are here; those are promised from now on. Blocks.
    pub(crate) fn promise(&self, digests: &[Digest]) -> Result<Vec<bool>, Failure> {
        let _gate = self.gate.read();
        let seen = self.promised.moment();
        let mut look = Look::new(&self.index);
        let here = look.presence(digests, 0)?;
        self.promise_found(look, seen);
        Ok(here)
    }

    /// The digest under which a hash is stored, promised to nobody. Blocks.
    pub(crate) fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError> {
        if *hash == hash.function().empty_hash() {
            return Ok(Some(Digest::empty(hash.function())));
        }
        let row = self.index.blob(&Key::blob(hash))?;
        // What was stored was stored under a digest, so its size fits one.
        Ok(row.and_then(|row| Digest::new(*hash, row.size_bytes).ok()))
    }

    /// The row of a blob that is here, promised from now on. Blocks.
    pub(crate) fn promise_row(&self, digest: &Digest, key: &Key) -> Result<Option<BlobRow>, Failure> {
        let _gate = self.gate.read();
        let seen = self.promised.moment();
        let mut look = Look::new(&self.index);
        let row = self.index.blob(key)?;
        if !look.is_here(digest, key.clone(), row.clone(), 0)? {
            return Ok(None);
        }
        self.promise_found(look, seen);
        Ok(row)
    }

    /// Touches what a look found and remembers it for the rest of the period. The caller holds the gate.
    fn promise_found(&self, look: Look<'_>, seen: Moment) {
        let period = self.period();
        self.touch_rows(look.relied_on, Touch::Promised);
        self.promised.note(look.plain, look.lists, period, seen);
    }

    /// The time that a promise made now is dated with.
    pub(crate) fn period(&self) -> u64 {
        self.ages.life(Class::Blob, Queue::Leased, self.now()).time_ms
    }

    /// Touches the rows that are not promised as of now yet. The caller holds the gate.
    pub(crate) fn touch_rows(&self, rows: Vec<(Key, Life)>, touch: Touch) {
        let now = self.now();
        let stale = rows.into_iter().filter(|(key, life)| !self.ages.is_current(key.class(), *life, touch, now));
        self.touch(stale.map(|(key, _)| (key, touch)));
    }

    /// Promises for long those of these records and blobs that are here. Blocks.
    pub(crate) fn promise_long(&self, records: &[Key], blobs: &[Digest]) -> Result<(), Failure> {
        for slice in blobs.chunks(SLICE) {
            let _gate = self.gate.read();
            let mut look = Look::new(&self.index);
            look.presence(slice, 0)?;
            self.touch_rows(look.relied_on, Touch::PromisedLong);
        }
        let _gate = self.gate.read();
        let mut rows = Vec::with_capacity(records.len());
        for key in records {
            rows.extend(self.index.record(key)?.map(|row| (key.clone(), row.life)));
        }
        self.touch_rows(rows, Touch::PromisedLong);
        Ok(())
    }
}
