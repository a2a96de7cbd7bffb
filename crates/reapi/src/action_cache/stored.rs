use bytes::{Buf, BufMut, Bytes, BytesMut};
use cache_types::{Digest, Hash, InstanceName};
use store::{RecordKey, RecordKind};

/// What stands for a size that is not known. No size is this large.
const UNKNOWN: u64 = u64::MAX;

/// What an action result is stored under. The URLs of the HTTP caches name an action by its hash alone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ActionName {
    pub(crate) instance: InstanceName,
    pub(crate) hash: Hash,
    pub(crate) size_bytes: Option<u64>,
}

impl ActionName {
    pub(crate) fn of(instance: InstanceName, action: &Digest) -> Self {
        Self { instance, hash: *action.hash(), size_bytes: Some(action.size_bytes()) }
    }

    /// Function and hash of the action, then the instance; the size is in the record. Spec: R-017.
    pub(super) fn key(&self) -> RecordKey {
        // The function's number tells the length of the hash, so no two keys are written alike.
        let mut key = BytesMut::new();
        key.put_u8(self.hash.function().number());
        key.put_slice(self.hash.as_bytes());
        key.put_slice(self.instance.as_str().as_bytes());
        RecordKey { kind: RecordKind::ActionResult, key: key.freeze() }
    }

    /// The record: the action's size, then the encoded result.
    pub(super) fn record(&self, encoded: &[u8]) -> Bytes {
        let mut record = BytesMut::with_capacity(8 + encoded.len());
        record.put_u64_le(self.size_bytes.unwrap_or(UNKNOWN));
        record.put_slice(encoded);
        record.freeze()
    }

    /// The encoded result in a record, as far as it is this action's. The size is part of a digest's truth wherever both
    /// sides know it. Spec: R-002.
    pub(super) fn result(&self, mut record: Bytes) -> Found {
        match record.try_get_u64_le() {
            Err(_) => Found::Malformed,
            Ok(UNKNOWN) => Found::Result(record),
            Ok(size) if self.size_bytes.is_none_or(|asked| asked == size) => Found::Result(record),
            Ok(_) => Found::OtherAction,
        }
    }
}

/// What a record holds for the action that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    Result(Bytes),
    /// The hash with another size.
    OtherAction,
    Malformed,
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn a_known_size_must_agree_and_an_unknown_one_fits_any() {
        let action = Digest::of(DigestFunction::Sha256, b"action");
        let known = ActionName::of(InstanceName::default(), &action);
        let other = ActionName { size_bytes: Some(5), ..known.clone() };
        let unknown = ActionName { size_bytes: None, ..known.clone() };
        assert_eq!(known.key(), unknown.key());
        let result = Bytes::from_static(b"result");
        for (writer, reader) in [(&known, &known), (&known, &unknown), (&unknown, &known), (&unknown, &unknown)] {
            assert_eq!(reader.result(writer.record(&result)), Found::Result(result.clone()));
        }
        assert_eq!(other.result(known.record(&result)), Found::OtherAction);
        assert_eq!(known.result(Bytes::from_static(b"short")), Found::Malformed);
    }
}
