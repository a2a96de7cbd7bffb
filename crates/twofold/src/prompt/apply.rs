//! Writes the files of a result into a folder, and nowhere else.

use std::fs::{self, Permissions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use prompt_cache::proto::{FileOp, OpKind};
use reapi::client::RemoteStore;
use store::{BlobStore, Verifying};
use tempfile::NamedTempFile;

/// What an operation will do, checked and with its bytes here.
enum Step {
    Write(NamedTempFile, PathBuf),
    Delete(PathBuf),
    Rename(PathBuf, PathBuf),
    Chmod(PathBuf, u32),
    Symlink(String, PathBuf),
}

/// Applies the operations. Every path is checked and every blob is here before the first file changes; each file changes
/// at once.
pub async fn apply(store: &RemoteStore, folder: &Path, ops: &[FileOp]) -> anyhow::Result<()> {
    let folder = folder.canonicalize().with_context(|| format!("cannot use {}", folder.display()))?;
    let store = Verifying::new(store.clone());
    let mut steps = Vec::new();
    for op in ops {
        steps.push(step(&store, &folder, op).await.with_context(|| format!("{:?}", op.path))?);
    }
    for step in steps {
        take(step)?;
    }
    Ok(())
}

async fn step(store: &Verifying<RemoteStore>, folder: &Path, op: &FileOp) -> anyhow::Result<Step> {
    let path = inside(folder, &op.path)?;
    match op.op() {
        OpKind::Write => {
            let digest: Digest = op.after.parse().context("the digest after it is not well formed")?;
            Ok(Step::Write(fetch(store, folder, &digest, mode(op, &path)).await?, path))
        }
        OpKind::Delete => Ok(Step::Delete(path)),
        OpKind::Rename => Ok(Step::Rename(inside(folder, &op.source)?, path)),
        OpKind::Chmod => Ok(Step::Chmod(path, op.mode)),
        OpKind::Symlink => {
            let target =
                op.path.rsplit_once('/').map_or(op.source.clone(), |(parent, _)| format!("{parent}/{}", op.source));
            if op.source.starts_with('/') || leaves(&target) {
                bail!("the link would point out of the folder, to {}", op.source);
            }
            Ok(Step::Symlink(op.source.clone(), path))
        }
        OpKind::OpUnspecified => bail!("the operation has no kind"),
    }
}

/// The permissions that are recorded, or those of the file that is there, or the usual ones.
fn mode(op: &FileOp, path: &Path) -> u32 {
    match (op.mode, fs::symlink_metadata(path)) {
        (0, Ok(metadata)) if metadata.is_file() => metadata.permissions().mode() & 0o777,
        (0, _) => 0o644,
        (mode, _) => mode & 0o777,
    }
}

/// The path below the folder, refused when it could be elsewhere: by `..`, or by a symbolic link on the way.
fn inside(folder: &Path, path: &str) -> anyhow::Result<PathBuf> {
    let segments: Vec<&str> = path.split('/').collect();
    if segments.iter().any(|segment| matches!(*segment, "" | "." | "..") || segment.contains('\0')) {
        bail!("it is no relative path without . and ..");
    }
    let mut full = folder.to_owned();
    for (index, segment) in segments.iter().enumerate() {
        full.push(segment);
        let is_last = index + 1 == segments.len();
        match fs::symlink_metadata(&full) {
            Ok(metadata) if !is_last && metadata.file_type().is_symlink() => {
                bail!("{} is a symbolic link; nothing is written through it", full.display());
            }
            Ok(metadata) if !is_last && !metadata.is_dir() => bail!("{} is no folder", full.display()),
            Ok(metadata) if is_last && metadata.is_dir() => bail!("there is a folder of that name"),
            _ => {}
        }
    }
    Ok(full)
}

/// Whether a relative path of links leads above its start.
fn leaves(path: &str) -> bool {
    let mut depth = 0_i64;
    path.split('/').any(|segment| {
        depth += match segment {
            "" | "." => 0,
            ".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

async fn fetch(
    store: &Verifying<RemoteStore>,
    folder: &Path,
    digest: &Digest,
    mode: u32,
) -> anyhow::Result<NamedTempFile> {
    let body = store.read(digest, ByteRange::ALL).await?;
    let mut body = body.with_context(|| format!("the cache has no blob {digest} any more"))?;
    let mut file = tempfile::Builder::new()
        .prefix(".twofold-")
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(folder)
        .context("cannot write in the folder")?;
    while let Some(piece) = body.next().await.transpose()? {
        file.write_all(&piece)?;
    }
    file.flush()?;
    // The umask does not apply to what was recorded.
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    Ok(file)
}

fn take(step: Step) -> anyhow::Result<()> {
    let parent = |path: &Path| match path.parent() {
        Some(parent) => fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display())),
        None => Ok(()),
    };
    match step {
        Step::Write(file, path) => {
            parent(&path)?;
            file.persist(&path).with_context(|| format!("cannot name the file {}", path.display()))?;
        }
        Step::Delete(path) => fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?,
        Step::Rename(from, to) => {
            parent(&to)?;
            fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
        }
        Step::Chmod(path, mode) => fs::set_permissions(&path, Permissions::from_mode(mode & 0o777))
            .with_context(|| format!("cannot change the mode of {}", path.display()))?,
        Step::Symlink(target, path) => {
            parent(&path)?;
            symlink(&target, &path).with_context(|| format!("cannot link {}", path.display()))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        fs::create_dir(root.join("real")).expect("a folder");
        symlink("/tmp", root.join("link")).expect("a link");
        symlink("real", root.join("near")).expect("a link");
        fs::write(root.join("file"), "x").expect("a file");
        for path in ["../x", "/etc/x", "a/../../x", "./x", "a//b", "", "link/x", "near/x", "file/x", "real", "a\0b"] {
            assert!(inside(root, path).is_err(), "{path}");
        }
        for path in ["x", "real/x", "new/deep/x", "link"] {
            assert!(inside(root, path).is_ok(), "{path}");
        }
        assert!(leaves("a/../../b") && leaves("..") && !leaves("a/../b") && !leaves("a/b/../c"));
    }
}
