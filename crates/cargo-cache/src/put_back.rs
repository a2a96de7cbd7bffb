//! A snapshot is put back: aside first, by all processors, then in one step.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use cache_types::Digest;
use futures::StreamExt;
use reapi::client::RemoteStore;

use crate::file_digests::FileDigests;
use crate::outputs;
use crate::path_map::PathMap;
use crate::snapshot::{Content, Kept, Snapshot};
use crate::standin::StandIn;

/// Files that are fetched at once.
const AT_ONCE: usize = 16;

/// What was put back.
pub(crate) struct Restored {
    /// How many files.
    pub(crate) files: u64,
    /// The digests of those that were blobs.
    pub(crate) digests: Vec<(PathBuf, Digest)>,
}

/// Puts the target folder back where there is none; `None` where nothing is known that fits.
pub(crate) async fn restore(
    server: &RemoteStore,
    action: &Digest,
    map: &PathMap,
    target: &Path,
    (address, programs): (&str, &Path),
    digests: &FileDigests,
) -> Option<Restored> {
    let snapshot = Snapshot::fetch(server, action).await?;
    if !fits(&snapshot, map, digests) {
        return None;
    }
    let parent = target.parent()?;
    std::fs::create_dir_all(parent).ok()?;
    // Aside first: nobody sees half a target folder, and cargo does not take one that was interrupted.
    let aside = tempfile::Builder::new().prefix(".twofold-target-").tempdir_in(parent).ok()?;
    make_folders(aside.path(), snapshot.files.keys())?;
    let files = snapshot.files.len() as u64;
    let place = Arc::new(Putting {
        map: map.clone(),
        folder: aside.path().to_owned(),
        time: SystemTime::now(),
        server: address.to_owned(),
        programs: programs.to_owned(),
    });
    let (blobs, others): (BTreeMap<_, _>, _) =
        snapshot.files.into_iter().partition(|(_, kept)| matches!(kept.content, Content::Blob(_)));
    let written = tokio::task::spawn_blocking({
        let place = place.clone();
        move || others.iter().all(|(path, kept)| place.write(path, kept).is_some())
    });
    let fetched = futures::stream::iter(blobs)
        .map(|(path, kept)| {
            let (server, place) = (server.clone(), place.clone());
            tokio::spawn(async move {
                let digest = place.fetch(&server, &path, &kept).await?;
                Some((path, digest))
            })
        })
        .buffer_unordered(AT_ONCE)
        .map(|fetched| fetched.ok().flatten())
        .collect::<Vec<_>>()
        .await;
    if !written.await.ok()? {
        return None;
    }
    let fetched: Vec<_> = fetched.into_iter().collect::<Option<_>>()?;
    std::fs::rename(aside.keep(), target).ok()?;
    let digests = fetched.into_iter().map(|(path, digest)| (target.join(path), digest)).collect();
    Some(Restored { files, digests })
}

/// Whether a snapshot is of use here: the folders that are written in it are, and what it read outside is the same.
fn fits(snapshot: &Snapshot, map: &PathMap, digests: &FileDigests) -> bool {
    let same = |(path, was): (&String, &String)| {
        digests.of(Path::new(&map.to_real(path))).is_ok_and(|now| now.to_string() == *was)
    };
    snapshot.holds.iter().all(|(name, was)| map.real(name) == Some(was)) && snapshot.outside.iter().all(same)
}

/// Makes the folders of files; `None` where one would lie outside.
fn make_folders<'a>(root: &Path, files: impl Iterator<Item = &'a String>) -> Option<()> {
    let mut folders = BTreeSet::new();
    for file in files.map(Path::new) {
        let inside = file.components().all(|part| matches!(part, Component::Normal(_)));
        folders.insert(file.parent().filter(|_| inside)?);
    }
    folders.into_iter().try_for_each(|folder| std::fs::create_dir_all(root.join(folder))).ok()
}

/// Where a snapshot is put back, and what its files say of this machine. Nobody else sees the folder yet.
struct Putting {
    map: PathMap,
    folder: PathBuf,
    /// The one time of all files.
    time: SystemTime,
    /// The address of the server, for stand-ins.
    server: String,
    programs: PathBuf,
}

impl Putting {
    /// Writes a file that travelled with the snapshot.
    fn write(&self, path: &str, kept: &Kept) -> Option<()> {
        let text = match &kept.content {
            Content::Text(text) => self.map.to_real(text).into_bytes(),
            Content::Bytes(bytes) => bytes.clone(),
            Content::StandIn(digest) => {
                let standin = StandIn { digest: digest.parse().ok()?, server: self.server.clone() };
                standin.script(&self.programs).into_bytes()
            }
            Content::Blob(_) => return None,
        };
        let mut file = self.create(path, kept.executable).ok()?;
        file.write_all(&text).and_then(|()| file.set_modified(self.time)).ok()
    }

    /// Fetches a file; `None` when it cannot be had.
    async fn fetch(&self, server: &RemoteStore, path: &str, kept: &Kept) -> Option<Digest> {
        let Content::Blob(digest) = &kept.content else {
            return None;
        };
        let digest = digest.parse().ok()?;
        let mut file = self.create(path, kept.executable).ok()?;
        let written = outputs::fetch(server, &digest, &mut file).await.ok()?;
        file.set_modified(self.time).ok()?;
        written.then_some(digest)
    }

    fn create(&self, path: &str, executable: bool) -> io::Result<File> {
        let mode = if executable { 0o755 } else { 0o644 };
        OpenOptions::new().write(true).create_new(true).mode(mode).open(self.folder.join(path))
    }
}
