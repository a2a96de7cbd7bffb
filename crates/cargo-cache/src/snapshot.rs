//! The whole target folder of a run that went well, put back in one step where the whole source tree, the toolchain, the
//! machine and the command are the same.
//!
//! cargo then makes its own checks, in which only times could mislead it: all files that are put back have one time, later
//! than that of any source, and all that cargo compares by times is compared by content before. What does not fit is left
//! to be compiled unit by unit.

use std::collections::BTreeMap;
use std::path::{Component, Path};

use cache_types::Digest;
use reapi::action::{ActionSpec, InputFile, Outcome, OutputFile};
use reapi::client::RemoteStore;
use serde::{Deserialize, Serialize};

use crate::file_digests::{FUNCTION, FileDigests};
use crate::outputs::{self, Made};
use crate::path_map::PathMap;
use crate::session::{Record, Session};
use crate::standin::StandIn;
use crate::tree;

/// Files up to this size travel together.
const SMALL_BYTES: u64 = 64 * 1024;
/// The output that lists the others.
const LISTING: &str = "snapshot.json";

/// The files of a target folder.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    /// By path within the target folder.
    pub(crate) files: BTreeMap<String, Kept>,
    /// Files outside of the workspace that a build read, by mapped path.
    pub(crate) outside: BTreeMap<String, String>,
    /// Folders of the machine that are written in files: elsewhere the snapshot is of no use.
    pub(crate) holds: BTreeMap<String, String>,
}

/// One file.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub(crate) executable: bool,
    pub(crate) content: Content,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Content {
    /// A text with names in place of folders.
    Text(String),
    Bytes(Vec<u8>),
    /// A blob, by its digest.
    Blob(String),
    /// A test executable, by its digest, which is not put back.
    StandIn(String),
}

/// The action whose result a snapshot is.
pub(crate) fn action(key: &str, inputs: BTreeMap<String, InputFile>) -> reapi::action::Action {
    let arguments = vec!["twofold-snapshot".to_owned(), key.to_owned()];
    ActionSpec { arguments, inputs, ..ActionSpec::default() }.encode(FUNCTION)
}

impl Snapshot {
    /// The snapshot that is the result of an action, if there is one.
    pub(crate) async fn fetch(server: &RemoteStore, action: &Digest) -> Option<Self> {
        let outcome = server.outcome(action).await.ok()??;
        let listing = outcome.files.iter().find(|file| file.path == LISTING)?;
        let text = outputs::text(server, &listing.digest).await.ok()??;
        serde_json::from_str(&text).ok()
    }
}

/// All that the target folder of a session holds, as a record; `None` where something in it cannot be told apart from what
/// another build would leave.
pub(crate) fn record(session: &Session, action: reapi::action::Action) -> Option<Record> {
    let mut taking = Taking { session, snapshot: Snapshot::default(), made: Vec::new(), standins: Vec::new() };
    for path in tree::files(&session.workspace.target, &|path| {
        path.file_name().is_some_and(|name| name == "incremental" || name == ".cargo-lock")
            || path.parent() == Some(&session.workspace.target) && path.ends_with("tmp")
    })? {
        taking.take(&path)?;
    }
    taking.snapshot.outside = outside(session)?;
    let listing = Made::text(LISTING.to_owned(), serde_json::to_string(&taking.snapshot).ok()?);
    taking.made.push(listing);
    // What stand-ins stand for is named too, so that it is kept for as long as the snapshot.
    let outcome = Outcome { files: taking.standins, ..Outcome::default() };
    Some(Record { action, outcome, made: taking.made, manifest: None })
}

struct Taking<'a> {
    session: &'a Session,
    snapshot: Snapshot,
    made: Vec<Made>,
    standins: Vec<OutputFile>,
}

impl Taking<'_> {
    fn take(&mut self, path: &Path) -> Option<()> {
        let name = path.strip_prefix(&self.session.workspace.target).ok()?.to_str()?.to_owned();
        // What cargo misses there it has made anew, so files of places that hold their place are left out.
        let is_output =
            path.parent().and_then(Path::file_name).is_some_and(|folder| folder == "deps" || folder == "examples")
                || name.matches('/').count() == 1;
        if let Some((digest, bound)) = self.session.test_executable(path) {
            let now = match StandIn::at(path).ok()? {
                Some(standin) => standin.digest,
                None => self.session.digests.of(path).ok()?,
            };
            if now == digest && !bound {
                self.standins.push(OutputFile { path: format!("executables/{name}"), digest, executable: true });
                self.keep(name, true, Content::StandIn(digest.to_string()));
            }
            return Some(());
        }
        let metadata = std::fs::metadata(path).ok()?;
        let executable = outputs::is_executable(&metadata);
        let is_ours = name.starts_with(".twofold/");
        if metadata.len() > SMALL_BYTES && !is_ours {
            let made = Made::read(path, &self.session.map).ok()?;
            if !made.holds.is_empty() && is_output {
                return Some(());
            }
            self.snapshot.holds.extend(made.holds.clone());
            self.keep(name.clone(), executable, Content::Blob(made.digest.to_string()));
            self.made.push(made.named(name));
            return Some(());
        }
        let bytes = std::fs::read(path).ok()?;
        let holds: BTreeMap<String, String> =
            self.session.map.embedded_in(&bytes).map(|(name, real)| (name.to_owned(), real.to_owned())).collect();
        let map = &self.session.map;
        let content = match String::from_utf8(bytes) {
            Ok(text) if is_cargos(&name) || is_ours => {
                let names = map.to_names(&text);
                if map.to_real(&names) == text { Content::Text(names) } else { Content::Bytes(text.into_bytes()) }
            }
            Ok(text) if holds.is_empty() && !PathMap::is_ambiguous(&text) => Content::Text(text),
            Ok(text) => Content::Bytes(text.into_bytes()),
            Err(other) => Content::Bytes(other.into_bytes()),
        };
        if matches!(content, Content::Bytes(_)) {
            if !holds.is_empty() && is_output {
                return Some(());
            }
            self.snapshot.holds.extend(holds);
        }
        self.keep(name, executable, content);
        Some(())
    }

    fn keep(&mut self, name: String, executable: bool, content: Content) {
        self.snapshot.files.insert(name, Kept { executable, content });
    }
}

/// Whether a file is a text in which cargo and rustc write folders that they read as folders.
fn is_cargos(name: &str) -> bool {
    let file = name.rsplit('/').next().unwrap_or(name);
    file.ends_with(".d")
        || (name.contains("/build/") && matches!(file, "root-output" | "output" | "stderr"))
        || name.contains("/.fingerprint/")
}

/// The files outside of the workspace that the build read; `None` where that is not sure.
fn outside(session: &Session) -> Option<BTreeMap<String, String>> {
    let mut paths = session.links.sources();
    let target = &session.workspace.target;
    for output in tree::files(target, &|path| path.file_name().is_some_and(|name| name == "deps"))? {
        if output.file_name().is_none_or(|name| name != "output") {
            continue;
        }
        let text = std::fs::read_to_string(&output).ok()?;
        let changed = text.lines().filter_map(|line| {
            line.strip_prefix("cargo:rerun-if-changed=").or_else(|| line.strip_prefix("cargo::rerun-if-changed="))
        });
        for path in changed.map(Path::new) {
            let strange = |part: Component| matches!(part, Component::ParentDir) || part.as_os_str() == ".git";
            if path.is_absolute() {
                paths.push(path.to_owned());
            } else if path.components().any(strange) {
                return None;
            }
        }
    }
    let mut found = BTreeMap::new();
    for path in paths {
        let real = path.canonicalize().ok()?;
        if session.covered(&real) {
            continue;
        }
        let digest = real.is_file().then(|| session.digests.of(&real).ok())??;
        found.insert(session.map.to_names(real.to_str()?), digest.to_string());
    }
    Some(found)
}

/// What the whole source tree of a workspace holds, by mapped path; `None` where it cannot be told.
pub(crate) fn sources(
    workspace: &crate::workspace::Workspace,
    map: &PathMap,
    digests: &FileDigests,
) -> Option<BTreeMap<String, InputFile>> {
    if workspace.folders().any(|folder| !folder.starts_with(&workspace.root)) {
        return None;
    }
    let skipped = |path: &Path| {
        path == workspace.target
            || path.file_name().is_some_and(|name| matches!(name.to_str(), Some(".git" | ".hg" | ".svn" | ".jj")))
    };
    let mut found = BTreeMap::new();
    for path in tree::files(&workspace.root, &skipped)? {
        let executable = outputs::is_executable(&std::fs::metadata(&path).ok()?);
        found.insert(map.to_names(path.to_str()?), InputFile { digest: digests.of(&path).ok()?, executable });
    }
    Some(found)
}
