use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use cache_types::Digest;

use crate::file_digests::FileDigests;
use crate::links::name;
use crate::reason::Reason;
use crate::workspace::{Package, Workspace};

/// The most files of one package that are looked at for each test run.
const MAX_FILES: usize = 50_000;
/// Folders that belong to version control or to a build.
const SKIPPED: &[&str] = &[".git", ".hg", ".svn", ".jj", "target", "node_modules"];

/// The files that the tests of a package may read: all below its manifest but other members and what is built, and what
/// it declares beside. Absolute paths; what is not there has no digest, and what is a link has that of its target.
pub(crate) struct TestInputs<'a> {
    pub(crate) workspace: &'a Workspace,
    pub(crate) package: &'a Package,
    pub(crate) digests: &'a FileDigests,
}

impl TestInputs<'_> {
    /// The files, with their digests, without the roots of test targets that nothing names: those are compiled, not read.
    pub(crate) fn without_targets(
        &self,
        is_named: impl Fn(&Path) -> bool,
    ) -> Result<BTreeMap<PathBuf, Option<Digest>>, Reason> {
        let mut files = self.all()?;
        for target in &self.package.targets {
            let is_test = target.kind.iter().any(|kind| matches!(kind.as_str(), "test" | "bench" | "example"));
            if is_test && !is_named(&target.src_path) {
                files.remove(&target.src_path);
            }
        }
        Ok(files)
    }

    /// All files, with their digests.
    fn all(&self) -> Result<BTreeMap<PathBuf, Option<Digest>>, Reason> {
        let mut found = BTreeMap::new();
        let folder = self.package.folder();
        self.walk(folder, &mut found)?;
        for declared in &self.package.metadata.twofold.test_inputs {
            let path = folder.join(declared);
            if path.is_dir() {
                self.walk(&path, &mut found)?;
            } else {
                self.take(path, &mut found)?;
            }
        }
        Ok(found)
    }

    fn walk(&self, folder: &Path, found: &mut BTreeMap<PathBuf, Option<Digest>>) -> Result<(), Reason> {
        let unreadable = |_| Reason::Unreadable(name(folder));
        for entry in std::fs::read_dir(folder).map_err(unreadable)? {
            let entry = entry.map_err(unreadable)?;
            let path = entry.path();
            // A link counts as what it leads to; one to a folder as its own text, and what is there beside.
            let kind = entry.file_type().map_err(unreadable)?;
            if kind.is_dir() {
                let skipped = entry.file_name().to_str().is_some_and(|name| SKIPPED.contains(&name));
                let member = self.workspace.folders().any(|member| member == path && member != self.package.folder());
                if !skipped && !member && path != self.workspace.target {
                    self.walk(&path, found)?;
                }
            } else {
                let leads_out = kind.is_symlink()
                    && path.is_dir()
                    && path.canonicalize().is_ok_and(|target| !target.starts_with(self.package.folder()));
                self.take(path.clone(), found)?;
                if leads_out {
                    self.walk(&path, found)?;
                }
            }
        }
        Ok(())
    }

    fn take(&self, path: PathBuf, found: &mut BTreeMap<PathBuf, Option<Digest>>) -> Result<(), Reason> {
        if found.len() >= MAX_FILES {
            return Err(Reason::Unreadable(format!("all of {}, which has too many files", self.package.name)));
        }
        let digest = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => {
                Some(self.digests.of(&path).map_err(|_| Reason::Unreadable(name(&path)))?)
            }
            Ok(_) | Err(_) => {
                let link = std::fs::read_link(&path).ok();
                link.map(|link| Digest::of(crate::file_digests::FUNCTION, link.as_os_str().as_encoded_bytes()))
            }
        };
        found.insert(path, digest);
        Ok(())
    }
}
