//! Rows of the order of eviction, whose bytes sort by age, and records before blobs.
//!
//! A row is queue, time u64 big-endian, class, and what the class says. Classes 0 and 1 are one record or blob: its key
//! follows, and the row has no value. Class 2 is many blobs of one moment: a ULID follows, so that no two rows are the same,
//! and the value is the blobs' keys, each behind its length u8.

use ulid::Ulid;

use crate::key::{Class, Key};
use crate::row::{Life, Queue};

/// Queue, time and class before the key.
const HEAD_LEN: usize = 10;
/// The class of a row for many blobs.
const MANY: u8 = 2;
/// Blobs that one row names.
pub(crate) const MAX_LISTED: usize = 128;

/// What a row says: entries of one life.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listing {
    pub life: Life,
    /// One key, or those of many blobs.
    pub keys: Vec<Key>,
}

/// The key of a row, and what the row says.
pub(crate) type Row = (Box<[u8]>, Listing);

fn head(life: Life, class: u8, more: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEAD_LEN + more);
    bytes.push(life.queue as u8);
    bytes.extend_from_slice(&life.time_ms.to_be_bytes());
    bytes.push(class);
    bytes
}

/// The key of the row for one entry.
pub(crate) fn one(life: Life, key: &Key) -> Vec<u8> {
    let mut bytes = head(life, key.class() as u8, key.as_bytes().len());
    bytes.extend_from_slice(key.as_bytes());
    bytes
}

/// Key and value of a new row for many blobs.
pub(crate) fn many<'a>(life: Life, blobs: impl ExactSizeIterator<Item = &'a Key>) -> (Vec<u8>, Vec<u8>) {
    let mut row = head(life, MANY, 16);
    row.extend_from_slice(&Ulid::generate().to_bytes());
    let mut value = Vec::with_capacity(blobs.len() * 34);
    for key in blobs {
        value.push(u8::try_from(key.as_bytes().len()).expect("a blob's key has at most 65 bytes"));
        value.extend_from_slice(key.as_bytes());
    }
    (row, value)
}

/// What all keys of rows for many blobs of this life start with.
pub(crate) fn prefix_of_many(life: Life) -> Vec<u8> {
    head(life, MANY, 0)
}

impl Listing {
    /// Reads a row; `None` when it is something else.
    pub(crate) fn decode(row: &[u8], value: &[u8]) -> Option<Self> {
        let (head, rest) = row.split_at_checked(HEAD_LEN)?;
        let queue = Queue::from_number(*head.first()?)?;
        let time_ms = u64::from_be_bytes(head.get(1..9)?.try_into().ok()?);
        let keys = match head.get(9)? {
            0 => vec![Key::of_record(rest)],
            1 => vec![Key::of_blob(rest)],
            &MANY if rest.len() == 16 => blobs(value)?,
            _ => return None,
        };
        Some(Self { life: Life { queue, time_ms }, keys })
    }

    /// Of all of its entries.
    pub(crate) fn class(&self) -> Class {
        self.keys.first().map_or(Class::Blob, Key::class)
    }
}

fn blobs(mut value: &[u8]) -> Option<Vec<Key>> {
    let mut keys = Vec::with_capacity(value.len() / 34);
    while let Some((&len, rest)) = value.split_first() {
        let (key, rest) = rest.split_at_checked(usize::from(len))?;
        keys.push(Key::of_blob(key));
        value = rest;
    }
    Some(keys)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_read_back_and_sort_by_age(
            raw in proptest::collection::vec(any::<u8>(), 0..80), a in any::<u64>(), b in any::<u64>(), leased: bool, blob: bool,
        ) {
            let key = if blob { Key::of_blob(&raw) } else { Key::of_record(&raw) };
            let queue = if leased { Queue::Leased } else { Queue::Written };
            let (older, newer) = (Life { queue, time_ms: a.min(b) }, Life { queue, time_ms: a.max(b) });
            let listing = Listing { life: older, keys: vec![key.clone()] };
            prop_assert_eq!(Listing::decode(&one(older, &key), &[]), Some(listing));
            prop_assert!(one(older, &key) <= one(newer, &key));
        }

        #[test]
        fn rows_of_many_read_back_behind_those_of_one(
            raw in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..65), 1..40), time_ms in any::<u64>(),
        ) {
            let life = Life { queue: Queue::Written, time_ms };
            let keys: Vec<Key> = raw.iter().map(|raw| Key::of_blob(raw)).collect();
            let (row, value) = many(life, keys.iter());
            prop_assert!(row > one(life, &keys[0]));
            prop_assert!(row.starts_with(&prefix_of_many(life)));
            prop_assert_ne!(&row, &many(life, keys.iter()).0);
            prop_assert_eq!(Listing::decode(&row, &value), Some(Listing { life, keys }));
        }

        #[test]
        fn any_bytes_are_a_row_or_refused(mut row in proptest::collection::vec(any::<u8>(), 0..40), value in proptest::collection::vec(any::<u8>(), 0..100), class in 0u8..4) {
            if row.len() > 10 {
                (row[0], row[9]) = (row[0] % 3, class);
            }
            if let Some(listing) = Listing::decode(&row, &value) {
                if class == MANY && row.len() > 10 {
                    prop_assert_eq!(many(listing.life, listing.keys.iter()).1, value);
                } else {
                    prop_assert_eq!(one(listing.life, &listing.keys[0]), row);
                }
            }
        }
    }
}
