use std::fmt;

use cache_types::DigestFunction;

use crate::proto::re;

/// What is taken when a server states no batch limit: 4 MiB less room for the messages' own bytes. Spec: R-033.
const DEFAULT_BATCH_BYTES: u64 = 4_000_000;

/// What a server said of itself. Spec.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// The functions it offers, those this client does not know left out.
    pub digest_functions: Vec<DigestFunction>,
    /// Whether this caller may write action results.
    pub update_enabled: bool,
    /// The most bytes of blobs in one batch call.
    pub max_batch_bytes: u64,
    /// The largest blob it takes; `None` when it states none.
    pub max_blob_bytes: Option<u64>,
    /// Whether ByteStream carries zstd.
    pub stream_zstd: bool,
    /// Whether BatchUpdateBlobs carries zstd.
    pub batch_zstd: bool,
    /// Whether it hands out chunk lists.
    pub split: bool,
    /// Whether it makes blobs from chunks.
    pub splice: bool,
    /// The average chunk of its FastCDC 2020, in bytes; `None` when it does not cut so.
    pub avg_chunk_bytes: Option<u64>,
    /// The oldest protocol version it speaks.
    pub low: Version,
    /// The newest protocol version it speaks.
    pub high: Version,
}

/// A version of the protocol.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: i32,
    /// Second number.
    pub minor: i32,
    /// Third number.
    pub patch: i32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}

impl Capabilities {
    pub(super) fn from_wire(answer: re::ServerCapabilities) -> Self {
        let cache = answer.cache_capabilities.unwrap_or_default();
        let zstd = re::compressor::Value::Zstd;
        let known = |number: &i32| u8::try_from(*number).ok().and_then(DigestFunction::from_number);
        Self {
            digest_functions: cache.digest_functions.iter().filter_map(known).collect(),
            update_enabled: cache.action_cache_update_capabilities.is_some_and(|update| update.update_enabled),
            max_batch_bytes: positive(cache.max_batch_total_size_bytes).unwrap_or(DEFAULT_BATCH_BYTES),
            max_blob_bytes: positive(cache.max_cas_blob_size_bytes),
            stream_zstd: cache.supported_compressors.contains(&i32::from(zstd)),
            batch_zstd: cache.supported_batch_update_compressors.contains(&i32::from(zstd)),
            split: cache.split_blob_support,
            splice: cache.splice_blob_support,
            avg_chunk_bytes: cache.fast_cdc_2020_params.map(|params| params.avg_chunk_size_bytes),
            low: version(answer.low_api_version),
            high: version(answer.high_api_version),
        }
    }

    /// Whether the streaming pair of chunk calls is there. Spec: reapi §0.
    pub(super) fn streams_chunk_lists(&self) -> bool {
        self.high >= Version { major: 2, minor: 13, patch: 0 }
    }
}

fn positive(number: i64) -> Option<u64> {
    u64::try_from(number).ok().filter(|number| *number > 0)
}

fn version(version: Option<crate::proto::build::bazel::semver::SemVer>) -> Version {
    version.map_or_else(Version::default, |version| Version {
        major: version.major,
        minor: version.minor,
        patch: version.patch,
    })
}
