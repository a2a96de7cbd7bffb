//! What peers may use, and sizes of messages. Spec: reapi §4.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

/// The sum of the declared sizes in one batch call, as advertised. Spec: R-030.
pub(crate) const MAX_BATCH_BYTES: u64 = 4_000_000;

/// The largest message sent: the default limit of every gRPC client. Spec: R-034.
pub(crate) const MAX_OUTBOUND_BYTES: usize = 4 * 1024 * 1024;

/// What peers may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The largest gRPC message read, in bytes. Spec: R-031.
    pub message_bytes: u64,
    /// The largest blob that is taken, in bytes; 0 is no limit. Spec: R-022, field 8.
    pub blob_bytes: u64,
    /// Uploads whose bytes are coming in, of all peers together.
    pub uploads: usize,
    /// The most bytes that HTTP uploads of unknown hash keep in files together; what finds no room is refused.
    pub unknown_uploads_bytes: u64,
    /// What a compressed upload may ask for.
    pub zstd: ZstdLimits,
    /// How long a stream of a client may stand still. Spec: R-077.
    pub no_progress: Duration,
    /// What all peers share.
    pub memory: MemoryLimits,
}

/// What a stream of zstd may ask for. Spec: R-076.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZstdLimits {
    /// The binary logarithm of the largest window, which its decoder holds in memory: 23 is 8 MiB, what level 19 uses.
    pub window_log: u32,
    /// The most bytes that may come out for each that goes in, once 256 MiB came out; 0 is no limit.
    pub ratio: u64,
}

/// The memory that transfers and messages of all peers share.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemoryLimits {
    /// For gRPC messages that are not here whole or not answered yet, in bytes.
    pub messages_bytes: u64,
    /// For blobs on their way out.
    pub downloads_bytes: u64,
    /// For blobs on their way in.
    pub uploads_bytes: u64,
    /// How long one who finds no memory, or no place for an upload, waits before being told to ask again.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_bytes: 16 << 20,
            blob_bytes: 0,
            uploads: 2000,
            unknown_uploads_bytes: 4 << 30,
            zstd: ZstdLimits::default(),
            no_progress: Duration::from_secs(60),
            memory: MemoryLimits::default(),
        }
    }
}

impl Default for ZstdLimits {
    fn default() -> Self {
        Self { window_log: 23, ratio: 10_000 }
    }
}

impl Default for MemoryLimits {
    fn default() -> Self {
        Self {
            messages_bytes: 256 << 20,
            downloads_bytes: 512 << 20,
            uploads_bytes: 512 << 20,
            patience: Duration::from_secs(10),
        }
    }
}

impl Limits {
    /// Whether a blob of this size is above the limit.
    pub(crate) fn is_too_large(&self, size_bytes: u64) -> bool {
        self.blob_bytes != 0 && size_bytes > self.blob_bytes
    }
}

/// Limits that can be replaced while peers are served; a clone is the same one.
#[derive(Clone, Debug, Default)]
pub struct LiveLimits(Arc<RwLock<Arc<Limits>>>);

impl LiveLimits {
    /// What holds now.
    pub fn now(&self) -> Arc<Limits> {
        self.0.read().clone()
    }

    /// Replaces them. What has begun keeps what it was given.
    pub fn replace(&self, limits: Limits) {
        *self.0.write() = Arc::new(limits);
    }
}

impl From<Limits> for LiveLimits {
    fn from(limits: Limits) -> Self {
        Self(Arc::new(RwLock::new(Arc::new(limits))))
    }
}
