use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use cache_types::{Digest, DigestFunction, Hash};
use http::{HeaderMap, HeaderName, HeaderValue};

/// The most bytes of one header that is kept.
pub(super) const MAX_HEADER_BYTES: usize = 2048;

/// What is kept of a value beside its bytes, which are a blob.
///
/// Encoded: function u8, size u64, hash, time of the write in seconds u64; then for each header: length of the name u16,
/// name, length of the value u16, value. Numbers are little-endian.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ValueRecord {
    pub(super) digest: Digest,
    pub(super) written: SystemTime,
    /// Given back with the value.
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
}

impl ValueRecord {
    pub(super) fn encode(&self) -> Bytes {
        let mut out = BytesMut::new();
        out.put_u8(self.digest.function().number());
        out.put_u64_le(self.digest.size_bytes());
        out.put_slice(self.digest.hash().as_bytes());
        out.put_u64_le(self.written.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |age| age.as_secs()));
        for (name, value) in &self.headers {
            put_short(&mut out, name.as_str().as_bytes());
            put_short(&mut out, value.as_bytes());
        }
        out.freeze()
    }

    /// `None` when the bytes are no record.
    pub(super) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let function = DigestFunction::from_number(bytes.try_get_u8().ok()?)?;
        let size_bytes = bytes.try_get_u64_le().ok()?;
        let (raw, rest) = bytes.split_at_checked(function.hash_len())?;
        bytes = rest;
        let digest = Digest::new(Hash::from_bytes(function, raw)?, size_bytes).ok()?;
        let seconds = Duration::from_secs(bytes.try_get_u64_le().ok()?);
        let written = SystemTime::UNIX_EPOCH.checked_add(seconds)?;
        let mut headers = Vec::new();
        while !bytes.is_empty() {
            let name = HeaderName::from_bytes(get_short(&mut bytes)?).ok()?;
            headers.push((name, HeaderValue::from_bytes(get_short(&mut bytes)?).ok()?));
        }
        Some(Self { digest, written, headers })
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

    proptest! {
        #[test]
        fn records_read_back(
            data in proptest::collection::vec(any::<u8>(), 0..50),
            seconds in 0u64..1 << 40,
            headers in proptest::collection::vec(("[a-z-]{1,20}", "[ -~]{0,30}"), 0..4),
        ) {
            let headers = headers.into_iter().map(|(name, value)| {
                (name.parse().expect("a name"), value.parse().expect("a value"))
            });
            let record = ValueRecord {
                digest: Digest::of(DigestFunction::Sha256, &data),
                written: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds),
                headers: headers.collect(),
            };
            prop_assert_eq!(ValueRecord::decode(&record.encode()), Some(record));
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut tagged = vec![1];
            tagged.extend_from_slice(&bytes);
            for bytes in [&bytes, &tagged] {
                if let Some(record) = ValueRecord::decode(bytes) {
                    prop_assert_eq!(ValueRecord::decode(&record.encode()), Some(record));
                }
            }
        }
    }
}
