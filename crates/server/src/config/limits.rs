use bytesize::ByteSize;
use reapi::{Limits, MemoryLimits, ZstdLimits};

use super::{Fault, RawLimits};
use crate::TransportLimits;

/// Uploads over HTTP whose digest is not known yet may take this share of the size of the store beside it.
const UPLOADS_SHARE: u64 = 8;

/// The least memory of one kind: it holds at least one message, or one piece of a large blob.
const LEAST_MEMORY: u64 = 32 << 20;

/// The least a message may be: what a batch of the size that is advertised takes.
const LEAST_MESSAGE: u64 = 8 << 20;

/// The windows of zstd that a decoder can be told to keep to, as logarithms: 1 KiB to 128 MiB.
const WINDOW_LOGS: std::ops::RangeInclusive<u32> = 10..=27;

/// What peers may use, beyond what the transport lets them.
pub(super) fn check(
    raw: &RawLimits,
    transport: &TransportLimits,
    max_size_bytes: u64,
    faults: &mut Vec<Fault>,
) -> Limits {
    let default = Limits::default();
    let memory = memory(raw, faults);
    if raw.concurrent_uploads == Some(0) {
        faults.push(Fault::new("limits.concurrent_uploads", "at least 1"));
    }
    Limits {
        message_bytes: message(raw, &memory, faults),
        blob_bytes: raw.blob.map_or(default.blob_bytes, |size| size.as_u64()),
        uploads: raw.concurrent_uploads.unwrap_or(default.uploads),
        unknown_uploads_bytes: raw.uploads.map_or(max_size_bytes / UPLOADS_SHARE, |size| size.as_u64()),
        zstd: zstd(raw, faults),
        no_progress: transport.no_progress,
        memory,
    }
}

fn memory(raw: &RawLimits, faults: &mut Vec<Fault>) -> MemoryLimits {
    let mut limits = MemoryLimits { ..MemoryLimits::default() };
    let parts = [
        ("limits.message_memory", raw.message_memory, &mut limits.messages_bytes),
        ("limits.download_memory", raw.download_memory, &mut limits.downloads_bytes),
        ("limits.upload_memory", raw.upload_memory, &mut limits.uploads_bytes),
    ];
    for (key, given, limit) in parts {
        match given.map(|size| size.as_u64()) {
            Some(size) if size < LEAST_MEMORY => {
                faults.push(Fault::new(key, format!("give at least {}", ByteSize(LEAST_MEMORY))));
            }
            Some(size) => *limit = size,
            None => {}
        }
    }
    limits.patience = raw.patience.unwrap_or(limits.patience);
    limits
}

fn message(raw: &RawLimits, memory: &MemoryLimits, faults: &mut Vec<Fault>) -> u64 {
    let default = Limits::default().message_bytes;
    let size = raw.message.map_or(default, |size| size.as_u64());
    if !(LEAST_MESSAGE..=memory.messages_bytes).contains(&size) {
        let least = ByteSize(LEAST_MESSAGE);
        let message = format!("between {least}, which a full batch takes, and limits.message_memory");
        faults.push(Fault::new("limits.message", message));
    }
    size
}

fn zstd(raw: &RawLimits, faults: &mut Vec<Fault>) -> ZstdLimits {
    let default = ZstdLimits::default();
    let window_log = match raw.zstd_window.map(|size| size.as_u64()) {
        None => default.window_log,
        Some(size) if size.is_power_of_two() && WINDOW_LOGS.contains(&size.ilog2()) => size.ilog2(),
        Some(_) => {
            faults.push(Fault::new("limits.zstd_window", "a power of two between 1KiB and 128MiB, such as 8MiB"));
            default.window_log
        }
    };
    ZstdLimits { window_log, ratio: raw.zstd_ratio.unwrap_or(default.ratio) }
}
