//! A folder as the Remote Execution API stores it, one blob each: its canonical bytes, and reading those.
//!
//! Written by hand, so that a crate without protobuf can store folders that build clients can read. Only names, digests,
//! the executable bit and targets of links; a message with anything else is refused. Spec: R-140, N-70.

use crate::{Digest, DigestError, DigestFunction};

/// What a folder holds; each list sorted by the bytes of the names, no name twice in all.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Directory {
    /// Files.
    pub files: Vec<FileNode>,
    /// Folders.
    pub directories: Vec<DirectoryNode>,
    /// Symbolic links.
    pub symlinks: Vec<SymlinkNode>,
}

/// A file in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileNode {
    /// Its name.
    pub name: String,
    /// Its content.
    pub digest: Digest,
    /// Whether it may be executed.
    pub is_executable: bool,
}

/// A folder in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryNode {
    /// Its name.
    pub name: String,
    /// Its encoded form.
    pub digest: Digest,
}

/// A symbolic link in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SymlinkNode {
    /// Its name.
    pub name: String,
    /// Where it points.
    pub target: String,
}

impl Directory {
    /// The canonical bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for file in &self.files {
            let mut node = Vec::new();
            put_bytes(&mut node, 1, file.name.as_bytes());
            put_digest(&mut node, &file.digest);
            if file.is_executable {
                put_number(&mut node, 4, 1);
            }
            put_message(&mut out, 1, &node);
        }
        for directory in &self.directories {
            let mut node = Vec::new();
            put_bytes(&mut node, 1, directory.name.as_bytes());
            put_digest(&mut node, &directory.digest);
            put_message(&mut out, 2, &node);
        }
        for symlink in &self.symlinks {
            let mut node = Vec::new();
            put_bytes(&mut node, 1, symlink.name.as_bytes());
            put_bytes(&mut node, 2, symlink.target.as_bytes());
            put_message(&mut out, 3, &node);
        }
        out
    }

    /// Reads canonical bytes whose digests were made with `function`.
    ///
    /// # Errors
    /// [`DirectoryError`] for anything that [`Directory::encode`] would not have written so.
    pub fn decode(bytes: &[u8], function: DigestFunction) -> Result<Self, DirectoryError> {
        let mut directory = Self::default();
        let mut rest = bytes;
        while !rest.is_empty() {
            match take_field(&mut rest)? {
                (1, Value::Bytes(node)) => directory.files.push(file(node, function)?),
                (2, Value::Bytes(node)) => directory.directories.push(folder(node, function)?),
                (3, Value::Bytes(node)) => directory.symlinks.push(symlink(node)?),
                _ => return Err(DirectoryError::Field),
            }
        }
        if directory.is_sorted() && directory.encode() == bytes { Ok(directory) } else { Err(DirectoryError::Order) }
    }

    fn is_sorted(&self) -> bool {
        self.files.is_sorted_by(|a, b| a.name < b.name)
            && self.directories.is_sorted_by(|a, b| a.name < b.name)
            && self.symlinks.is_sorted_by(|a, b| a.name < b.name)
    }
}

enum Value<'a> {
    Bytes(&'a [u8]),
    Number(u64),
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

fn put_message(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// A string; one that is empty is not written.
fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    if !bytes.is_empty() {
        put_message(out, field, bytes);
    }
}

fn put_digest(out: &mut Vec<u8>, digest: &Digest) {
    let mut message = Vec::new();
    put_bytes(&mut message, 1, digest.hash().to_string().as_bytes());
    if digest.size_bytes() != 0 {
        put_number(&mut message, 2, digest.size_bytes());
    }
    put_message(out, 2, &message);
}

fn take_varint(bytes: &mut &[u8]) -> Result<u64, DirectoryError> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or(DirectoryError::Torn)?;
        *bytes = rest;
        let bits = u64::from(byte & 0x7f);
        number |= bits.checked_shl(shift).filter(|wide| wide >> shift == bits).ok_or(DirectoryError::Torn)?;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(DirectoryError::Torn)
}

fn take_field<'a>(bytes: &mut &'a [u8]) -> Result<(u64, Value<'a>), DirectoryError> {
    let key = take_varint(bytes)?;
    let number = take_varint(bytes)?;
    match key & 7 {
        0 => Ok((key >> 3, Value::Number(number))),
        2 => {
            let len = usize::try_from(number).map_err(|_| DirectoryError::Torn)?;
            let (value, rest) = bytes.split_at_checked(len).ok_or(DirectoryError::Torn)?;
            *bytes = rest;
            Ok((key >> 3, Value::Bytes(value)))
        }
        _ => Err(DirectoryError::Field),
    }
}

fn text(bytes: &[u8]) -> Result<String, DirectoryError> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| DirectoryError::Text)
}

/// Name, digest and executable bit, as far as they are there.
fn named(mut node: &[u8], function: DigestFunction) -> Result<(String, Digest, bool), DirectoryError> {
    let (mut name, mut found, mut is_executable) = (String::new(), None, false);
    while !node.is_empty() {
        match take_field(&mut node)? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => found = Some(digest(bytes, function)?),
            (4, Value::Number(1)) => is_executable = true,
            _ => return Err(DirectoryError::Field),
        }
    }
    Ok((name, found.ok_or(DirectoryError::Field)?, is_executable))
}

fn file(node: &[u8], function: DigestFunction) -> Result<FileNode, DirectoryError> {
    let (name, digest, is_executable) = named(node, function)?;
    Ok(FileNode { name, digest, is_executable })
}

fn folder(node: &[u8], function: DigestFunction) -> Result<DirectoryNode, DirectoryError> {
    let (name, digest, is_executable) = named(node, function)?;
    if is_executable { Err(DirectoryError::Field) } else { Ok(DirectoryNode { name, digest }) }
}

fn symlink(mut node: &[u8]) -> Result<SymlinkNode, DirectoryError> {
    let (mut name, mut target) = (String::new(), String::new());
    while !node.is_empty() {
        match take_field(&mut node)? {
            (1, Value::Bytes(bytes)) => name = text(bytes)?,
            (2, Value::Bytes(bytes)) => target = text(bytes)?,
            _ => return Err(DirectoryError::Field),
        }
    }
    Ok(SymlinkNode { name, target })
}

fn digest(mut message: &[u8], function: DigestFunction) -> Result<Digest, DirectoryError> {
    let (mut hex, mut size) = ("", 0);
    while !message.is_empty() {
        match take_field(&mut message)? {
            (1, Value::Bytes(bytes)) => hex = std::str::from_utf8(bytes).map_err(|_| DirectoryError::Text)?,
            (2, Value::Number(number)) => size = i64::try_from(number).map_err(|_| DigestError::Size)?,
            _ => return Err(DirectoryError::Field),
        }
    }
    Ok(Digest::parse(Some(function), hex, size)?)
}

/// Why bytes are no folder.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DirectoryError {
    /// They end too early.
    #[error("the message is torn")]
    Torn,
    /// A field that is not known or has another type.
    #[error("the message has a field that is no part of a plain folder")]
    Field,
    /// A name is not UTF-8.
    #[error("a name is not UTF-8")]
    Text,
    /// Not sorted, or written in another way.
    #[error("the message is not canonical")]
    Order,
    /// A digest in it.
    #[error(transparent)]
    Digest(#[from] DigestError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(data: &[u8]) -> Digest {
        Digest::of(DigestFunction::Sha256, data)
    }

    fn directory(files: Vec<(String, Vec<u8>, bool)>, folders: Vec<String>, links: Vec<(String, String)>) -> Directory {
        let mut directory = Directory {
            files: files
                .into_iter()
                .map(|(name, data, is_executable)| FileNode { name, digest: of(&data), is_executable })
                .collect(),
            directories: folders.into_iter().map(|name| DirectoryNode { digest: of(name.as_bytes()), name }).collect(),
            symlinks: links.into_iter().map(|(name, target)| SymlinkNode { name, target }).collect(),
        };
        directory.files.sort_by(|a, b| a.name.cmp(&b.name));
        directory.files.dedup_by(|a, b| a.name == b.name);
        directory.directories.sort_by(|a, b| a.name.cmp(&b.name));
        directory.directories.dedup_by(|a, b| a.name == b.name);
        directory.symlinks.sort_by(|a, b| a.name.cmp(&b.name));
        directory.symlinks.dedup_by(|a, b| a.name == b.name);
        directory
    }

    proptest! {
        #[test]
        fn folders_read_back(
            files in proptest::collection::vec((".{1,20}", proptest::collection::vec(any::<u8>(), 0..200), any::<bool>()), 0..6),
            folders in proptest::collection::vec(".{1,300}", 0..4),
            links in proptest::collection::vec((".{1,20}", ".{1,40}"), 0..4),
        ) {
            let directory = directory(files, folders, links);
            prop_assert_eq!(Directory::decode(&directory.encode(), DigestFunction::Sha256), Ok(directory));
        }

        #[test]
        fn any_bytes_are_a_folder_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..100), at: prop::sample::Index) {
            let mut whole = directory(vec![("f".into(), vec![1], true)], vec!["d".into()], vec![]).encode();
            let at = at.index(whole.len());
            whole.splice(at..at, bytes.iter().copied());
            for bytes in [&bytes, &whole] {
                if let Ok(directory) = Directory::decode(bytes, DigestFunction::Sha256) {
                    prop_assert_eq!(&directory.encode(), bytes);
                }
            }
        }
    }
}
