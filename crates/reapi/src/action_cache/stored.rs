use bytes::{Buf, BufMut, Bytes, BytesMut};
use cache_types::{Digest, DigestFunction, Hash, InstanceName};
use store::{Provenance, RecordKey, RecordKind};

/// What stands for a size that is not known. No size is this large.
const UNKNOWN: u64 = u64::MAX;

/// What a record begins with that says who wrote it; no size is this large. Records from before that begin with the size.
const SIGNED: u64 = u64::MAX - 1;

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
    pub(crate) fn key(&self) -> RecordKey {
        // The function's number tells the length of the hash, so no two keys are written alike.
        let mut key = BytesMut::new();
        key.put_u8(self.hash.function().number());
        key.put_slice(self.hash.as_bytes());
        key.put_slice(self.instance.as_str().as_bytes());
        RecordKey { kind: RecordKind::ActionResult, key: key.freeze() }
    }

    /// The record: a mark, who wrote it and when, the action's size, then the encoded result.
    pub(super) fn record(&self, encoded: &[u8], provenance: &Provenance) -> Bytes {
        let mut record = BytesMut::with_capacity(16 + provenance.encoded_len() + encoded.len());
        record.put_u64_le(SIGNED);
        provenance.encode(&mut record);
        record.put_u64_le(self.size_bytes.unwrap_or(UNKNOWN));
        record.put_slice(encoded);
        record.freeze()
    }

    /// The encoded result in a record, as far as it is this action's. The size is part of a digest's truth wherever both
    /// sides know it. Spec: R-002.
    pub(crate) fn result(&self, record: Bytes) -> Found {
        match StoredResult::parse(record) {
            None => Found::Malformed,
            Some(StoredResult { size_bytes: UNKNOWN, encoded, .. }) => Found::Result(encoded),
            Some(StoredResult { size_bytes, encoded, .. })
                if self.size_bytes.is_none_or(|asked| asked == size_bytes) =>
            {
                Found::Result(encoded)
            }
            Some(_) => Found::OtherAction,
        }
    }
}

/// The parts of a record.
struct StoredResult {
    /// `None` in records from before it was kept.
    provenance: Option<Provenance>,
    size_bytes: u64,
    encoded: Bytes,
}

impl StoredResult {
    fn parse(mut record: Bytes) -> Option<Self> {
        let first = record.try_get_u64_le().ok()?;
        if first != SIGNED {
            return Some(Self { provenance: None, size_bytes: first, encoded: record });
        }
        let provenance = Some(Provenance::decode(&mut record)?);
        let size_bytes = record.try_get_u64_le().ok()?;
        Some(Self { provenance, size_bytes, encoded: record })
    }
}

/// What the key of an action result names: function and hash of the action, and the instance; `None` when it is no such
/// key.
pub(crate) fn parse_key(mut key: &[u8]) -> Option<(Hash, InstanceName)> {
    let function = DigestFunction::from_number(key.try_get_u8().ok()?)?;
    let (raw, instance) = key.split_at_checked(function.hash_len())?;
    let instance = InstanceName::parse(std::str::from_utf8(instance).ok()?).ok()?;
    Some((Hash::from_bytes(function, raw)?, instance))
}

/// Who wrote a record of an action result, where it says so.
pub(crate) fn provenance(record: &Bytes) -> Option<Provenance> {
    StoredResult::parse(record.clone())?.provenance
}

/// What a record holds for the action that is asked for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Result(Bytes),
    /// The hash with another size.
    OtherAction,
    Malformed,
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use proptest::prelude::*;

    use super::*;

    fn written() -> Provenance {
        Provenance::at("ci", SystemTime::UNIX_EPOCH + Duration::from_millis(1_234_567))
    }

    #[test]
    fn a_known_size_must_agree_and_an_unknown_one_fits_any() {
        let action = Digest::of(DigestFunction::Sha256, b"action");
        let known = ActionName::of(InstanceName::default(), &action);
        let other = ActionName { size_bytes: Some(5), ..known.clone() };
        let unknown = ActionName { size_bytes: None, ..known.clone() };
        assert_eq!(known.key(), unknown.key());
        let result = Bytes::from_static(b"result");
        for (writer, reader) in [(&known, &known), (&known, &unknown), (&unknown, &known), (&unknown, &unknown)] {
            assert_eq!(reader.result(writer.record(&result, &written())), Found::Result(result.clone()));
        }
        assert_eq!(other.result(known.record(&result, &written())), Found::OtherAction);
        assert_eq!(known.result(Bytes::from_static(b"short")), Found::Malformed);
    }

    #[test]
    fn a_record_says_who_wrote_it_and_older_ones_read_still() {
        let action = Digest::of(DigestFunction::Blake3, b"action");
        let name = ActionName::of(InstanceName::parse("team/a").expect("a name"), &action);
        let record = name.record(b"result", &written());
        assert_eq!(provenance(&record), Some(written()));
        assert_eq!(parse_key(&name.key().key), Some((name.hash, name.instance.clone())));
        for size in [action.size_bytes(), UNKNOWN] {
            let old: Bytes = [&size.to_le_bytes()[..], b"result"].concat().into();
            assert_eq!(name.result(old.clone()), Found::Result(Bytes::from_static(b"result")));
            assert_eq!(provenance(&old), None);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_record_or_refused(mut bytes in proptest::collection::vec(any::<u8>(), 0..100), signed: bool) {
            if signed && bytes.len() >= 8 {
                bytes[..8].copy_from_slice(&SIGNED.to_le_bytes());
            }
            let name = ActionName { size_bytes: None, ..ActionName::of(InstanceName::default(), &Digest::of(DigestFunction::Sha256, b"")) };
            if let Found::Result(encoded) = name.result(bytes.clone().into()) {
                prop_assert!(bytes.ends_with(&encoded));
            }
            parse_key(&bytes);
        }
    }
}
