//! The data folder: `LOCK`, `index/`, `packs/`, `files/`, `tmp/`, `quarantine/`.
//!
//! `tmp/` holds uploads on their way and is emptied when the folder is opened. `quarantine/` holds files that failed their
//! checksum, for whoever wants to look; the oldest go when they are too many. Files are named by their segment's ULID.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use store::StoreError;

use crate::failure::{Failure, LEVEL};

/// The folder, locked for as long as this lives.
pub(crate) struct DataDir {
    root: PathBuf,
    /// Closing it gives the lock back.
    lock: File,
}

#[derive(Debug, thiserror::Error)]
enum OpenError {
    #[error("cannot make or open the data folder {path}")]
    Folder { path: PathBuf, source: io::Error },
    #[error(
        "a server or another command uses the data folder {0}; give this one another with --data, or stop that one"
    )]
    Locked(PathBuf),
}

impl From<OpenError> for StoreError {
    fn from(error: OpenError) -> Self {
        Self::Unavailable { level: LEVEL, source: error.into() }
    }
}

impl DataDir {
    /// Makes what is missing, takes the lock and empties `tmp/`.
    pub(crate) fn open(root: &Path) -> Result<Self, StoreError> {
        let failed = |source| OpenError::Folder { path: root.to_owned(), source };
        fs::create_dir_all(root).map_err(failed)?;
        let lock =
            OpenOptions::new().write(true).create(true).truncate(false).open(root.join("LOCK")).map_err(failed)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(OpenError::Locked(root.to_owned()).into()),
            Err(errno) => return Err(failed(errno.into()).into()),
        }
        let this = Self { root: root.to_owned(), lock };
        this.make_folders().map_err(failed)?;
        Ok(this)
    }

    fn make_folders(&self) -> io::Result<()> {
        for folder in [self.packs(), self.files(), self.tmp(), self.quarantine()] {
            fs::create_dir_all(folder)?;
        }
        for entry in fs::read_dir(self.tmp())? {
            fs::remove_file(entry?.path())?;
        }
        // What a rebuild of the index left that did not get to its end.
        for folder in [self.new_index(), self.index_copy()].iter().filter(|folder| folder.exists()) {
            fs::remove_dir_all(folder)?;
        }
        sync_folder(&self.root)
    }

    pub(crate) fn index(&self) -> PathBuf {
        self.root.join("index")
    }

    /// Whether the index is missing though there are bytes that it should name.
    pub(crate) fn lacks_index(&self) -> Result<bool, Failure> {
        if self.index().join("CURRENT").exists() {
            return Ok(false);
        }
        let holds_any = |folder| Ok::<_, io::Error>(fs::read_dir(folder)?.next().is_some());
        Ok(holds_any(self.packs())? || holds_any(self.files())?)
    }

    /// An index in the making; see `upkeep::rebuild`.
    pub(crate) fn new_index(&self) -> PathBuf {
        self.root.join("index.new")
    }

    /// A copy of a damaged index; see `upkeep::rebuild`.
    pub(crate) fn index_copy(&self) -> PathBuf {
        self.root.join("index.copy")
    }

    pub(crate) fn packs(&self) -> PathBuf {
        self.root.join("packs")
    }

    pub(crate) fn files(&self) -> PathBuf {
        self.root.join("files")
    }

    pub(crate) fn tmp(&self) -> PathBuf {
        self.root.join("tmp")
    }

    pub(crate) fn quarantine(&self) -> PathBuf {
        self.root.join("quarantine")
    }

    /// What the file system has.
    pub(crate) fn disk(&self) -> Result<Disk, Failure> {
        let stat = rustix::fs::fstatvfs(&self.lock)?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        Ok(Disk { free, size: stat.f_blocks.saturating_mul(stat.f_frsize) })
    }

    /// Free space on the file system, for those who are not root.
    pub(crate) fn free_bytes(&self) -> Result<u64, Failure> {
        Ok(self.disk()?.free)
    }

    /// The size of the file system.
    pub(crate) fn disk_bytes(&self) -> Result<u64, Failure> {
        Ok(self.disk()?.size)
    }
}

/// Space on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Disk {
    /// For those who are not root.
    pub free: u64,
    pub size: u64,
}

/// Makes the names in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}
