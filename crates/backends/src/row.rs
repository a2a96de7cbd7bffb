//! The encoding of index rows. All numbers are little-endian.
//!
//! | family | key | value |
//! |---|---|---|
//! | `blob` | function, hash | tag, queue, time u64, size u64, then by tag: inline: crc u32, bytes; pack: segment 16, offset u64, stored length u32, crc u32, zstd u8; file: segment 16, file length u64, table crc u32; chunks: count u32 |
//! | `list` | as `blob` | per chunk: function, size u64, hash |
//! | `record` | kind, key | crc u32, queue, time u64, value |
//! | `lru` | see `listing` | |
//! | `seg` | segment kind, segment 16 | live u64 |
//! | `meta` | name | `format`, `totals`, `clean` |

use bytes::{Buf, BufMut, Bytes};
use cache_types::{Digest, DigestFunction, Hash};
use store::LONG_PROMISE;
use ulid::Ulid;

/// How much later what was promised for long leaves.
const LONG_MS: u64 = LONG_PROMISE.as_secs() * 1000;

/// Which of the eviction queues a row is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Queue {
    /// Stored, and promised to nobody.
    Written = 0,
    /// Promised: it stays for the lease.
    Leased = 1,
    /// Promised for long: it stays for the lease, and then goes after what was used as much later as that.
    Kept = 2,
}

impl Queue {
    /// Every queue.
    pub(crate) const ALL: [Self; 3] = [Self::Written, Self::Leased, Self::Kept];

    pub(crate) fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Written),
            1 => Some(Self::Leased),
            2 => Some(Self::Kept),
            _ => None,
        }
    }
}

/// A row's place in the order of eviction. The time is in milliseconds since 1970; how exact it is depends on the
/// queue, see [`crate::touches::Ages`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Life {
    pub queue: Queue,
    pub time_ms: u64,
}

impl Life {
    /// Its time in the order that all queues together leave in.
    pub(crate) fn order_ms(self) -> u64 {
        match self.queue {
            Queue::Written | Queue::Leased => self.time_ms,
            Queue::Kept => self.time_ms.saturating_add(LONG_MS),
        }
    }
}

/// Where a pack holds a blob: one frame, behind its header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PackPlace {
    pub segment: Ulid,
    /// Of the frame, not of its header.
    pub offset: u64,
    pub stored_len: u32,
    pub crc: u32,
    pub zstd: bool,
}

/// A file that holds one blob.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FilePlace {
    pub segment: Ulid,
    pub file_len: u64,
    pub table_crc: u32,
}

/// Where a blob's bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Inline {
        crc: u32,
        bytes: Bytes,
    },
    Pack(PackPlace),
    File(FilePlace),
    /// The list is a row of its own, so that a touch does not rewrite it.
    Chunks {
        count: u32,
    },
}

/// The row of a blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BlobRow {
    pub life: Life,
    pub size_bytes: u64,
    pub place: Place,
}

impl BlobRow {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let inline = if let Place::Inline { bytes, .. } = &self.place { bytes.len() } else { 0 };
        let mut out = Vec::with_capacity(64 + inline);
        let tag = match self.place {
            Place::Inline { .. } => 0,
            Place::Pack(_) => 1,
            Place::File(_) => 2,
            Place::Chunks { .. } => 3,
        };
        out.put_u8(tag);
        out.put_u8(self.life.queue as u8);
        out.put_u64_le(self.life.time_ms);
        out.put_u64_le(self.size_bytes);
        match &self.place {
            Place::Inline { crc, bytes } => {
                out.put_u32_le(*crc);
                out.put_slice(bytes);
            }
            Place::Pack(pack) => {
                out.put_slice(&pack.segment.to_bytes());
                out.put_u64_le(pack.offset);
                out.put_u32_le(pack.stored_len);
                out.put_u32_le(pack.crc);
                out.put_u8(u8::from(pack.zstd));
            }
            Place::File(file) => {
                out.put_slice(&file.segment.to_bytes());
                out.put_u64_le(file.file_len);
                out.put_u32_le(file.table_crc);
            }
            Place::Chunks { count } => out.put_u32_le(*count),
        }
        out
    }

    /// `None` when the bytes are no row.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let tag = bytes.try_get_u8().ok()?;
        let queue = Queue::from_number(bytes.try_get_u8().ok()?)?;
        let time_ms = bytes.try_get_u64_le().ok()?;
        let size_bytes = bytes.try_get_u64_le().ok()?;
        let place = match tag {
            0 => Place::Inline { crc: bytes.try_get_u32_le().ok()?, bytes: Bytes::copy_from_slice(bytes) },
            1 => Place::Pack(decode_pack(bytes)?),
            2 => Place::File(decode_file(bytes)?),
            3 if bytes.len() == 4 => Place::Chunks { count: bytes.get_u32_le() },
            _ => return None,
        };
        Some(Self { life: Life { queue, time_ms }, size_bytes, place })
    }
}

fn segment(bytes: &mut &[u8]) -> Option<Ulid> {
    let (raw, rest) = bytes.split_first_chunk::<16>()?;
    *bytes = rest;
    Some(Ulid::from_bytes(*raw))
}

fn decode_pack(mut bytes: &[u8]) -> Option<PackPlace> {
    let segment = segment(&mut bytes)?;
    if bytes.len() != 17 {
        return None;
    }
    let (offset, stored_len, crc) = (bytes.get_u64_le(), bytes.get_u32_le(), bytes.get_u32_le());
    let zstd = match bytes.get_u8() {
        0 => false,
        1 => true,
        _ => return None,
    };
    Some(PackPlace { segment, offset, stored_len, crc, zstd })
}

fn decode_file(mut bytes: &[u8]) -> Option<FilePlace> {
    let segment = segment(&mut bytes)?;
    if bytes.len() != 12 {
        return None;
    }
    Some(FilePlace { segment, file_len: bytes.get_u64_le(), table_crc: bytes.get_u32_le() })
}

/// The row of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RecordRow {
    pub life: Life,
    pub crc: u32,
    pub value: Bytes,
}

impl RecordRow {
    pub(crate) fn new(life: Life, value: Bytes) -> Self {
        Self { life, crc: crc32c::crc32c(&value), value }
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(13 + self.value.len());
        out.put_u32_le(self.crc);
        out.put_u8(self.life.queue as u8);
        out.put_u64_le(self.life.time_ms);
        out.put_slice(&self.value);
        out
    }

    /// `None` when the bytes are no row. The value is not checked here.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let crc = bytes.try_get_u32_le().ok()?;
        let queue = Queue::from_number(bytes.try_get_u8().ok()?)?;
        let time_ms = bytes.try_get_u64_le().ok()?;
        Some(Self { life: Life { queue, time_ms }, crc, value: Bytes::copy_from_slice(bytes) })
    }

    pub(crate) fn is_whole(&self) -> bool {
        crc32c::crc32c(&self.value) == self.crc
    }
}

pub(crate) fn encode_list(chunks: &[Digest]) -> Vec<u8> {
    let mut out = Vec::with_capacity(chunks.len() * 41);
    for chunk in chunks {
        out.put_u8(chunk.function().number());
        out.put_u64_le(chunk.size_bytes());
        out.put_slice(chunk.hash().as_bytes());
    }
    out
}

/// `None` when the bytes are no list.
pub(crate) fn decode_list(mut bytes: &[u8]) -> Option<Vec<Digest>> {
    let mut chunks = Vec::with_capacity(bytes.len() / 41);
    while !bytes.is_empty() {
        let function = DigestFunction::from_number(bytes.get_u8())?;
        let size_bytes = bytes.try_get_u64_le().ok()?;
        let (raw, rest) = bytes.split_at_checked(function.hash_len())?;
        chunks.push(Digest::new(Hash::from_bytes(function, raw)?, size_bytes).ok()?);
        bytes = rest;
    }
    Some(chunks)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn life() -> impl Strategy<Value = Life> {
        (0..Queue::ALL.len(), any::<u64>()).prop_map(|(queue, time_ms)| Life { queue: Queue::ALL[queue], time_ms })
    }

    fn place() -> impl Strategy<Value = Place> {
        let segment = any::<u128>().prop_map(|n| Ulid::from_bytes(n.to_be_bytes()));
        prop_oneof![
            (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..2100))
                .prop_map(|(crc, bytes)| Place::Inline { crc, bytes: bytes.into() }),
            (segment.clone(), any::<(u64, u32, u32, bool)>()).prop_map(|(segment, (offset, stored_len, crc, zstd))| {
                Place::Pack(PackPlace { segment, offset, stored_len, crc, zstd })
            }),
            (segment, any::<(u64, u32)>()).prop_map(|(segment, (file_len, table_crc))| Place::File(FilePlace {
                segment,
                file_len,
                table_crc
            })),
            any::<u32>().prop_map(|count| Place::Chunks { count }),
        ]
    }

    proptest! {
        #[test]
        fn blob_rows_read_back(life in life(), size_bytes in any::<u64>(), place in place()) {
            let row = BlobRow { life, size_bytes, place };
            prop_assert_eq!(BlobRow::decode(&row.encode()), Some(row));
        }

        #[test]
        fn record_rows_read_back(life in life(), value in proptest::collection::vec(any::<u8>(), 0..500)) {
            let row = RecordRow::new(life, value.into());
            let read = RecordRow::decode(&row.encode());
            prop_assert!(read.as_ref().is_some_and(RecordRow::is_whole));
            prop_assert_eq!(read, Some(row));
        }

        #[test]
        fn lists_read_back(data in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..7, count in 0usize..20) {
            let chunks: Vec<Digest> =
                (0..count).map(|i| Digest::of(DigestFunction::ALL[(which + i) % 7], &data[..data.len().min(i)])).collect();
            prop_assert_eq!(decode_list(&encode_list(&chunks)), Some(chunks));
        }

        #[test]
        fn any_bytes_are_a_row_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200), tag in 0u8..5) {
            let mut tagged = vec![tag, 0];
            tagged.extend_from_slice(&bytes);
            for bytes in [&bytes, &tagged] {
                if let Some(row) = BlobRow::decode(bytes) {
                    prop_assert_eq!(&row.encode(), bytes);
                }
                if let Some(row) = RecordRow::decode(bytes) {
                    prop_assert_eq!(&row.encode(), bytes);
                }
                if let Some(list) = decode_list(bytes) {
                    prop_assert_eq!(&encode_list(&list), bytes);
                }
            }
        }
    }
}
