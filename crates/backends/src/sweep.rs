use std::path::PathBuf;
use std::sync::atomic::Ordering;

use ulid::Ulid;

use crate::engine::{Discarded, Engine};
use crate::failure::Failure;
use crate::index::{SegmentKind, folder_bytes};

/// Removes files that no row names: what an upload or an eviction left behind when the process ended in between.
///
/// Runs in the background; nothing waits for it.
pub(crate) fn sweep(engine: &Engine) {
    for kind in [SegmentKind::Pack, SegmentKind::File] {
        match orphans(engine, kind).and_then(|orphans| remove(&orphans)) {
            Ok(0) => {}
            Ok(removed) => tracing::info!(removed, "removed files that nothing names"),
            Err(error) => tracing::warn!(%error, "the sweep stopped early"),
        }
    }
    if let Ok(bytes) = folder_bytes(&engine.dir.quarantine()) {
        engine.space.quarantine.store(bytes, Ordering::Release);
    }
}

/// Files of both kinds that no row names and that are not about to be removed anyway. On the housekeeper's thread.
pub(crate) fn all_orphans(engine: &Engine) -> Result<Vec<PathBuf>, Failure> {
    let (mut packs, mut files) = (orphans(engine, SegmentKind::Pack)?, orphans(engine, SegmentKind::File)?);
    // A row may have gone a moment ago; its file is noted for removal before the committer does anything else.
    engine.barrier()?;
    let table = engine.packs.table.lock();
    packs.retain(|(segment, _)| !table.contains_key(segment));
    drop(table);
    let discarded = engine.discarded.lock();
    let is_noted = |segment: &Ulid| {
        discarded.iter().any(|file| match file {
            Discarded::Remove(noted) | Discarded::Quarantine(noted, _) => noted == segment,
        })
    };
    files.retain(|(segment, _)| !is_noted(segment));
    Ok(packs.into_iter().chain(files).map(|(_, path)| path).collect())
}

fn remove(orphans: &[(Ulid, PathBuf)]) -> Result<usize, Failure> {
    orphans.iter().try_for_each(|(_, path)| std::fs::remove_file(path))?;
    Ok(orphans.len())
}

fn orphans(engine: &Engine, kind: SegmentKind) -> Result<Vec<(Ulid, PathBuf)>, Failure> {
    let folder = match kind {
        SegmentKind::Pack => engine.dir.packs(),
        SegmentKind::File => engine.dir.files(),
    };
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        if engine.stopping.load(Ordering::Acquire) {
            break;
        }
        let entry = entry?;
        let name = entry.file_name();
        let segment = name.to_str().and_then(|name| Ulid::from_string(name).ok());
        if let Some(segment) = segment.filter(|segment| is_orphan(engine, kind, *segment).unwrap_or(false)) {
            found.push((segment, entry.path()));
        }
    }
    Ok(found)
}

/// A new segment leaves the set of uncommitted ones only after its row is there, so the set is asked first.
fn is_orphan(engine: &Engine, kind: SegmentKind, segment: Ulid) -> Result<bool, Failure> {
    if engine.uncommitted.lock().contains(&segment) {
        return Ok(false);
    }
    Ok(!engine.index.has_segment(kind, segment)?)
}
