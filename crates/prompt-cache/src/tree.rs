use std::collections::{BTreeMap, BTreeSet};

use cache_types::{ByteRange, Digest};
use prost::Message;
use store::StoreError;

use crate::cache::Inner;
use crate::files::{ABSENT, listing_digest};
use crate::glob::Glob;

/// The largest encoded directory that is read.
const MAX_DIRECTORY_BYTES: usize = 16 * 1024 * 1024;

/// Folders that one pattern may lead into.
const MAX_FOLDERS: usize = 20_000;

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
    if let Some(glob) = Glob::of_place(place) {
        let Ok(glob) = glob else { return Ok(None) };
        return Ok(matched(inner, known, &glob).await?.map(|paths| Glob::digest(paths).to_string()));
    }
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

/// The paths of files and links that a pattern matches; `None` when a folder that it leads into is not in the cache.
async fn matched(
    inner: &Inner,
    known: &mut BTreeMap<String, Option<Directory>>,
    glob: &Glob,
) -> Result<Option<BTreeSet<String>>, StoreError> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![String::new()];
    let mut seen = 0;
    while let Some(folder) = folders.pop() {
        seen += 1;
        let Found::Directory(directory) = walk(inner, known, &folder).await? else { return Ok(None) };
        if seen > MAX_FOLDERS {
            return Ok(None);
        }
        let below = |name: &str| if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") };
        let names =
            directory.files.iter().map(|node| &node.name).chain(directory.symlinks.iter().map(|link| &link.name));
        paths.extend(names.map(|name| below(name)).filter(|path| glob.matches(path)));
        let inner = directory.directories.iter().map(|node| below(&node.name));
        folders.extend(inner.filter(|folder| glob.may_match_below(folder)));
    }
    Ok(Some(paths))
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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cache_types::DigestFunction;
    use store::{BlobBody, BlobStore, MemoryStore};

    use super::*;
    use crate::{PromptCache, Secret, Settings};

    fn node(name: &str, digest: Digest) -> Node {
        let digest = NodeDigest { hash: digest.hash().to_string(), size_bytes: digest.size_i64() };
        Node { name: name.to_owned(), digest: Some(digest) }
    }

    fn file(name: &str) -> Node {
        node(name, Digest::of(DigestFunction::Sha256, name.as_bytes()))
    }

    async fn put(store: &MemoryStore, directory: &Directory) -> Digest {
        let bytes = bytes::Bytes::from(directory.encode_to_vec());
        let digest = Digest::of(DigestFunction::Sha256, &bytes);
        store.write(digest, BlobBody::from(bytes)).await.expect("a blob");
        digest
    }

    #[tokio::test]
    async fn each_place_below_a_directory_has_its_state() {
        let store = Arc::new(MemoryStore::default());
        let cache = PromptCache::new(store.clone(), store.clone(), Secret([1; 32]), Settings::default());
        let deep = Directory { files: vec![file("b.rs"), file("c.md")], ..Directory::default() };
        let link = Symlink { name: "l.rs".to_owned(), target: "a.rs".to_owned() };
        let gone = Digest::of(DigestFunction::Sha256, b"a directory that is not here");
        let source = Directory {
            files: vec![file("a.rs")],
            directories: vec![node("deep", put(&store, &deep).await)],
            symlinks: vec![link],
        };
        let root = Directory {
            directories: vec![node("gone", gone), node("src", put(&store, &source).await)],
            files: vec![file("top.rs")],
            ..Directory::default()
        };
        let root = put(&store, &root).await;
        let all =
            |paths: &[&str]| Some(Glob::digest(paths.iter().map(|path| (*path).to_owned()).collect()).to_string());
        for (place, expected) in [
            ("top.rs", Some(Digest::of(DigestFunction::Sha256, b"top.rs").to_string())),
            ("src/no.rs", Some(ABSENT.to_owned())),
            ("src/deep", None),
            ("src/l.rs", None),
            ("gone/x", None),
            ("src/", Some(listing(&source).to_string())),
            ("glob:*.rs", all(&["top.rs"])),
            ("glob:src/**/*.rs", all(&["src/a.rs", "src/deep/b.rs", "src/l.rs"])),
            ("glob:src/**/*.py", all(&[])),
            // It would have to look into a directory that is not here.
            ("glob:**/*.rs", None),
        ] {
            let states = states(&cache.0, &root, &[place.to_owned()]).await.expect("an answer");
            assert_eq!(states.get(place), expected.as_ref(), "{place}");
        }
    }
}
