use std::collections::BTreeMap;

use cache_types::{ByteRange, Digest};
use prost::Message;
use store::StoreError;

use crate::cache::Inner;
use crate::files::{ABSENT, listing_digest};

/// The largest encoded directory that is read.
const MAX_DIRECTORY_BYTES: usize = 16 * 1024 * 1024;

/// What is read of a Directory of the Remote Execution API.
#[derive(Clone, PartialEq, Message)]
struct Directory {
    #[prost(message, repeated, tag = "1")]
    files: Vec<Node>,
    #[prost(message, repeated, tag = "2")]
    directories: Vec<Node>,
    #[prost(message, repeated, tag = "3")]
    symlinks: Vec<Symlink>,
}

#[derive(Clone, PartialEq, Message)]
struct Node {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    digest: Option<NodeDigest>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeDigest {
    #[prost(string, tag = "1")]
    hash: String,
    #[prost(int64, tag = "2")]
    size_bytes: i64,
}

#[derive(Clone, PartialEq, Message)]
struct Symlink {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    target: String,
}

impl Node {
    fn digest(&self) -> Option<Digest> {
        let digest = self.digest.as_ref()?;
        Digest::parse(None, &digest.hash, digest.size_bytes).ok()
    }
}

/// The state of each place in the tree below a Directory; a place that cannot be told is left out.
pub(crate) async fn states(
    inner: &Inner,
    root: &Digest,
    places: &[String],
) -> Result<BTreeMap<String, String>, StoreError> {
    let mut known: BTreeMap<String, Option<Directory>> = BTreeMap::new();
    known.insert(String::new(), directory(inner, root).await?);
    let mut states = BTreeMap::new();
    for place in places {
        if let Some(state) = state(inner, &mut known, place).await? {
            states.insert(place.clone(), state);
        }
    }
    Ok(states)
}

async fn state(
    inner: &Inner,
    known: &mut BTreeMap<String, Option<Directory>>,
    place: &str,
) -> Result<Option<String>, StoreError> {
    let listed = place.strip_suffix('/');
    let path = listed.unwrap_or(place).trim_start_matches("./");
    let (folder, name) = match (path, listed) {
        (".", Some(_)) => ("", None),
        (path, Some(_)) => (path, None),
        (path, None) => path.rsplit_once('/').map_or(("", Some(path)), |(folder, name)| (folder, Some(name))),
    };
    let Found::Directory(directory) = walk(inner, known, folder).await? else {
        return Ok(name.map(|_| ABSENT.to_owned()).filter(|_| matches!(walk_known(known, folder), Found::Absent)));
    };
    let Some(name) = name else { return Ok(Some(listing(&directory).to_string())) };
    let is_other = directory.directories.iter().any(|node| node.name == name)
        || directory.symlinks.iter().any(|link| link.name == name);
    match directory.files.iter().find(|node| node.name == name) {
        Some(file) => Ok(file.digest().map(|digest| digest.to_string())),
        None if is_other => Ok(None),
        None => Ok(Some(ABSENT.to_owned())),
    }
}

fn listing(directory: &Directory) -> Digest {
    let folders = directory.directories.iter().map(|node| format!("{}/", node.name));
    let files = directory.files.iter().map(|node| node.name.clone());
    listing_digest(folders.chain(files).chain(directory.symlinks.iter().map(|link| link.name.clone())).collect())
}

/// What stands at a path of folders.
enum Found {
    Directory(Directory),
    /// Nothing.
    Absent,
    /// Something that is no folder, or a folder that is not in the cache.
    Unknown,
}

/// Reads the folders of a path as far as they are not known.
async fn walk(
    inner: &Inner,
    known: &mut BTreeMap<String, Option<Directory>>,
    folder: &str,
) -> Result<Found, StoreError> {
    let mut at = String::new();
    for segment in folder.split('/').filter(|segment| !segment.is_empty()) {
        let Some(Some(parent)) = known.get(&at) else { break };
        let next = if at.is_empty() { segment.to_owned() } else { format!("{at}/{segment}") };
        let child = parent.directories.iter().find(|node| node.name == segment).and_then(Node::digest);
        if let (Some(digest), false) = (child, known.contains_key(&next)) {
            let read = directory(inner, &digest).await?;
            known.insert(next.clone(), read);
        }
        at = next;
    }
    Ok(walk_known(known, folder))
}

fn walk_known(known: &BTreeMap<String, Option<Directory>>, folder: &str) -> Found {
    let Some(Some(mut current)) = known.get("").cloned() else { return Found::Unknown };
    let mut at = String::new();
    for segment in folder.split('/').filter(|segment| !segment.is_empty()) {
        let is_other = current.files.iter().any(|node| node.name == segment)
            || current.symlinks.iter().any(|link| link.name == segment);
        at = if at.is_empty() { segment.to_owned() } else { format!("{at}/{segment}") };
        match known.get(&at) {
            Some(Some(child)) => current = child.clone(),
            Some(None) => return Found::Unknown,
            None if is_other || current.directories.iter().any(|node| node.name == segment) => return Found::Unknown,
            None => return Found::Absent,
        }
    }
    Found::Directory(current)
}

async fn directory(inner: &Inner, digest: &Digest) -> Result<Option<Directory>, StoreError> {
    if digest.size_bytes() > MAX_DIRECTORY_BYTES as u64 {
        return Ok(None);
    }
    match inner.blobs.read(digest, ByteRange::ALL).await {
        Ok(Some(body)) => Ok(body.collect(MAX_DIRECTORY_BYTES).await?.and_then(|bytes| Directory::decode(bytes).ok())),
        Ok(None) | Err(StoreError::Damaged(_)) => Ok(None),
        Err(error) => Err(error),
    }
}
