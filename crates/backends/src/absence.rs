use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use cache_types::Digest;
use foldhash::quality::RandomState;
use parking_lot::{Condvar, Mutex, RwLock};

use crate::engine::Engine;
use crate::failure::Failure;
use crate::key::Key;

/// Bits for each key when a filter is full; a new one has half as many again. One question in a thousand is then answered
/// with "perhaps" though the key is not here.
const BITS_PER_KEY: usize = 16;
/// Places of the smallest filter.
const MIN_PLACES: usize = 32 * 1024;
/// Words of one block, which is a line of the processor's cache.
const BLOCK_WORDS: usize = 8;
/// Bits that stand for one key, all in one block.
const BITS: u32 = 7;
/// So many rows are read between looks at whether the store is closing.
const ROWS_BETWEEN_LOOKS: usize = 1024;

/// Says of a blob or a record that it is surely not here, without a look at the index.
///
/// It knows every key that has a row, and some that had one: what it does not know has none. Until the index has been gone
/// through after a start it knows nothing, and says so.
#[derive(Default)]
pub(crate) struct Absence {
    seeds: [RandomState; 2],
    filters: RwLock<Filters>,
    call: Mutex<Call>,
    called: Condvar,
}

#[derive(Default)]
struct Filters {
    /// Holds every key.
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
        let is_absent = |digest: &Digest| {
            filters.whole.as_ref().is_some_and(|filter| !filter.has(of_hash(digest.hash().as_bytes())))
        };
        digests.into_iter().map(is_absent).collect()
    }

    /// Whether the key surely has no row.
    pub(crate) fn denies(&self, key: &Key) -> bool {
        let filters = self.filters.read();
        filters.whole.as_ref().is_some_and(|filter| !filter.has(self.mark(key)))
    }

    /// What stands for a key in filters. A hash is as good as random: its bytes are used as they are.
    fn mark(&self, key: &Key) -> Mark {
        match key.raw_hash() {
            Some(hash) => of_hash(hash),
            None => self.seeds.each_ref().map(|seed| seed.hash_one(key.as_bytes())),
        }
    }

    /// Notes a key that is about to have a row. On the committer's thread.
    pub(crate) fn note(&self, key: &Key) {
        let mark = self.mark(key);
        let filters = self.filters.read();
        for filter in [&filters.whole, &filters.next].into_iter().flatten() {
            filter.add(mark);
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
                tracing::warn!(%error, "cannot go through the index; what is absent is looked up in it");
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
            let totals = *engine.totals.lock();
            let keys = usize::try_from(totals.blobs.saturating_add(totals.records)).unwrap_or(usize::MAX);
            self.filters.write().next = Some(Filter::new(keys.saturating_add(keys / 2).max(MIN_PLACES)));
            engine.index.listed()
        })?;
        for (count, key) in listed.enumerate() {
            let mark = self.mark(&key?);
            if let Some(next) = &self.filters.read().next {
                next.add(mark);
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

/// Two numbers as good as random: one says which block, the other which bits of it.
type Mark = [u64; 2];

fn of_hash(hash: &[u8]) -> Mark {
    let number = |bytes: Option<&[u8]>| bytes.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    [number(hash.get(..8)), number(hash.get(8..16))]
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
        let blocks = places.saturating_mul(BITS_PER_KEY).div_ceil(BLOCK_WORDS * 64);
        Self { blocks: (0..blocks).map(|_| Block::default()).collect(), places, used: AtomicUsize::new(0) }
    }

    /// The block of a key, and the words and masks of its bits there.
    fn bits(&self, [first, second]: Mark) -> Option<(&Block, impl Iterator<Item = (usize, u64)>)> {
        let at = (u128::from(first) * self.blocks.len() as u128) >> 64;
        let block = self.blocks.get(usize::try_from(at).ok()?)?;
        let bits = (0..BITS).map(move |number| second >> (number * 9));
        Some((block, bits.map(|bits| ((bits & 7) as usize, 1 << (bits >> 3 & 63)))))
    }

    fn add(&self, mark: Mark) {
        let Some((block, bits)) = self.bits(mark) else { return };
        let mut is_new = false;
        for (word, mask) in bits {
            is_new |= block.0[word].fetch_or(mask, Ordering::Relaxed) & mask == 0;
        }
        if is_new {
            self.used.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn has(&self, mark: Mark) -> bool {
        self.bits(mark)
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
        let absence = Absence::default();
        let blob = |number: u32| absence.mark(&Key::blob(&DigestFunction::Sha256.hash(&number.to_le_bytes())));
        let record = |number: u32| absence.mark(&Key::of_record(&number.to_le_bytes()));
        for mark in [&blob as &dyn Fn(u32) -> Mark, &record] {
            let filter = Filter::new(20_000);
            (0..20_000).for_each(|number| filter.add(mark(number)));
            assert!((0..20_000).all(|number| filter.has(mark(number))));
            let wrong = (20_000..120_000).filter(|number| filter.has(mark(*number))).count();
            assert!(wrong < 300, "{wrong} of 100,000");
            assert!(!filter.is_full());
            (20_000..20_200).for_each(|number| filter.add(mark(number)));
            assert!(filter.is_full());
        }
    }
}
