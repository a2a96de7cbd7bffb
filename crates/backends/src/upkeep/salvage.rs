use std::path::Path;

use rocksdb::{DB, DBRecoveryMode, IteratorMode, Options, ReadOptions};

use crate::failure::Failure;
use crate::index::FAMILIES;

/// How a damaged index could be opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// As it is; some of its blocks cannot be read.
    AsIs,
    /// After RocksDB made a list of its tables anew, and left out what was in the log alone.
    Repaired,
}

/// A damaged index, of which as much is read as can be.
pub(super) struct Salvage {
    db: DB,
    pub(super) opened: Opened,
    /// Stretches of keys that were passed over.
    pub(super) lost_parts: u64,
}

/// Whether a block is read that fails its checksum. What it holds must be checked in another way then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Blocks {
    Any,
    Whole,
}

impl Salvage {
    /// Opens the index in `folder`, which is a copy: it is changed. `None` when nothing can be made of it.
    pub(super) fn open(folder: &Path) -> Option<Self> {
        let open = || DB::open_cf(&options(), folder, FAMILIES);
        if let Ok(db) = open() {
            return Some(Self { db, opened: Opened::AsIs, lost_parts: 0 });
        }
        // A manifest that is whole tells of the log too, which a repair leaves out.
        if point_at_newest_manifest(folder).is_ok_and(|found| found)
            && let Ok(db) = open()
        {
            return Some(Self { db, opened: Opened::AsIs, lost_parts: 0 });
        }
        let repaired = DB::repair(&options(), folder).and_then(|()| open());
        let log = |error: &rocksdb::Error| tracing::warn!(%error, "the index is beyond repair");
        let db = repaired.inspect_err(log).ok()?;
        Some(Self { db, opened: Opened::Repaired, lost_parts: 0 })
    }

    /// Hands on each row of a family that can be read, in order.
    pub(super) fn each(
        &mut self,
        family: &str,
        blocks: Blocks,
        mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        let Some(handle) = self.db.cf_handle(family) else { return Ok(()) };
        let (mut from, mut step) = (Vec::new(), MIN_STEP);
        loop {
            let mut options = ReadOptions::default();
            options.fill_cache(false);
            options.set_verify_checksums(blocks == Blocks::Whole);
            let mode = IteratorMode::From(&from, rocksdb::Direction::Forward);
            let mut failed = false;
            let mut last = None;
            for row in self.db.iterator_cf_opt(handle, options, mode) {
                let Ok((key, value)) = row else {
                    failed = true;
                    break;
                };
                // A garbled key may stand before its place; going back to it would not end.
                if *key >= *from {
                    see(&key, &value)?;
                    last = Some(key);
                }
            }
            if !failed {
                return Ok(());
            }
            if let Some(last) = last {
                (from, step) = (last.into(), MIN_STEP);
                self.lost_parts += 1;
            }
            let Some(next) = beyond(&from, step) else { return Ok(()) };
            (from, step) = (next, step.saturating_mul(2));
        }
    }
}

/// Has the index begin with the newest of its manifests; whether there is one.
fn point_at_newest_manifest(folder: &Path) -> std::io::Result<bool> {
    let names = std::fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()));
    let names = names.collect::<std::io::Result<Vec<String>>>()?;
    let number = |name: &String| name.strip_prefix("MANIFEST-")?.parse::<u64>().ok();
    let Some(newest) = names.iter().filter(|name| number(name).is_some()).max_by_key(|name| number(name)) else {
        return Ok(false);
    };
    std::fs::write(folder.join("CURRENT"), format!("{newest}\n"))?;
    Ok(true)
}

/// The first step over a part that cannot be read: keys are hashes behind one byte, so this skips few of many.
const MIN_STEP: u64 = 1 << 36;

/// A key that lies `step` beyond, counted in the eight bytes behind the first; `None` past the last.
fn beyond(key: &[u8], step: u64) -> Option<Vec<u8>> {
    let mut head = [0; 9];
    let len = key.len().min(9);
    head[..len].copy_from_slice(&key[..len]);
    let [first, rest @ ..] = head;
    match u64::from_be_bytes(rest).checked_add(step) {
        Some(rest) => Some([&[first][..], &rest.to_be_bytes()].concat()),
        None => Some(vec![first.checked_add(1)?]),
    }
}

fn options() -> Options {
    let mut options = Options::default();
    options.create_missing_column_families(true);
    options.set_paranoid_checks(false);
    options.set_wal_recovery_mode(DBRecoveryMode::SkipAnyCorruptedRecord);
    options.set_max_open_files(256);
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_go_on_to_the_end_of_all_keys() {
        let (mut key, mut step, mut count) = (Vec::new(), MIN_STEP, 0);
        while let Some(next) = beyond(&key, step) {
            assert!(next > key);
            (key, step, count) = (next, step.saturating_mul(2), count + 1);
        }
        assert!(count < 1000, "{count}");
    }
}
