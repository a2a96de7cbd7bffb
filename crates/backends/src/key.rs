use std::sync::Arc;

use bytes::Bytes;
use cache_types::{DigestFunction, Hash};
use store::{RecordKey, RecordKind};

/// A function number and the longest hash.
pub(crate) const MAX_BLOB_KEY_LEN: usize = 65;

/// What a key names; its number orders eviction at one moment: records go before the blobs they name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Class {
    Record = 0,
    Blob = 1,
}

/// The key of a row, with its family.
///
/// On disk: a blob's key is the number of its digest function and the raw hash; a record's is the number of its kind and
/// its own key.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Key {
    class: Class,
    bytes: Arc<[u8]>,
}

impl Key {
    pub(crate) fn blob(hash: &Hash) -> Self {
        let raw = hash.as_bytes();
        let mut bytes = [0; MAX_BLOB_KEY_LEN];
        bytes[0] = hash.function().number();
        bytes[1..=raw.len()].copy_from_slice(raw);
        Self { class: Class::Blob, bytes: bytes[..=raw.len()].into() }
    }

    pub(crate) fn record(key: &RecordKey) -> Self {
        let mut bytes = Vec::with_capacity(1 + key.key.len());
        bytes.push(key.kind as u8);
        bytes.extend_from_slice(&key.key);
        Self { class: Class::Record, bytes: bytes.into() }
    }

    /// The key of a record as its row has it.
    pub(crate) fn of_record(bytes: &[u8]) -> Self {
        Self { class: Class::Record, bytes: bytes.into() }
    }

    /// The key of a blob as its row has it.
    pub(crate) fn of_blob(bytes: &[u8]) -> Self {
        Self { class: Class::Blob, bytes: bytes.into() }
    }

    /// The record that it names; `None` for a blob's key, and for a kind that is not known.
    pub(crate) fn record_key(&self) -> Option<RecordKey> {
        let (&number, key) = self.bytes.split_first().filter(|_| self.class == Class::Record)?;
        Some(RecordKey { kind: RecordKind::from_number(number)?, key: Bytes::copy_from_slice(key) })
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The hash of the blob that it names; `None` for a record's key.
    pub(crate) fn blob_hash(&self) -> Option<Hash> {
        let (&number, raw) = self.bytes.split_first().filter(|_| self.class == Class::Blob)?;
        Hash::from_bytes(DigestFunction::from_number(number)?, raw)
    }

    /// The bytes of that hash.
    pub(crate) fn raw_hash(&self) -> Option<&[u8]> {
        (self.class == Class::Blob).then(|| self.bytes.get(1..)).flatten()
    }

    /// The blob's key in these bytes; `None` when they are none.
    pub(crate) fn parse_blob(bytes: &[u8]) -> Option<Self> {
        let (&number, raw) = bytes.split_first()?;
        let hash = Hash::from_bytes(DigestFunction::from_number(number)?, raw)?;
        Some(Self::blob(&hash))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_bytes_are_a_key_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            if let Some(key) = Key::parse_blob(&bytes) {
                prop_assert_eq!(key.as_bytes(), &bytes[..]);
            }
        }
    }
}
