//! Applies what a result changed to a folder.

use std::path::Path;

use anyhow::{Context, bail};
use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use prompt_cache::proto::{FileOp, OpKind};
use reapi::client::RemoteStore;
use store::{BlobStore, Verifying};

use super::folder::{self, Before, Folder, Unnamed};

/// What an operation will do, checked and with its bytes here.
enum Step {
    Write(Unnamed),
    Delete,
    Rename,
    Chmod,
    Symlink,
}

/// Applies the operations. Every path is checked and every blob is here before the first file changes; each file changes
/// at once, and only if it is still what it was before.
pub async fn apply(store: &RemoteStore, folder: &Path, ops: &[FileOp]) -> anyhow::Result<()> {
    let folder = Folder::open(folder)?;
    let store = Verifying::new(store.clone());
    let mut steps = Vec::new();
    for op in ops {
        steps.push((op, step(&store, &folder, op).await.with_context(|| format!("{:?}", op.path))?));
    }
    for (op, step) in steps {
        take(&folder, op, step).with_context(|| format!("{:?}", op.path))?;
    }
    Ok(())
}

async fn step(store: &Verifying<RemoteStore>, folder: &Folder, op: &FileOp) -> anyhow::Result<Step> {
    folder.check(&op.path)?;
    match op.op() {
        OpKind::Write => {
            let digest: Digest = op.after.parse().context("the digest after it is not well formed")?;
            Ok(Step::Write(fetch(store, folder, &digest, mode(op, folder)?).await?))
        }
        OpKind::Delete => Ok(Step::Delete),
        OpKind::Rename => {
            folder.check(&op.source)?;
            Ok(Step::Rename)
        }
        OpKind::Chmod => Ok(Step::Chmod),
        OpKind::Symlink => {
            let target =
                op.path.rsplit_once('/').map_or(op.source.clone(), |(parent, _)| format!("{parent}/{}", op.source));
            if op.source.starts_with('/') || leaves(&target) {
                bail!("the link would point out of the folder, to {}", op.source);
            }
            Ok(Step::Symlink)
        }
        OpKind::OpUnspecified => bail!("the operation has no kind"),
    }
}

fn take(folder: &Folder, op: &FileOp, step: Step) -> anyhow::Result<()> {
    let before = match op.before.as_str() {
        "" => Before::Absent,
        digest => Before::File(digest.parse().context("the digest before it is not well formed")?),
    };
    match step {
        Step::Write(file) => folder.name(file, &op.path, &before),
        Step::Delete => folder.remove(&op.path, &before),
        Step::Rename => folder.rename(&op.source, &op.path, &before),
        Step::Chmod => folder.chmod(&op.path, op.mode, &before),
        Step::Symlink => folder.link(&op.source, &op.path, &before),
    }
}

/// The permissions that are recorded, or those of the file that is there, or the usual ones.
fn mode(op: &FileOp, folder: &Folder) -> anyhow::Result<u32> {
    match op.mode {
        0 => Ok(folder.mode(&op.path)?.unwrap_or(0o644)),
        mode => Ok(mode & 0o777),
    }
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

async fn fetch(store: &Verifying<RemoteStore>, folder: &Folder, digest: &Digest, mode: u32) -> anyhow::Result<Unnamed> {
    let body = store.read(digest, ByteRange::ALL).await?;
    let mut body = body.with_context(|| format!("the cache has no blob {digest} any more"))?;
    let (unnamed, file) = folder.unnamed_file(mode)?;
    while let Some(piece) = body.next().await.transpose()? {
        folder::write(&file, &piece)?;
    }
    Ok(unnamed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_that_lead_above_the_folder_are_told() {
        assert!(leaves("a/../../b") && leaves("..") && !leaves("a/../b") && !leaves("a/b/../c"));
    }
}
