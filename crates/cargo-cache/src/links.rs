use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};

use cache_types::Digest;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use crate::file_digests::FileDigests;
use crate::reason::Reason;

/// What is known of compiled files by their content: the files of their dependencies and the sources that they came from.
///
/// A linker reads the dependencies of dependencies too, which no argument names.
#[derive(Default)]
pub(crate) struct Links {
    known: Mutex<HashMap<String, Made>>,
}

/// How one file came about.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The files that were given as `--extern`.
    pub(crate) dependencies: Vec<PathBuf>,
    /// The sources, absolute.
    pub(crate) sources: Vec<PathBuf>,
}

impl Links {
    /// Reads what an earlier command left in the target folder; nothing when there is none or it is damaged.
    pub(crate) fn load(file: &Path) -> Self {
        let read = std::fs::read(file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { known: Mutex::new(read.unwrap_or_default()) }
    }

    /// Leaves what is known for the next command.
    pub(crate) fn save(&self, file: &Path) -> std::io::Result<()> {
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder)?;
        let mut written = tempfile::NamedTempFile::new_in(folder)?;
        serde_json::to_writer(&mut written, &*self.known.lock())?;
        written.persist(file)?;
        Ok(())
    }

    /// Notes how the file with this digest came about.
    pub(crate) fn note(&self, digest: &Digest, made: &Made) {
        self.known.lock().insert(digest.to_string(), made.clone());
    }

    /// How the file with this digest came about, where that is known.
    pub(crate) fn made(&self, digest: &Digest) -> Option<Made> {
        self.known.lock().get(&digest.to_string()).cloned()
    }

    /// All sources that are known.
    pub(crate) fn sources(&self) -> Vec<PathBuf> {
        let known = self.known.lock();
        let all: BTreeSet<&PathBuf> = known.values().flat_map(|made| &made.sources).collect();
        all.into_iter().cloned().collect()
    }

    /// Every library below these, with its digest.
    pub(crate) fn closure(&self, from: &[PathBuf], digests: &FileDigests) -> Result<BTreeMap<PathBuf, Digest>, Reason> {
        let mut found = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut left: Vec<PathBuf> = from.to_vec();
        while let Some(path) = left.pop() {
            let path = linked(&path);
            if !seen.insert(path.clone()) {
                continue;
            }
            let digest = digests.of(&path).map_err(|_| Reason::Unreadable(name(&path)))?;
            // A procedural macro is linked already.
            if path.extension().is_none_or(|extension| extension != "so") {
                let made = self.made(&digest).ok_or_else(|| Reason::UnknownDependency(name(&path)))?;
                left.extend(made.dependencies);
            }
            found.insert(path, digest);
        }
        Ok(found)
    }
}

/// The library beside its metadata, if it is there: the linker takes that.
fn linked(path: &Path) -> PathBuf {
    let library = path.with_extension("rlib");
    let is_metadata = path.extension().is_some_and(|extension| extension == "rmeta");
    if is_metadata && library.is_file() { library } else { path.to_owned() }
}

/// The last segment of a path, for people.
pub(crate) fn name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_that_a_linker_reads_is_found_and_gaps_are_told() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let (digests, links) = (FileDigests::default(), Links::default());
        let make = |name: &str, dependencies: &[&str]| {
            let path = dir.path().join(name);
            std::fs::write(&path, name).expect("a write");
            let dependencies = dependencies.iter().map(|name| dir.path().join(name)).collect();
            links.note(&digests.of(&path).expect("a digest"), &Made { dependencies, sources: Vec::new() });
            path
        };
        make("a.rlib", &[]);
        make("m.so", &["a.rlib"]);
        make("b.rlib", &["a.rmeta", "m.so"]);
        std::fs::write(dir.path().join("a.rmeta"), "a").expect("a write");
        let c = make("c.rlib", &["b.rlib", "a.rlib"]);
        let found = links.closure(std::slice::from_ref(&c), &digests).expect("all known");
        let names: Vec<String> = found.keys().map(|path| name(path)).collect();
        assert_eq!(names, ["a.rlib", "b.rlib", "c.rlib", "m.so"]);

        let file = dir.path().join("kept/links");
        links.save(&file).expect("a write");
        let again = Links::load(&file);
        assert_eq!(again.closure(std::slice::from_ref(&c), &digests).expect("all known").len(), 4);
        std::fs::write(dir.path().join("a.rlib"), "other").expect("a write");
        assert_eq!(again.closure(&[c], &digests), Err(Reason::UnknownDependency("a.rlib".to_owned())));
    }
}
