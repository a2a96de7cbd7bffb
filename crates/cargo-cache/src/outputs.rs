//! Files that a tool made: read once for their digest and for folders that they hold, sent to the cache, and put back.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use cache_types::{ByteRange, Digest, Hasher};
use futures::StreamExt;
use reapi::action::OutputFile;
use reapi::client::RemoteStore;
use store::{BlobBody, BlobStore, BodyError, StoreError};
use tempfile::{NamedTempFile, TempPath};
use tokio::io::AsyncReadExt;

use crate::file_digests::FUNCTION;
use crate::forks;
use crate::path_map::PathMap;

const PIECE_BYTES: usize = 1024 * 1024;
/// Folders are found across the border of two pieces up to this length.
const OVERLAP_BYTES: usize = 4096;

/// One file that a tool made, opened while it was sure to be the one.
pub(crate) struct Made {
    pub(crate) name: String,
    pub(crate) digest: Digest,
    pub(crate) executable: bool,
    /// The folders of this machine that are written in it, by name.
    pub(crate) holds: BTreeMap<String, String>,
    content: Content,
}

enum Content {
    File(Arc<File>),
    Bytes(Bytes),
}

impl Made {
    /// Reads the file once.
    pub(crate) fn read(path: &Path, map: &PathMap) -> io::Result<Self> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut hasher = Hasher::new(FUNCTION, metadata.len());
        let mut piece = vec![0; OVERLAP_BYTES + PIECE_BYTES];
        let (mut kept, mut size) = (0, 0);
        let mut holds = BTreeMap::new();
        loop {
            let n = file.read(&mut piece[kept..])?;
            if n == 0 {
                break;
            }
            hasher.update(&piece[kept..kept + n]);
            size += n as u64;
            holds.extend(map.embedded_in(&piece[..kept + n]).map(|(name, real)| (name.to_owned(), real.to_owned())));
            let start = (kept + n).saturating_sub(OVERLAP_BYTES);
            piece.copy_within(start..kept + n, 0);
            kept = kept + n - start;
        }
        let digest = Digest::new(hasher.finish(), size).map_err(io::Error::other)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        let executable = is_executable(&metadata);
        Ok(Self { name, digest, executable, holds, content: Content::File(Arc::new(file)) })
    }

    /// A text in place of the file's own, in which the folders are names.
    pub(crate) fn text(name: String, text: String) -> Self {
        let bytes = Bytes::from(text);
        let digest = Digest::of(FUNCTION, &bytes);
        Self { name, digest, executable: false, holds: BTreeMap::new(), content: Content::Bytes(bytes) }
    }

    /// The same under another name.
    pub(crate) fn named(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// How it stands in an action's result.
    pub(crate) fn as_output(&self) -> OutputFile {
        OutputFile { path: self.name.clone(), digest: self.digest, executable: self.executable }
    }

    /// Sends it to the cache.
    pub(crate) async fn send(&self, server: &RemoteStore) -> Result<(), StoreError> {
        match &self.content {
            Content::Bytes(bytes) => server.write(self.digest, bytes.clone().into()).await,
            Content::File(file) => server.write_from(self.digest, || body(file)).await,
        }
    }
}

async fn body(file: &Arc<File>) -> Result<BlobBody, StoreError> {
    let failed = |error: io::Error| StoreError::Body(BodyError::Interrupted(error.into()));
    let mut file = file.try_clone().map_err(failed)?;
    file.rewind().map_err(failed)?;
    let file = tokio::fs::File::from_std(file);
    Ok(BlobBody::from_stream(futures::stream::try_unfold(file, move |mut file| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let read = file.read_buf(&mut piece).await.map_err(failed)?;
        Ok((read > 0).then(|| (piece.freeze(), file)))
    })))
}

/// Whether a file can be run.
pub(crate) fn is_executable(metadata: &std::fs::Metadata) -> bool {
    metadata.permissions().mode() & 0o111 != 0
}

/// A text of the cache.
pub(crate) async fn text(server: &RemoteStore, digest: &Digest) -> Result<Option<String>, StoreError> {
    const MAX_TEXT_BYTES: usize = 64 << 20;
    let Some(body) = server.read(digest, ByteRange::ALL).await? else {
        return Ok(None);
    };
    Ok(body.collect(MAX_TEXT_BYTES).await?.and_then(|bytes| String::from_utf8(bytes.into()).ok()))
}

/// Puts a blob where a tool would have written it: aside first, hashed, then in one step. `false` when the cache lacks
/// it.
pub(crate) async fn restore(
    server: &RemoteStore,
    digest: &Digest,
    path: &Path,
    executable: bool,
) -> Result<bool, RestoreError> {
    let mut aside = aside(path)?;
    let fetched = fetch(server, digest, &mut aside).await?;
    if fetched {
        place(aside, path, executable)?;
    }
    Ok(fetched)
}

/// Writes a blob while it comes, and hashes it: an error is the end of a file that is not the blob. `false` when the cache
/// lacks it.
pub(crate) async fn fetch(server: &RemoteStore, digest: &Digest, file: &mut impl Write) -> Result<bool, RestoreError> {
    let Some(mut body) = server.read(digest, ByteRange::ALL).await? else {
        return Ok(false);
    };
    let mut hasher = Hasher::new(digest.function(), digest.size_bytes());
    while let Some(piece) = body.next().await.transpose()? {
        hasher.update(&piece);
        file.write_all(&piece)?;
    }
    if hasher.finish() != *digest.hash() {
        return Err(StoreError::Damaged(*digest).into());
    }
    Ok(true)
}

/// Puts bytes there in one step.
pub(crate) fn write(path: &Path, bytes: &[u8], executable: bool) -> io::Result<()> {
    let mut aside = aside(path)?;
    aside.write_all(bytes)?;
    place(aside, path, executable)
}

fn aside(path: &Path) -> io::Result<NamedTempFile> {
    let folder = path.parent().unwrap_or(Path::new("."));
    tempfile::Builder::new().prefix(".twofold-").tempfile_in(folder)
}

fn place(aside: NamedTempFile, path: &Path, executable: bool) -> io::Result<()> {
    let ready = if executable { forks::unshared(|| copied(&aside, path))? } else { aside.into_temp_path() };
    let mode = if executable { 0o755 } else { 0o644 };
    std::fs::set_permissions(&ready, std::fs::Permissions::from_mode(mode))?;
    ready.persist(path).map_err(|error| error.error)
}

/// The same bytes in a file that only this function had open: who was started meanwhile may have the other open still.
fn copied(from: &NamedTempFile, path: &Path) -> io::Result<TempPath> {
    let mut to = aside(path)?;
    io::copy(&mut from.reopen()?, to.as_file_mut())?;
    Ok(to.into_temp_path())
}

/// Why a file was not put back.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RestoreError {
    #[error("the cache failed")]
    Store(#[from] StoreError),
    #[error("the file could not be written")]
    Write(#[from] io::Error),
}

/// All files in a folder that `wanted` picks by name.
pub(crate) fn in_folder(folder: &Path, wanted: impl Fn(&str) -> bool) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&wanted) && entry.file_type()?.is_file() {
            found.push(entry.path());
        }
    }
    found.sort();
    Ok(found)
}
