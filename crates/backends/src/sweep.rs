use std::path::Path;
use std::sync::atomic::Ordering;

use ulid::Ulid;

use crate::engine::Engine;
use crate::failure::Failure;
use crate::index::{SegmentKind, folder_bytes};

/// Removes files that no row names: what an upload or an eviction left behind when the process ended in between.
///
/// Runs in the background; nothing waits for it.
pub(crate) fn sweep(engine: &Engine) {
    let folders = [(engine.dir.packs(), SegmentKind::Pack), (engine.dir.files(), SegmentKind::File)];
    for (folder, kind) in folders {
        match sweep_folder(engine, &folder, kind) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, folder = %folder.display(), "removed files that nothing names"),
            Err(error) => tracing::warn!(%error, folder = %folder.display(), "the sweep stopped early"),
        }
    }
    if let Ok(bytes) = folder_bytes(&engine.dir.quarantine()) {
        engine.space.quarantine.store(bytes, Ordering::Release);
    }
}

fn sweep_folder(engine: &Engine, folder: &Path, kind: SegmentKind) -> Result<usize, Failure> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        if engine.stopping.load(Ordering::Acquire) {
            break;
        }
        let entry = entry?;
        let name = entry.file_name();
        let segment = name.to_str().and_then(|name| Ulid::from_string(name).ok());
        if segment.is_some_and(|segment| is_orphan(engine, kind, segment).unwrap_or(false)) {
            std::fs::remove_file(entry.path())?;
            removed += 1;
        }
    }
    Ok(removed)
}

/// A new segment leaves the set of uncommitted ones only after its row is there, so the set is asked first.
fn is_orphan(engine: &Engine, kind: SegmentKind, segment: Ulid) -> Result<bool, Failure> {
    if engine.uncommitted.lock().contains(&segment) {
        return Ok(false);
    }
    Ok(!engine.index.has_segment(kind, segment)?)
}
