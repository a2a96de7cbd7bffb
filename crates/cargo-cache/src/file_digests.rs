use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use cache_types::{Digest, DigestFunction, Hasher};
use parking_lot::Mutex;

/// The function of all digests here: the protocol's default.
pub(crate) const FUNCTION: DigestFunction = DigestFunction::Sha256;

/// How much is read at a time.
const PIECE_BYTES: usize = 256 * 1024;

/// What tells whether a file is still the one that was hashed, as git tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            size: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// The digests of files, each file hashed once for as long as it does not change. Blocks while it hashes.
#[derive(Default)]
pub(crate) struct FileDigests {
    known: Mutex<HashMap<PathBuf, (Stamp, Digest)>>,
}

impl FileDigests {
    /// The digest of a file's content.
    pub(crate) fn of(&self, path: &Path) -> io::Result<Digest> {
        let stamp = Stamp::of(&std::fs::metadata(path)?);
        let known = self.known.lock().get(path).copied();
        if let Some((_, digest)) = known.filter(|(seen, _)| *seen == stamp) {
            return Ok(digest);
        }
        let file = File::open(path)?;
        let opened = Stamp::of(&file.metadata()?);
        let digest = hash(&file, opened.size)?;
        // What changed while it was read has a digest of nothing that ever was.
        if Stamp::of(&file.metadata()?) == opened {
            self.known.lock().insert(path.to_owned(), (opened, digest));
            return Ok(digest);
        }
        Err(io::Error::other("the file changed while it was read"))
    }

    /// Notes the digest of a file that was just made from a verified blob.
    pub(crate) fn note(&self, path: &Path, digest: Digest) -> io::Result<()> {
        let stamp = Stamp::of(&std::fs::metadata(path)?);
        self.known.lock().insert(path.to_owned(), (stamp, digest));
        Ok(())
    }
}

fn hash(mut file: &File, size: u64) -> io::Result<Digest> {
    let mut hasher = Hasher::new(FUNCTION, size);
    let mut piece = vec![0; PIECE_BYTES];
    let mut read = 0;
    loop {
        let n = file.read(&mut piece)?;
        if n == 0 {
            break;
        }
        hasher.update(&piece[..n]);
        read += n as u64;
    }
    Digest::new(hasher.finish(), read).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_file_is_hashed_anew() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("f");
        let digests = FileDigests::default();
        for content in ["one", "two", "three"] {
            std::fs::write(&path, content).expect("a write");
            for _ in 0..2 {
                assert_eq!(digests.of(&path).expect("a digest"), Digest::of(FUNCTION, content.as_bytes()));
            }
        }
        assert!(digests.of(&dir.path().join("absent")).is_err());
    }
}
