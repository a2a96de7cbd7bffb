use bytes::{BufMut, Bytes, BytesMut};
use cache_types::nix::{NarInfo, StoreDir, StorePathHash};
use cache_types::{Digest, Hash};
use serde::{Deserialize, Serialize};
use store::{Provenance, RecordKey, RecordKind};

use crate::compression::Compression;

/// What a NAR is made of; its key is the cache and the hash of the NAR.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NarRecord {
    /// Bytes of the NAR.
    pub(crate) size: u64,
    pub(crate) root: Root,
}

/// The root of what a NAR holds. Spec: N-70.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Root {
    File {
        #[serde(with = "as_text")]
        digest: Digest,
        executable: bool,
    },
    Symlink {
        target: String,
    },
    /// A folder, as an encoded `Directory`.
    Directory {
        #[serde(with = "as_text")]
        digest: Digest,
    },
    /// The NAR itself is the blob, since a `Directory` cannot hold what is in it. Spec: N-72.
    Whole,
}

/// A NAR as it was uploaded; its key is the cache and the hash of the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UploadRecord {
    /// The NAR's hash.
    #[serde(with = "as_text")]
    pub(crate) nar: NarHash,
    pub(crate) nar_size: u64,
    pub(crate) file_size: u64,
    /// How the file is packed, which its name need not say.
    #[serde(with = "as_text")]
    pub(crate) compression: Compression,
}

/// What is known of a store path; its key is the cache and the hash part of the path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PathRecord {
    /// The narinfo, as it came.
    pub(crate) narinfo: String,
    pub(crate) origin: Origin,
}

/// Where a path came from: what another cache gave is never signed here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Origin {
    Pushed,
    /// The full URL of the NAR in the other cache.
    Upstream {
        nar: String,
    },
}

/// A text beside the paths: a build log, a realisation, debug information.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TextRecord {
    #[serde(with = "as_text")]
    pub(crate) digest: Digest,
    pub(crate) content_type: String,
}

/// The hash of a NAR, as text in records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct NarHash(pub(crate) Hash);

impl std::fmt::Display for NarHash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&cache_types::nix::hash_text(&self.0))
    }
}

impl std::str::FromStr for NarHash {
    type Err = cache_types::nix::HashTextError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        cache_types::nix::parse_hash_text(text).map(Self)
    }
}

/// The kinds of records of a cache, by the first byte of the key.
#[derive(Clone, Copy)]
#[repr(u8)]
enum Space {
    Path = 1,
    Nar = 2,
    Upload = 3,
    Text = 4,
    Pins = 5,
}

/// Space, cache, zero, key.
fn key(space: Space, cache: &str, key: &[u8]) -> RecordKey {
    let mut bytes = BytesMut::with_capacity(2 + cache.len() + key.len());
    bytes.put_u8(space as u8);
    bytes.put_slice(cache.as_bytes());
    bytes.put_u8(0);
    bytes.put_slice(key);
    RecordKey { kind: RecordKind::Nix, key: bytes.freeze() }
}

pub(crate) fn path_key(cache: &str, path: StorePathHash) -> RecordKey {
    key(Space::Path, cache, path.as_bytes())
}

pub(crate) fn nar_key(cache: &str, nar: &Hash) -> RecordKey {
    key(Space::Nar, cache, nar.as_bytes())
}

/// The suffix is part of the name of an upload: one file may be packed in one way alone.
pub(crate) fn upload_key(cache: &str, file: &Hash, suffix: &str) -> RecordKey {
    key(Space::Upload, cache, &[file.as_bytes(), suffix.as_bytes()].concat())
}

pub(crate) fn text_key(cache: &str, name: &str) -> RecordKey {
    key(Space::Text, cache, name.as_bytes())
}

pub(crate) fn pins_key(cache: &str) -> RecordKey {
    key(Space::Pins, cache, b"")
}

/// The record as it is stored: who wrote it, so that it can be purged by that, then JSON. What came from another cache is
/// written by nobody.
pub(crate) fn encode(record: &impl Serialize, writer: &str) -> Bytes {
    let json = serde_json::to_vec(record).expect("records have text keys and finite numbers");
    Provenance::now(writer).before(&json)
}

/// `None` when the bytes are no such record. Those of older programs do not say who wrote them.
pub(crate) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    serde_json::from_slice(Provenance::split(bytes).1).ok()
}

impl PathRecord {
    /// The narinfo; `None` when it is none of a store in `dir`.
    pub(crate) fn info(&self, dir: &StoreDir) -> Option<NarInfo> {
        NarInfo::parse(&self.narinfo, dir).ok()
    }
}

/// Values as the text that they are displayed as.
mod as_text {
    use std::fmt::Display;
    use std::str::FromStr;

    use serde::{Deserialize, Deserializer, Serializer, de};

    pub(super) fn serialize<T: Display, S: Serializer>(value: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(value)
    }

    pub(super) fn deserialize<'a, T: FromStr<Err: Display>, D: Deserializer<'a>>(from: D) -> Result<T, D::Error> {
        String::deserialize(from)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn records_read_back(data in proptest::collection::vec(any::<u8>(), 0..30), target in ".{1,30}", size: u64, which in 0usize..4) {
            let digest = Digest::of(DigestFunction::Sha256, &data);
            let root = [
                Root::File { digest, executable: size % 2 == 0 },
                Root::Symlink { target },
                Root::Directory { digest },
                Root::Whole,
            ][which].clone();
            let record = NarRecord { size, root };
            prop_assert_eq!(decode::<NarRecord>(&encode(&record, "ci")), Some(record.clone()));
            let older = serde_json::to_vec(&record).expect("a record");
            prop_assert_eq!(decode::<NarRecord>(&older), Some(record), "as older programs wrote it");
            let upload = UploadRecord { nar: NarHash(*digest.hash()), nar_size: size, file_size: size, compression: Compression::Gzip };
            prop_assert_eq!(decode::<UploadRecord>(&encode(&upload, "")), Some(upload));
        }

        #[test]
        fn any_bytes_are_a_record_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            prop_assert!(decode::<NarRecord>(&bytes).is_none_or(|record| decode(&encode(&record, "")) == Some(record)));
        }
    }
}
