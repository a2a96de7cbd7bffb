use std::time::{Duration, SystemTime};

use bytes::{Buf, BufMut, Bytes, BytesMut};

/// The longest name that is kept, in bytes.
const MAX_WRITER_BYTES: usize = 255;

/// What a value begins with that has a provenance in front. No JSON begins so.
const MARK: u8 = 1;

/// Who wrote a record, and when.
///
/// Encoded: time in milliseconds since 1970 u64 little-endian, length of the name u8, name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Provenance {
    writer: Box<str>,
    written_ms: u64,
}

impl Provenance {
    /// By this writer, now. Of a name over 255 bytes the beginning is kept.
    pub fn now(writer: &str) -> Self {
        Self::at(writer, SystemTime::now())
    }

    /// By this writer, at this time.
    pub fn at(writer: &str, written: SystemTime) -> Self {
        let end = (0..=writer.len().min(MAX_WRITER_BYTES)).rev().find(|end| writer.is_char_boundary(*end)).unwrap_or(0);
        let age = written.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        Self { writer: writer[..end].into(), written_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX) }
    }

    /// The name of the caller who wrote it.
    pub fn writer(&self) -> &str {
        &self.writer
    }

    /// When it was written, to the millisecond.
    pub fn written(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(self.written_ms)).unwrap_or(SystemTime::UNIX_EPOCH)
    }

    /// The length of its encoding.
    pub fn encoded_len(&self) -> usize {
        9 + self.writer.len()
    }

    /// Appends its encoding.
    pub fn encode(&self, out: &mut impl BufMut) {
        out.put_u64_le(self.written_ms);
        out.put_u8(u8::try_from(self.writer.len()).expect("cut to 255 bytes when it was made"));
        out.put_slice(self.writer.as_bytes());
    }

    /// The value with this in front, so that [`Provenance::split`] tells it from one that has none.
    pub fn before(&self, value: &[u8]) -> Bytes {
        let mut out = BytesMut::with_capacity(1 + self.encoded_len() + value.len());
        out.put_u8(MARK);
        self.encode(&mut out);
        out.put_slice(value);
        out.freeze()
    }

    /// What [`Provenance::before`] put together, apart again; a value without a provenance in front is itself.
    pub fn split(bytes: &[u8]) -> (Option<Self>, &[u8]) {
        let Some((&MARK, mut rest)) = bytes.split_first() else {
            return (None, bytes);
        };
        match Self::decode(&mut rest) {
            Some(provenance) => (Some(provenance), rest),
            None => (None, bytes),
        }
    }

    /// Takes an encoding off the front; `None` when there is none.
    pub fn decode(bytes: &mut impl Buf) -> Option<Self> {
        let written_ms = bytes.try_get_u64_le().ok()?;
        let mut writer = vec![0; usize::from(bytes.try_get_u8().ok()?)];
        bytes.try_copy_to_slice(&mut writer).ok()?;
        Some(Self { writer: String::from_utf8(writer).ok()?.into(), written_ms })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_reads_back(writer in "\\PC{0,300}", ms in 0u64..1 << 50, rest in proptest::collection::vec(any::<u8>(), 0..20)) {
            let written = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
            let provenance = Provenance::at(&writer, written);
            prop_assert!(writer.starts_with(provenance.writer()) && writer.len().min(252) <= provenance.writer().len());
            prop_assert_eq!(provenance.written(), written);
            let mut bytes = Vec::new();
            provenance.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), provenance.encoded_len());
            bytes.extend_from_slice(&rest);
            let mut left = bytes.as_slice();
            prop_assert_eq!(Provenance::decode(&mut left), Some(provenance));
            prop_assert_eq!(left, &rest[..]);
            let provenance = Provenance::at(&writer, written);
            let together = provenance.before(&rest);
            prop_assert_eq!(Provenance::split(&together), (Some(provenance), &rest[..]));
            prop_assert_eq!(Provenance::split(b"{}"), (None, &b"{}"[..]));
        }

        #[test]
        fn any_bytes_are_one_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut left = bytes.as_slice();
            if let Some(provenance) = Provenance::decode(&mut left) {
                let mut again = Vec::new();
                provenance.encode(&mut again);
                prop_assert!(bytes.starts_with(&again) && again.len() + left.len() == bytes.len());
            }
        }
    }
}
