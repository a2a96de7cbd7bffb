use std::collections::HashSet;

use cache_types::directory::{Directory, DirectoryNode, FileNode, SymlinkNode};
use cache_types::{Digest, DigestFunction, Hasher};

use super::{Part, Place};
use crate::nar::Event;
use crate::records::Root;

/// More files, folders and links are not taken apart, so that memory stays bounded.
const MAX_NODES: usize = 500_000;
/// More bytes of folders are not either.
const MAX_ENCODED_BYTES: usize = 128 * 1024 * 1024;
/// The longest encoded folder: it is read whole when the NAR is rendered.
pub(crate) const MAX_DIRECTORY_BYTES: usize = 16 * 1024 * 1024;

/// Makes blobs and folders of what a NAR holds; gives up where a `Directory` cannot hold it. Spec: N-70, N-72.
#[derive(Default)]
pub(super) struct TreeBuilder {
    open: Vec<Open>,
    /// The name of the next node; empty for the root.
    name: String,
    file: Option<OpenFile>,
    parts: Vec<Part>,
    seen: HashSet<Digest>,
    nodes: usize,
    encoded_bytes: usize,
    root: Option<Root>,
    /// What is in the NAR does not fit the form.
    unfit: bool,
}

#[derive(Default)]
struct Open {
    name: String,
    directory: Directory,
}

struct OpenFile {
    is_executable: bool,
    size_bytes: u64,
    offset: u64,
    hasher: Hasher,
}

impl TreeBuilder {
    pub(super) fn take(&mut self, event: Event<'_>) {
        if self.unfit {
            return;
        }
        match event {
            Event::Directory => {
                let name = std::mem::take(&mut self.name);
                self.open.push(Open { name, directory: Directory::default() });
            }
            Event::Entry(name) => match std::str::from_utf8(name) {
                Ok(name) => name.clone_into(&mut self.name),
                Err(_) => self.give_up(),
            },
            Event::DirectoryEnd => self.end_directory(),
            Event::File { is_executable, size_bytes, offset } => {
                let hasher = Hasher::new(DigestFunction::Sha256, size_bytes);
                self.file = Some(OpenFile { is_executable, size_bytes, offset, hasher });
            }
            Event::Data(data) => {
                if let Some(file) = &mut self.file {
                    file.hasher.update(data);
                }
            }
            Event::FileEnd => self.end_file(),
            Event::Symlink(target) => match std::str::from_utf8(target) {
                Ok(target) => self.put(Root::Symlink { target: target.to_owned() }),
                Err(_) => self.give_up(),
            },
        }
    }

    /// The root and the parts; the whole NAR, and no parts, where they do not fit.
    pub(super) fn finish(self) -> (Root, Vec<Part>) {
        match self.root {
            Some(root) if !self.unfit => (root, self.parts),
            _ => (Root::Whole, Vec::new()),
        }
    }

    fn give_up(&mut self) {
        *self = Self { unfit: true, ..Self::default() };
    }

    fn end_file(&mut self) {
        let Some(file) = self.file.take() else { return };
        let Ok(digest) = Digest::new(file.hasher.finish(), file.size_bytes) else {
            return self.give_up();
        };
        self.part(digest, Place::Nar(file.offset));
        self.put(Root::File { digest, executable: file.is_executable });
    }

    fn end_directory(&mut self) {
        let Some(open) = self.open.pop() else { return };
        let encoded = open.directory.encode();
        self.encoded_bytes += encoded.len();
        if encoded.len() > MAX_DIRECTORY_BYTES || self.encoded_bytes > MAX_ENCODED_BYTES {
            return self.give_up();
        }
        let digest = Digest::of(DigestFunction::Sha256, &encoded);
        self.part(digest, Place::Encoded(encoded.into()));
        self.name = open.name;
        self.put(Root::Directory { digest });
    }

    fn part(&mut self, digest: Digest, place: Place) {
        if !digest.is_empty() && self.seen.insert(digest) {
            self.parts.push(Part { digest, place });
        }
    }

    /// Puts a node under its name into the folder that is open; the root has neither.
    fn put(&mut self, node: Root) {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return self.give_up();
        }
        let name = std::mem::take(&mut self.name);
        let Some(Open { directory, .. }) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match node {
            Root::File { digest, executable } => {
                directory.files.push(FileNode { name, digest, is_executable: executable });
            }
            Root::Symlink { target } => directory.symlinks.push(SymlinkNode { name, target }),
            Root::Directory { digest } => directory.directories.push(DirectoryNode { name, digest }),
            Root::Whole => {}
        }
    }
}
