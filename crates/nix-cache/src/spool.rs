use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use store::StoreError;

/// What is held in memory of an upload; the rest goes through a file without a name.
const HELD_BYTES: usize = 1024 * 1024;

/// The bound on what all uploads together keep in files.
#[derive(Debug)]
pub(crate) struct Room {
    taken: AtomicU64,
}

impl Room {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self { taken: AtomicU64::new(0) })
    }

    fn take(&self, bytes: u64, max_bytes: u64) -> Result<(), StoreError> {
        let fits = |taken: u64| taken.checked_add(bytes).filter(|sum| *sum <= max_bytes);
        let taken = self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits);
        taken.map(|_| ()).map_err(|_| StoreError::Full {
            needed_bytes: bytes,
            reason: format!("uploads of NARs take {max_bytes} bytes together at most; raise --max-size"),
        })
    }
}

/// Bytes set aside: in memory while they are few, then in a file without a name.
#[derive(Debug)]
pub(crate) struct Spool {
    held: Vec<u8>,
    file: Option<File>,
    written: u64,
    share: Share,
}

/// What a spool takes of the room; given back when dropped.
#[derive(Debug)]
struct Share {
    room: Arc<Room>,
    /// As much as all shares together may be while this one grows.
    max_bytes: u64,
    bytes: u64,
}

impl Share {
    fn grow(&mut self, bytes: u64) -> Result<(), StoreError> {
        self.room.take(bytes, self.max_bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.room.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Spool {
    pub(crate) fn new(room: &Arc<Room>, max_bytes: u64) -> Self {
        let share = Share { room: room.clone(), max_bytes, bytes: 0 };
        Self { held: Vec::new(), file: None, written: 0, share }
    }

    /// Takes the next bytes; a file, where one is needed, is made in `folder`. Blocks.
    pub(crate) fn push(&mut self, bytes: &[u8], folder: &Path) -> Result<(), StoreError> {
        self.held.extend_from_slice(bytes);
        if self.held.len() >= HELD_BYTES { self.flush(folder) } else { Ok(()) }
    }

    fn flush(&mut self, folder: &Path) -> Result<(), StoreError> {
        self.share.grow(self.held.len() as u64)?;
        let file = match &mut self.file {
            Some(file) => file,
            none => none.insert(tempfile::tempfile_in(folder).map_err(failed)?),
        };
        file.write_all(&self.held).map_err(failed)?;
        self.written += self.held.len() as u64;
        self.held.clear();
        Ok(())
    }

    /// All bytes, to be read at any place. Blocks.
    pub(crate) fn finish(mut self, folder: &Path) -> Result<Spooled, StoreError> {
        if self.file.is_some() && !self.held.is_empty() {
            self.flush(folder)?;
        }
        let source = match self.file {
            Some(file) => Source::File(file, self.share),
            None => Source::Memory(std::mem::take(&mut self.held).into()),
        };
        Ok(Spooled(Arc::new(source)))
    }
}

/// Bytes that were set aside. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Spooled(Arc<Source>);

#[derive(Debug)]
enum Source {
    Memory(Bytes),
    /// The share is given back with the file.
    File(File, #[expect(dead_code, reason = "held for as long as the file")] Share),
}

impl Spooled {
    /// The bytes from `offset`, which lie within. Blocks.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Bytes, StoreError> {
        match &*self.0 {
            Source::Memory(bytes) => {
                let start = usize::try_from(offset)
                    .ok()
                    .filter(|start| start.checked_add(len).is_some_and(|end| end <= bytes.len()));
                let start = start.ok_or_else(|| failed(io::ErrorKind::UnexpectedEof.into()))?;
                Ok(bytes.slice(start..start + len))
            }
            Source::File(file, _) => {
                let mut piece = vec![0; len];
                file.read_exact_at(&mut piece, offset).map_err(failed)?;
                Ok(piece.into())
            }
        }
    }

    /// Whether reading blocks.
    pub(crate) fn is_in_memory(&self) -> bool {
        matches!(&*self.0, Source::Memory(_))
    }
}

/// What a failure of the file is to the client.
fn failed(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => StoreError::Full {
            needed_bytes: HELD_BYTES as u64,
            reason: "the file system of the data folder is full".to_owned(),
        },
        _ => StoreError::Internal { level: "the folder for uploads", source: error.into() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_read_back_from_memory_and_file_and_the_room_is_given_back() {
        let folder = tempfile::tempdir().expect("a folder");
        let room = Room::new();
        for len in [0usize, 1000, 2 << 20] {
            let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let mut spool = Spool::new(&room, 3 << 20);
            for piece in data.chunks(70_000) {
                spool.push(piece, folder.path()).expect("room");
            }
            let spooled = spool.finish(folder.path()).expect("room");
            assert_eq!(spooled.is_in_memory(), len < HELD_BYTES);
            assert!(spooled.read(0, len).expect("all") == data);
            assert!(spooled.read(len as u64 / 2, len / 4).expect("a part") == data[len / 2..len / 2 + len / 4]);
            assert!(spooled.read(len as u64, 1).is_err());
        }
        assert_eq!(room.taken.load(Ordering::Relaxed), 0);
        let mut spool = Spool::new(&room, 3 << 20);
        assert!(matches!(spool.push(&vec![0; 4 << 20], folder.path()), Err(StoreError::Full { .. })));
    }
}
