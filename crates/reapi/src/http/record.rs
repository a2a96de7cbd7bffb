use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cache_types::{Digest, DigestFunction, Hash};
use http::{HeaderMap, HeaderName, HeaderValue};
use store::Provenance;

/// The most bytes of one header that is kept.
pub(super) const MAX_HEADER_BYTES: usize = 2048;

/// What is kept of a value beside its bytes, which are a blob.
///
/// Encoded: a mark u8, who wrote it and when, function u8, size u64, hash; then for each header: length of the name u16,
/// name, length of the value u16, value. Numbers are little-endian. A record from before that kept no writer: it begins with
/// the function, and after the hash has the time of the write in seconds u64.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValueRecord {
    pub(super) digest: Digest,
    pub(super) provenance: Provenance,
    /// Given back with the value.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

/// The mark at the start; no function has this number.
const SIGNED: u8 = 0x81;

impl ValueRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(SIGNED);
        self.provenance.encode(&mut out);
        out.put_u8(self.digest.function().number());
        out.put_u64_le(self.digest.size_bytes());
        out.put_slice(self.digest.hash().as_bytes());
        for (name, value) in &self.headers {
            put_short(&mut out, name.as_str().as_bytes());
            put_short(&mut out, value.as_bytes());
        }
        out.freeze()
    }

    /// `None` when the bytes are no record.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let signed = match bytes.split_first() {
            Some((&SIGNED, rest)) => {
                bytes = rest;
                Some(Provenance::decode(&mut bytes)?)
            }
            _ => None,
        };
        let function = DigestFunction::from_number(bytes.try_get_u8().ok()?)?;
        let size_bytes = bytes.try_get_u64_le().ok()?;
        let (raw, rest) = bytes.split_at_checked(function.hash_len())?;
        bytes = rest;
        let digest = Digest::new(Hash::from_bytes(function, raw)?, size_bytes).ok()?;
        let provenance = match signed {
            Some(provenance) => provenance,
            None => {
                let seconds = Duration::from_secs(bytes.try_get_u64_le().ok()?);
                Provenance::at("", SystemTime::UNIX_EPOCH.checked_add(seconds)?)
            }
        };
        let mut headers = Vec::new();
        while !bytes.is_empty() {
            let name = HeaderName::from_bytes(get_short(&mut bytes)?).ok()?;
            headers.push((name, HeaderValue::from_bytes(get_short(&mut bytes)?).ok()?));
        }
        Some(Self { digest, provenance, headers })
    }

    /// The headers that are given back.
    pub(super) fn header_map(&self) -> HeaderMap {
        self.headers.iter().cloned().collect()
    }
}

fn put_short(out: &mut BytesMut, bytes: &[u8]) {
    let len = u16::try_from(bytes.len()).expect("headers above MAX_HEADER_BYTES were refused");
    out.put_u16_le(len);
    out.put_slice(bytes);
}

fn get_short<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = bytes.try_get_u16_le().ok()?;
    let (short, rest) = bytes.split_at_checked(usize::from(len))?;
    *bytes = rest;
    Some(short)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_record_from_before_it_kept_its_writer_reads_still() {
        let digest = Digest::of(DigestFunction::Sha256, b"value");
        let old = [&[1][..], &5u64.to_le_bytes(), digest.hash().as_bytes(), &1_000_000u64.to_le_bytes()].concat();
        let record = ValueRecord::decode(&old).expect("a record");
        assert_eq!((record.digest, record.provenance.writer()), (digest, ""));
        assert_eq!(record.provenance.written(), SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000));
    }

    proptest! {
        #[test]
        fn records_read_back(
            data in proptest::collection::vec(any::<u8>(), 0..50),
            writer in "[a-z]{0,20}",
            ms in 0u64..1 << 50,
            headers in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,30}"), 0..4),
        ) {
            let headers = headers.into_iter().map(|(name, value)| {
                (name.parse().expect("a name"), value.parse().expect("a value"))
            });
            let record = ValueRecord {
                digest: Digest::of(DigestFunction::Sha256, &data),
                provenance: Provenance::at(&writer, SystemTime::UNIX_EPOCH + Duration::from_millis(ms)),
                headers: headers.collect(),
            };
            prop_assert_eq!(ValueRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let unsigned = [&[1], &bytes[..]].concat();
            let signed = [&[SIGNED, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], &bytes[..]].concat();
            for bytes in [&bytes, &unsigned, &signed] {
                if let Some(record) = ValueRecord::decode(bytes) {
                    prop_assert_eq!(ValueRecord::decode(&record.encode()), Some(record));
                }
            }
        }
    }
}
