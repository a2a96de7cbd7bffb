use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use cache_types::directory::Directory;
use cache_types::{ByteRange, Digest, DigestFunction, Hash};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Map, Value, json};
use store::{BlobStore, StoreError};

use crate::nar;
use crate::recent::Weigh;
use crate::records::{NarRecord, Root};
use crate::unpack::MAX_DIRECTORY_BYTES;

/// Folders that are read at once.
const READ_AT_ONCE: usize = 32;

/// A NAR as framing in memory and blobs between: every offset is known without reading a file. Spec: N-75.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) nar: Hash,
    pub(crate) size: u64,
    framing: Bytes,
    segments: Vec<Segment>,
    /// Every blob that the NAR rests on, each once.
    pub(crate) parts: Vec<Digest>,
    /// When all stored bytes of its parts were last read and checked. Held while it is, so that one reader does it for all.
    pub(crate) verified: tokio::sync::Mutex<Option<Instant>>,
}

/// Framing, then a blob.
#[derive(Debug)]
struct Segment {
    /// Where in the NAR the framing begins.
    offset: u64,
    /// Where it is in the plan's framing.
    framing: Range<usize>,
    /// None after the last framing.
    blob: Option<Digest>,
}

/// A run of bytes of the NAR.
#[derive(Debug)]
pub(crate) enum Run {
    Framing(Bytes),
    Blob(Digest, ByteRange),
}

/// Why there is no plan although there is a record.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// A folder is not here, or not what it was.
    #[error("a folder of the NAR is gone")]
    Gone,
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Reads the folders of a NAR and plans it.
pub(crate) async fn load(blobs: &dyn BlobStore, nar: Hash, record: &NarRecord) -> Result<Plan, PlanError> {
    let folders = Folders::load(blobs, &record.root).await?;
    let mut planner =
        Planner { folders: &folders, framing: Vec::new(), written: 0, start: 0, offset: 0, segments: vec![] };
    match &record.root {
        Root::Whole => {
            let whole = Digest::new(nar, record.size).map_err(|_| PlanError::Gone)?;
            planner.blob(whole);
        }
        root => {
            nar::start_nar(&mut planner.framing);
            planner.node(root)?;
        }
    }
    let plan = planner.finish(nar);
    // What does not add up cannot be the NAR.
    if plan.size == record.size { Ok(plan) } else { Err(PlanError::Gone) }
}

/// The listing of a NAR: what lies where in it. Spec: N-33.
pub(crate) async fn listing(blobs: &dyn BlobStore, record: &NarRecord) -> Result<Option<Value>, PlanError> {
    if record.root == Root::Whole {
        return Ok(None);
    }
    let folders = Folders::load(blobs, &record.root).await?;
    let mut framing = Vec::new();
    nar::start_nar(&mut framing);
    let mut offset = 0;
    let root = list(&folders, &record.root, &mut framing, &mut offset)?;
    Ok(Some(json!({ "version": 1, "root": root })))
}

/// The folders of a NAR in memory.
struct Folders(HashMap<Digest, Directory>);

impl Folders {
    async fn load(blobs: &dyn BlobStore, root: &Root) -> Result<Self, PlanError> {
        let mut found = HashMap::new();
        let mut wanted: HashSet<Digest> = HashSet::new();
        if let Root::Directory { digest } = root {
            wanted.insert(*digest);
        }
        while !wanted.is_empty() {
            let reading = wanted
                .drain()
                .map(|digest| async move { read_folder(blobs, &digest).await.map(|directory| (digest, directory)) });
            let read: Vec<(Digest, Directory)> =
                stream::iter(reading.collect::<Vec<_>>()).buffer_unordered(READ_AT_ONCE).try_collect().await?;
            for (digest, directory) in read {
                let below = directory.directories.iter().map(|node| node.digest);
                wanted.extend(below.filter(|below| !found.contains_key(below)));
                found.insert(digest, directory);
            }
            wanted.retain(|digest| !found.contains_key(digest));
        }
        Ok(Self(found))
    }

    fn get(&self, digest: &Digest) -> Result<&Directory, PlanError> {
        self.0.get(digest).ok_or(PlanError::Gone)
    }
}

async fn read_folder(blobs: &dyn BlobStore, digest: &Digest) -> Result<Directory, PlanError> {
    let body = match blobs.read(digest, ByteRange::ALL).await {
        Ok(Some(body)) => body,
        Ok(None) | Err(StoreError::Damaged(_)) => return Err(PlanError::Gone),
        Err(error) => return Err(error.into()),
    };
    match body.collect(MAX_DIRECTORY_BYTES).await {
        Ok(Some(bytes)) => Directory::decode(&bytes, DigestFunction::Sha256).map_err(|_| PlanError::Gone),
        Ok(None) | Err(StoreError::Damaged(_)) => Err(PlanError::Gone),
        Err(error) => Err(error.into()),
    }
}

/// The nodes of a folder in the order of the bytes of their names, whichever of its three lists they are in. Spec: N-71.
fn in_order(directory: &Directory) -> Vec<(&str, Root)> {
    let files = directory
        .files
        .iter()
        .map(|node| (node.name.as_str(), Root::File { digest: node.digest, executable: node.is_executable }));
    let folders =
        directory.directories.iter().map(|node| (node.name.as_str(), Root::Directory { digest: node.digest }));
    let links =
        directory.symlinks.iter().map(|node| (node.name.as_str(), Root::Symlink { target: node.target.clone() }));
    let mut nodes: Vec<(&str, Root)> = files.chain(folders).chain(links).collect();
    nodes.sort_by(|a, b| a.0.as_bytes().cmp(b.0.as_bytes()));
    nodes
}

struct Planner<'a> {
    folders: &'a Folders,
    framing: Vec<u8>,
    /// Framing up to here belongs to segments that are done.
    written: usize,
    /// Where in the NAR the framing after `written` begins.
    start: u64,
    offset: u64,
    segments: Vec<Segment>,
}

impl Planner<'_> {
    fn node(&mut self, node: &Root) -> Result<(), PlanError> {
        match node {
            Root::File { digest, executable } => {
                nar::start_file(&mut self.framing, *executable, digest.size_bytes());
                if !digest.is_empty() {
                    self.blob(*digest);
                }
                nar::end_file(&mut self.framing, digest.size_bytes());
            }
            Root::Symlink { target } => nar::symlink(&mut self.framing, target.as_bytes()),
            Root::Directory { digest } => {
                nar::start_directory(&mut self.framing);
                for (name, node) in in_order(self.folders.get(digest)?) {
                    nar::start_entry(&mut self.framing, name.as_bytes());
                    self.node(&node)?;
                    nar::end_entry(&mut self.framing);
                }
                nar::end_directory(&mut self.framing);
            }
            Root::Whole => return Err(PlanError::Gone),
        }
        Ok(())
    }

    fn blob(&mut self, digest: Digest) {
        self.segment(Some(digest));
    }

    fn segment(&mut self, blob: Option<Digest>) {
        let framing = self.written..self.framing.len();
        let len = framing.len() as u64;
        self.segments.push(Segment { offset: self.start, framing, blob });
        self.written = self.framing.len();
        self.start = self.start.saturating_add(len).saturating_add(blob.map_or(0, |blob| blob.size_bytes()));
        self.offset = self.start;
    }

    fn finish(mut self, nar: Hash) -> Plan {
        self.segment(None);
        let blobs = self.segments.iter().filter_map(|segment| segment.blob);
        let mut seen = HashSet::new();
        let parts = self.folders.0.keys().copied().chain(blobs).filter(|digest| seen.insert(*digest)).collect();
        Plan {
            nar,
            size: self.offset,
            framing: self.framing.into(),
            segments: self.segments,
            parts,
            verified: tokio::sync::Mutex::default(),
        }
    }
}

fn list(folders: &Folders, node: &Root, framing: &mut Vec<u8>, offset: &mut u64) -> Result<Value, PlanError> {
    let mut settle = |framing: &mut Vec<u8>| {
        *offset = offset.saturating_add(framing.len() as u64);
        framing.clear();
        *offset
    };
    match node {
        Root::File { digest, executable } => {
            nar::start_file(framing, *executable, digest.size_bytes());
            let at = settle(framing);
            *offset = offset.saturating_add(digest.size_bytes());
            nar::end_file(framing, digest.size_bytes());
            let mut file = json!({ "type": "regular", "size": digest.size_bytes(), "narOffset": at });
            if *executable {
                file["executable"] = true.into();
            }
            Ok(file)
        }
        Root::Symlink { target } => {
            nar::symlink(framing, target.as_bytes());
            Ok(json!({ "type": "symlink", "target": target }))
        }
        Root::Directory { digest } => {
            nar::start_directory(framing);
            let mut entries = Map::new();
            for (name, node) in in_order(folders.get(digest)?) {
                nar::start_entry(framing, name.as_bytes());
                entries.insert(name.to_owned(), list(folders, &node, framing, offset)?);
                nar::end_entry(framing);
            }
            nar::end_directory(framing);
            Ok(json!({ "type": "directory", "entries": entries }))
        }
        Root::Whole => Err(PlanError::Gone),
    }
}

impl Plan {
    /// The runs of bytes that make up `range`, which lies within the NAR.
    pub(crate) fn runs(self: Arc<Self>, range: Range<u64>) -> impl Iterator<Item = Run> + Send {
        let first = self.segments.partition_point(|segment| segment.offset <= range.start).saturating_sub(1);
        let plan = self.clone();
        (first..self.segments.len())
            .map_while(move |at| {
                let segment = plan.segments.get(at).filter(|segment| segment.offset < range.end)?;
                Some(plan.clip(segment, &range))
            })
            .flatten()
            .flatten()
    }

    fn clip(&self, segment: &Segment, range: &Range<u64>) -> [Option<Run>; 2] {
        let framing_end = segment.offset + segment.framing.len() as u64;
        let framing = overlap(segment.offset..framing_end, range).map(|part| {
            let bytes = self.framing.slice(segment.framing.clone());
            // Offsets within a slice in memory.
            Run::Framing(bytes.slice(part.start as usize..part.end as usize))
        });
        let blob = segment.blob.and_then(|digest| {
            let part = overlap(framing_end..framing_end + digest.size_bytes(), range)?;
            let is_whole = part == (0..digest.size_bytes());
            let within = ByteRange::new(part.start, Some(part.end - part.start));
            Some(Run::Blob(digest, if is_whole { ByteRange::ALL } else { within }))
        });
        [framing, blob]
    }
}

impl Weigh for Plan {
    fn weight(&self) -> usize {
        self.framing.len() + self.segments.len() * size_of::<Segment>() + self.parts.len() * size_of::<Digest>() + 256
    }
}

/// What two ranges share, counted from the start of the first.
fn overlap(part: Range<u64>, range: &Range<u64>) -> Option<Range<u64>> {
    let (start, end) = (part.start.max(range.start), part.end.min(range.end));
    (start < end).then(|| start - part.start..end - part.start)
}
