use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cache_types::Digest;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::key::Key;

/// Bits for each blob when a filter is full; a new one has half as many again. One question in a thousand is then answered
/// with "perhaps" though the blob is not here.
const BITS_PER_BLOB: usize = 16;
/// Places of the smallest filter.
const MIN_PLACES: usize = 32 * 1024;
/// Words of one block, which is a line of the processor's cache.
const BLOCK_WORDS: usize = 8;
/// Bits that stand for one blob, all in one block.
const BITS: u32 = 7;
/// So many rows are read between looks at whether the store is closing.
const ROWS_BETWEEN_LOOKS: usize = 1024;

/// Says of a blob that it is surely not here, without a look at the index.
///
/// It knows every blob that has a row, and some that had one: what it does not know has none. Until the index has been gone
/// through after a start it knows nothing, and says so.
#[derive(Default)]
pub(crate) struct Absence {
    filters: RwLock<Filters>,
    call: Mutex<Call>,
    called: Condvar,
}

#[derive(Default)]
struct Filters {
    /// Holds every blob.
    whole: Option<Filter>,
    /// Takes its place once it does.
    next: Option<Filter>,
}

#[derive(Default)]
struct Call {
    is_wanted: bool,
    is_over: bool,
}

impl Absence {
    /// Whether each of the digests is surely not here.
    pub(crate) fn of<'a>(&self, digests: impl IntoIterator<Item = &'a Digest>) -> Vec<bool> {
        let filters = self.filters.read();
        let is_absent =
            |digest: &Digest| filters.whole.as_ref().is_some_and(|filter| !filter.has(digest.hash().as_bytes()));
        digests.into_iter().map(is_absent).collect()
    }

    /// Notes a blob that is about to have a row. On the committer's thread.
    pub(crate) fn note(&self, key: &Key) {
        let Some(hash) = key.raw_hash() else { return };
        let filters = self.filters.read();
        for filter in [&filters.whole, &filters.next].into_iter().flatten() {
            filter.add(hash);
        }
        if filters.next.is_none() && filters.whole.as_ref().is_some_and(Filter::is_full) {
            self.ask();
        }
    }

    fn ask(&self) {
        self.call.lock().is_wanted = true;
        self.called.notify_one();
    }

    /// Has [`Absence::keep`] return.
    pub(crate) fn close(&self) {
        self.call.lock().is_over = true;
        self.called.notify_one();
    }

    /// Makes the filter, and a larger one whenever it is full, until the store closes. On a thread of its own.
    pub(crate) fn keep(&self, engine: &Engine) {
        loop {
            if let Err(error) = self.make(engine) {
                self.filters.write().next = None;
                if matches!(error, Failure::Closed) {
                    return;
                }
                tracing::warn!(%error, "cannot go through the index; absent blobs are looked up in it");
            }
            let mut call = self.call.lock();
            while !call.is_wanted && !call.is_over {
                self.called.wait(&mut call);
            }
            call.is_wanted = false;
            if call.is_over {
                return;
            }
        }
    }

    fn make(&self, engine: &Engine) -> Result<(), Failure> {
        // What the committer does after the list was begun, it notes in the new filter too.
        let listed = engine.while_paused(|| {
            let blobs = usize::try_from(engine.totals.lock().blobs).unwrap_or(usize::MAX);
            self.filters.write().next = Some(Filter::new(blobs.saturating_add(blobs / 2).max(MIN_PLACES)));
            engine.index.listed()
        })?;
        for (count, key) in listed.enumerate() {
            if let (Some(hash), Some(next)) = (key?.raw_hash(), &self.filters.read().next) {
                next.add(hash);
            }
            if count % ROWS_BETWEEN_LOOKS == 0 && self.call.lock().is_over {
                return Err(Failure::Closed);
            }
        }
        let filters = &mut *self.filters.write();
        filters.whole = filters.next.take();
        Ok(())
    }
}

/// A Bloom filter in blocks: what was added is never denied.
struct Filter {
    blocks: Box<[Block]>,
    places: usize,
    used: AtomicUsize,
}

#[derive(Default)]
#[repr(align(64))]
struct Block([AtomicU64; BLOCK_WORDS]);

impl Filter {
    fn new(places: usize) -> Self {
        let blocks = places.saturating_mul(BITS_PER_BLOB).div_ceil(BLOCK_WORDS * 64);
        Self { blocks: (0..blocks).map(|_| Block::default()).collect(), places, used: AtomicUsize::new(0) }
    }

    /// The block of a hash, and the words and masks of its bits there. A hash is as good as random: its bytes are used as
    /// they are.
    fn bits(&self, hash: &[u8]) -> Option<(&Block, impl Iterator<Item = (usize, u64)>)> {
        let (first, rest) = hash.split_first_chunk::<8>()?;
        let second = u64::from_le_bytes(*rest.first_chunk::<8>()?);
        let at = (u128::from(u64::from_le_bytes(*first)) * self.blocks.len() as u128) >> 64;
        let block = self.blocks.get(usize::try_from(at).ok()?)?;
        let bits = (0..BITS).map(move |number| second >> (number * 9));
        Some((block, bits.map(|bits| ((bits & 7) as usize, 1 << (bits >> 3 & 63)))))
    }

    fn add(&self, hash: &[u8]) {
        let Some((block, bits)) = self.bits(hash) else { return };
        let mut is_new = false;
        for (word, mask) in bits {
            is_new |= block.0[word].fetch_or(mask, Ordering::Relaxed) & mask == 0;
        }
        if is_new {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has(&self, hash: &[u8]) -> bool {
        self.bits(hash)
            .is_none_or(|(block, mut bits)| bits.all(|(word, mask)| block.0[word].load(Ordering::Relaxed) & mask != 0))
    }

    fn is_full(&self) -> bool {
        self.used.load(Ordering::Relaxed) > self.places
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn what_was_added_is_there_and_little_else_seems_so() {
        let hash = |number: u32| DigestFunction::Sha256.hash(&number.to_le_bytes());
        let filter = Filter::new(20_000);
        (0..20_000).for_each(|number| filter.add(hash(number).as_bytes()));
        assert!((0..20_000).all(|number| filter.has(hash(number).as_bytes())));
        let wrong = (20_000..120_000).filter(|number| filter.has(hash(*number).as_bytes())).count();
        assert!(wrong < 300, "{wrong} of 100,000");
        assert!(!filter.is_full());
        (20_000..20_200).for_each(|number| filter.add(hash(number).as_bytes()));
        assert!(filter.is_full());
    }
}
