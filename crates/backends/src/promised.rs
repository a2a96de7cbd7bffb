use std::collections::HashMap;

use cache_types::{Digest, Hash};
use foldhash::fast::RandomState;
use parking_lot::RwLock;

use crate::key::Key;
use crate::removals::{Moment, Removals};

/// So many promises are known at once; what comes beyond is looked up in the index each time. 28 bytes each: the table has a
/// power of two of places, seven eighths of them in use.
const MAX_KNOWN: usize = 224 * 1024;
/// The same for chunk lists, which are large blobs and fewer.
const MAX_KNOWN_LISTS: usize = 14 * 1024;

/// Blobs that were found and promised in the present period of the lease, so that the next question for them needs neither
/// index nor touch.
///
/// An entry exists only while its row does; see [`Removals`]. Chunk lists are apart, since their chunks can be dropped
/// without them: they are known only as long as no blob at all is dropped.
#[derive(Default)]
pub(crate) struct Promised {
    state: RwLock<State>,
}

#[derive(Default)]
struct State {
    removals: Removals,
    period: u64,
    /// Half of the hash → size in bytes.
    known: HashMap<Half, u64, RandomState>,
    /// The same for chunk lists.
    lists: HashMap<Half, u64, RandomState>,
}

/// Enough of a hash to tell it from every other, in a quarter of the memory: a second blob with the same half, the same
/// function and the same size does not come about by chance, and who makes a pair on purpose misleads himself alone.
type Half = [u8; 16];

fn half(hash: &Hash) -> Half {
    let mut half = [0; 16];
    half.iter_mut().zip(hash.as_bytes()).for_each(|(to, from)| *to = *from);
    // Two functions may give one hash.
    half[15] ^= hash.function().number();
    half
}

impl Promised {
    pub(crate) fn moment(&self) -> Moment {
        self.state.read().removals.moment()
    }

    /// Those of `digests` that are not known to be promised in this period.
    pub(crate) fn unknown(&self, digests: &[Digest], period: u64) -> Vec<Digest> {
        let state = self.state.read();
        if state.period != period {
            return digests.to_vec();
        }
        digests
            .iter()
            .filter(|digest| {
                let half = half(digest.hash());
                let size_bytes = state.known.get(&half).or_else(|| state.lists.get(&half));
                size_bytes != Some(&digest.size_bytes())
            })
            .copied()
            .collect()
    }

    /// Notes blobs whose rows were read after `seen` and that are promised for this period.
    pub(crate) fn note(
        &self,
        digests: impl IntoIterator<Item = Digest>,
        lists: impl IntoIterator<Item = Digest>,
        period: u64,
        seen: Moment,
    ) {
        let mut state = self.state.write();
        if state.removals.any_since(seen) || state.period > period {
            return;
        }
        if state.period < period {
            state.period = period;
            state.known.clear();
            state.lists.clear();
        }
        for list in lists {
            if state.lists.len() < MAX_KNOWN_LISTS {
                state.lists.insert(half(list.hash()), list.size_bytes());
            }
        }
        for digest in digests {
            if state.known.len() == MAX_KNOWN {
                return;
            }
            state.known.insert(half(digest.hash()), digest.size_bytes());
        }
    }

    /// Forgets the blobs of these rows.
    pub(crate) fn forget<'a>(&self, keys: impl IntoIterator<Item = &'a Key>) {
        let mut hashes = keys.into_iter().filter_map(Key::blob_hash).peekable();
        if hashes.peek().is_none() {
            return;
        }
        let mut state = self.state.write();
        state.removals.note();
        state.lists.clear();
        for hash in hashes {
            state.known.remove(&half(&hash));
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn a_promise_is_known_for_its_period_and_while_its_row_is_there() {
        let [one, two] = [b"one", b"two"].map(|data| Digest::of(DigestFunction::Sha256, data));
        let promised = Promised::default();
        promised.note([one, two], [], 7, promised.moment());
        assert!(promised.unknown(&[one, two], 7).is_empty());
        assert_eq!(promised.unknown(&[one], 8), [one]);
        let other_size = Digest::new(*one.hash(), 4).expect("a size");
        assert_eq!(promised.unknown(&[other_size], 7), [other_size]);

        let seen = promised.moment();
        promised.forget([&Key::blob(one.hash())]);
        assert_eq!(promised.unknown(&[one, two], 7), [one]);
        promised.note([one], [], 7, seen);
        assert_eq!(promised.unknown(&[one], 7), [one], "a late reader brings nothing back");

        promised.note([one], [], 8, promised.moment());
        assert_eq!(promised.unknown(&[one, two], 8), [two], "a new period starts empty");
        promised.note([two], [], 7, promised.moment());
        assert_eq!(promised.unknown(&[two], 7), [two], "an old one does not come back");

        let list = Digest::of(DigestFunction::Sha256, b"list");
        promised.note([two], [list], 8, promised.moment());
        assert!(promised.unknown(&[one, two, list], 8).is_empty());
        promised.forget([&Key::blob(one.hash())]);
        assert_eq!(promised.unknown(&[two, list], 8), [list], "it may have been one of its chunks");
    }
}
