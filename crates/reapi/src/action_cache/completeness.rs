use std::collections::HashSet;

use cache_types::{ByteRange, Digest, DigestFunction};
use futures::StreamExt;
use store::StoreError;
use tonic::Status;

use crate::convert::DigestReader;
use crate::core::Core;
use crate::directories::{Visit, Walk};
use crate::status;
use crate::tree::{MAX_TREE_BYTES, TreeError, TreeParser};
use crate::validate::Named;

/// The most blobs that one action result may stand for.
const MAX_BLOBS: usize = 2_000_000;

/// Whether all that an action result stands for is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Completeness {
    /// All of it.
    Complete,
    /// Not all of it, or more than is looked at.
    Incomplete,
    /// A tree that it names is none.
    Malformed,
}

/// Looks at all that a result stands for, in one question to the store, so that what is here lives longer; tells what it
/// looked at. Spec.
pub(crate) async fn check(
    core: &Core,
    named: Named,
    function: DigestFunction,
) -> Result<(Completeness, Vec<Digest>), Status> {
    let (blobs, worst) = gather(core, named, function).await?;
    let presence = presence(core, &blobs).await?;
    Ok((presence.max(worst), blobs))
}

/// Whether all of these are here; they live longer then.
pub(super) async fn presence(core: &Core, blobs: &[Digest]) -> Result<Completeness, Status> {
    let missing = core.missing(blobs).await.map_err(status::from_store)?;
    Ok(if missing.is_empty() { Completeness::Complete } else { Completeness::Incomplete })
}

/// All that a result stands for, as far as the trees that it names are here; how whole that is, presence aside.
pub(crate) async fn gather(
    core: &Core,
    named: Named,
    function: DigestFunction,
) -> Result<(Vec<Digest>, Completeness), Status> {
    let mut gathering = Gathering { blobs: HashSet::new(), worst: Completeness::Complete };
    gathering.blobs.extend(named.blobs);
    for tree in named.trees.into_iter().collect::<HashSet<_>>() {
        gathering.add(vec![tree]);
        gathering.tree(core, tree, function).await?;
    }
    for root in named.directories.into_iter().collect::<HashSet<_>>() {
        gathering.directories(core, root).await?;
    }
    Ok((gathering.blobs.into_iter().collect(), gathering.worst))
}

struct Gathering {
    blobs: HashSet<Digest>,
    worst: Completeness,
}

impl Gathering {
    fn add(&mut self, blobs: Vec<Digest>) {
        if self.blobs.len() + blobs.len() > MAX_BLOBS {
            self.found(Completeness::Incomplete);
        } else {
            self.blobs.extend(blobs);
        }
    }

    fn found(&mut self, completeness: Completeness) {
        self.worst = self.worst.max(completeness);
    }

    /// The files of a `Tree`, which is read as a stream.
    async fn tree(&mut self, core: &Core, tree: Digest, function: DigestFunction) -> Result<(), Status> {
        match read_tree(core, &tree, function).await {
            Ok(Some(files)) => self.add(files),
            Ok(None) | Err(TreeFault::Tree(TreeError::TooLarge) | TreeFault::Store(StoreError::Damaged(_))) => {
                self.found(Completeness::Incomplete);
            }
            Err(TreeFault::Tree(_)) => self.found(Completeness::Malformed),
            Err(TreeFault::Store(error)) => return Err(status::from_store(error)),
        }
        Ok(())
    }

    /// The directories below a root, and their files.
    async fn directories(&mut self, core: &Core, root: Digest) -> Result<(), Status> {
        let mut walk = Walk::new(root);
        while let Some(visit) = walk.next(core).await? {
            match visit {
                Visit::Directory(directory) => self.add(directory.files),
                Visit::Missing => self.found(Completeness::Incomplete),
                Visit::Broken => self.found(Completeness::Malformed),
            }
        }
        if walk.is_cut() {
            self.found(Completeness::Incomplete);
        }
        Ok(())
    }
}

enum TreeFault {
    Tree(TreeError),
    Store(StoreError),
}

async fn read_tree(core: &Core, tree: &Digest, function: DigestFunction) -> Result<Option<Vec<Digest>>, TreeFault> {
    if tree.size_bytes() > MAX_TREE_BYTES as u64 {
        return Ok(None);
    }
    let Some(mut body) = core.blobs.read(tree, ByteRange::ALL).await.map_err(TreeFault::Store)? else {
        return Ok(None);
    };
    let mut parser = TreeParser::new(DigestReader::of(function));
    while let Some(piece) = body.next().await.transpose().map_err(TreeFault::Store)? {
        parser.push(&piece).map_err(TreeFault::Tree)?;
    }
    parser.finish().map(Some).map_err(TreeFault::Tree)
}
