use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use cache_types::DigestFunction;

/// What a compressed upload that was read to its end is told in `committed_size`. Clients disagree. Spec: R-072.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CommittedSize {
    /// The compressed bytes received: Bazel and Buck2.
    #[default]
    Compressed,
    /// The size of the blob: Siso and the newest SDKs.
    Uncompressed,
    /// -1, which stands for "no matter": Bazel and Buck2 again.
    MinusOne,
}

/// What the services can be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The answer to a compressed upload.
    pub committed_size: CommittedSize,
    /// What a hash of 64 digits stands for when a request names no function; `None` is SHA-256. Spec: Q-21.
    pub default_digest_function: Option<DigestFunction>,
    /// The largest blob that is taken, in bytes; 0 is no limit. Spec: R-022, field 8.
    pub max_blob_size_bytes: u64,
    /// Refuse an action result whose action or command is not in the CAS. Spec: R-131.
    pub require_action_in_cas: bool,
    /// How long a stream of a client may stand still. Spec: R-077.
    pub no_progress: Duration,
    /// The priorities an action result may be given. Spec: R-022, field 3; R-136.
    pub priorities: RangeInclusive<i32>,
    /// The folder for what is uploaded over HTTP and of unknown size or hash, in files without names.
    pub uploads: PathBuf,
    /// The most bytes in such files at any time; what finds no room is refused.
    pub max_uploads_bytes: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            committed_size: CommittedSize::default(),
            default_digest_function: None,
            max_blob_size_bytes: 0,
            require_action_in_cas: false,
            no_progress: Duration::from_secs(60),
            priorities: 0..=0,
            uploads: std::env::temp_dir(),
            max_uploads_bytes: 4 << 30,
        }
    }
}

impl Settings {
    /// The function an undeclared hash of this many digits stands for. Spec: R-003.
    pub(crate) fn infer(&self, hex_len: usize) -> Option<DigestFunction> {
        self.default_digest_function
            .filter(|function| hex_len == 64 && function.hash_len() * 2 == hex_len)
            .or_else(|| DigestFunction::infer(hex_len))
    }

    /// Whether a blob of this size is above the limit.
    pub(crate) fn is_too_large(&self, size_bytes: u64) -> bool {
        self.max_blob_size_bytes != 0 && size_bytes > self.max_blob_size_bytes
    }
}
