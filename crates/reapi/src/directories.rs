use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use cache_types::Digest;
use futures::future::try_join_all;
use prost::Message;
use tonic::Status;

use crate::convert::DigestReader;
use crate::core::Core;
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::wire::DirectoryLinks;

/// The largest directory that is looked into: one that a message can carry with room for a token.
const MAX_DIRECTORY_BYTES: usize = MAX_OUTBOUND_BYTES - 64 * 1024;

/// The most directories of one walk. Spec: R-099.
const MAX_DIRECTORIES: usize = 1_000_000;

/// The deepest directory of one walk; the root is at 0. Spec: R-099.
const MAX_DEPTH: usize = 10_000;

/// The directories read at a time.
const READ_AHEAD: usize = 16;

/// A walk over stored `Directory` messages, breadth first from the root, each distinct one once.
pub(crate) struct Walk {
    waiting: VecDeque<(Digest, usize)>,
    seen: HashSet<Digest>,
    ready: VecDeque<Visit>,
    is_cut: bool,
}

/// One step of a walk.
pub(crate) enum Visit {
    /// A directory that is here.
    Directory(Directory),
    /// A directory that is not here, or too large to be looked into.
    Missing,
    /// A blob that is here and is no directory.
    Broken,
}

/// A directory as it is stored, and the files it names.
pub(crate) struct Directory {
    pub(crate) encoded: Bytes,
    pub(crate) files: Vec<Digest>,
}

impl Walk {
    pub(crate) fn new(root: Digest) -> Self {
        Self { waiting: [(root, 0)].into(), seen: [root].into(), ready: VecDeque::new(), is_cut: false }
    }

    /// Whether directories were left out because the tree is too deep or has too many of them.
    pub(crate) fn is_cut(&self) -> bool {
        self.is_cut
    }

    /// The next directory; `None` after the last.
    pub(crate) async fn next(&mut self, core: &Core) -> Result<Option<Visit>, Status> {
        if self.ready.is_empty() {
            self.read_ahead(core).await?;
        }
        Ok(self.ready.pop_front())
    }

    /// Reads the first of those that wait; the order is that of one by one.
    async fn read_ahead(&mut self, core: &Core) -> Result<(), Status> {
        let batch: Vec<_> = self.waiting.drain(..self.waiting.len().min(READ_AHEAD)).collect();
        let read = try_join_all(batch.iter().map(|(digest, _)| core.whole(digest, MAX_DIRECTORY_BYTES))).await?;
        for ((digest, depth), encoded) in batch.into_iter().zip(read) {
            let visit = self.visit(&digest, depth, encoded);
            self.ready.push_back(visit);
        }
        Ok(())
    }

    fn visit(&mut self, digest: &Digest, depth: usize, encoded: Option<Bytes>) -> Visit {
        let Some(encoded) = encoded else {
            return Visit::Missing;
        };
        let Some((files, directories)) = links(digest, encoded.clone()) else {
            return Visit::Broken;
        };
        for child in directories {
            if self.seen.contains(&child) {
                continue;
            }
            if depth == MAX_DEPTH || self.seen.len() == MAX_DIRECTORIES {
                self.is_cut = true;
                break;
            }
            self.seen.insert(child);
            self.waiting.push_back((child, depth + 1));
        }
        Visit::Directory(Directory { encoded, files })
    }
}

/// The files and directories that a directory names, all of its own function; `None` when it is none.
fn links(digest: &Digest, encoded: Bytes) -> Option<(Vec<Digest>, Vec<Digest>)> {
    let links = DirectoryLinks::decode(encoded).ok()?;
    let mut reader = DigestReader::of(digest.function());
    let mut read = |links: Vec<crate::wire::Link>| -> Option<Vec<Digest>> {
        links.iter().map(|link| reader.read(link.digest.as_ref()?).ok()).collect()
    };
    Some((read(links.files)?, read(links.directories)?))
}
