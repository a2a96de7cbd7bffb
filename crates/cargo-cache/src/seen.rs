use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use cache_types::Digest;
use parking_lot::Mutex;
use reapi::action::InputFile;

use crate::path_map::PathMap;
use crate::reason::Reason;

/// The files that an action reads, by mapped path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Files {
    pub(crate) present: BTreeMap<String, InputFile>,
    /// What is looked for and is not there.
    pub(crate) absent: Vec<String>,
}

impl Files {
    /// The files that were found, by the names that they have on every machine.
    pub(crate) fn named(map: &PathMap, found: BTreeMap<PathBuf, Option<Digest>>) -> Result<Self, Reason> {
        let mut files = Self::default();
        for (path, digest) in found {
            let path = map.to_names(path.to_str().ok_or(Reason::Text)?);
            match digest {
                Some(digest) => drop(files.present.insert(path, InputFile { digest, executable: false })),
                None => files.absent.push(path),
            }
        }
        Ok(files)
    }
}

/// The files of packages as they were last looked through. They stand for as long as this command has only put results
/// back: a tool or a test that runs may write anywhere, and from when it starts all is looked through anew.
#[derive(Default)]
pub(crate) struct Seen {
    /// How often something began or ended that may write.
    moves: AtomicU64,
    /// Whether something runs whose end is not told.
    unwatched: AtomicBool,
    known: Mutex<HashMap<PathBuf, (u64, Arc<Files>)>>,
}

/// When a look began.
pub(crate) struct Look(u64);

/// Something that may write. Unless it is told to have ended, it is taken to go on.
pub(crate) struct Running<'a>(&'a Seen);

impl Seen {
    /// The files of a package, if nothing can have written since.
    pub(crate) fn still(&self, folder: &Path) -> Option<Arc<Files>> {
        let now = self.moves.load(Ordering::Acquire);
        let (then, files) = self.known.lock().get(folder).cloned()?;
        (then == now && !self.unwatched.load(Ordering::Acquire)).then_some(files)
    }

    /// To be called before a package is looked through.
    pub(crate) fn look(&self) -> Look {
        Look(self.moves.load(Ordering::Acquire))
    }

    /// Notes what was found.
    pub(crate) fn note(&self, look: Look, folder: &Path, files: Arc<Files>) {
        self.known.lock().insert(folder.to_owned(), (look.0, files));
    }

    /// Something may have written.
    pub(crate) fn moved(&self) {
        self.moves.fetch_add(1, Ordering::AcqRel);
    }

    /// Something starts that may write.
    pub(crate) fn runs(&self) -> Running<'_> {
        self.moved();
        Running(self)
    }

    /// Something starts that may write, and nobody tells when it ends.
    pub(crate) fn runs_unwatched(&self) {
        self.unwatched.store(true, Ordering::Release);
    }
}

impl Running<'_> {
    /// It has ended, and writes no more.
    pub(crate) fn ended(self) {
        self.0.moved();
        std::mem::forget(self);
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.runs_unwatched();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_seen_stands_until_something_runs() {
        let (seen, folder) = (Seen::default(), Path::new("/w/a"));
        let see = || seen.note(seen.look(), folder, Arc::default());
        assert!(seen.still(folder).is_none());
        see();
        assert!(seen.still(folder).is_some() && seen.still(Path::new("/w/b")).is_none());
        let running = seen.runs();
        assert!(seen.still(folder).is_none());
        // What is seen while it runs may be half of what it writes.
        see();
        running.ended();
        assert!(seen.still(folder).is_none());
        see();
        let look = seen.look();
        seen.moved();
        seen.note(look, folder, Arc::default());
        assert!(seen.still(folder).is_none());
        see();
        drop(seen.runs());
        assert!(seen.still(folder).is_none());
        see();
        assert!(seen.still(folder).is_none());
    }
}
