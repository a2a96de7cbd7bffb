use std::io;
use std::sync::Arc;

use rustix::io::Errno;
use store::StoreError;
use tokio::task::JoinError;

/// The name of this level in errors.
pub(crate) const LEVEL: &str = "the embedded store";

/// Why the engine could not do something; one failure can be handed to every writer of a group.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("the file system is full")]
    NoSpace,
    #[error(transparent)]
    Io(Arc<io::Error>),
    #[error("the index failed")]
    Index(#[source] Arc<rocksdb::Error>),
    #[error("the store is closed")]
    Closed,
    #[error("a worker of the store stopped")]
    Stopped,
    #[error("a chunk went away meanwhile")]
    ChunkGone,
}

impl Failure {
    /// Whether a part of the index cannot be read.
    pub(crate) fn is_corruption(&self) -> bool {
        matches!(self, Self::Index(error) if error.kind() == rocksdb::ErrorKind::Corruption)
    }

    /// The error for one caller, who asked for `needed_bytes`.
    pub(crate) fn into_store(self, needed_bytes: u64) -> StoreError {
        match self {
            Self::NoSpace => StoreError::Full {
                needed_bytes,
                reason: "the file system of the data folder is full; free space there".to_owned(),
            },
            Self::Closed | Self::Stopped | Self::ChunkGone => {
                StoreError::Unavailable { level: LEVEL, source: self.into() }
            }
            Self::Io(_) | Self::Index(_) => StoreError::Internal { level: LEVEL, source: self.into() },
        }
    }
}

impl From<Failure> for StoreError {
    fn from(failure: Failure) -> Self {
        failure.into_store(0)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if is_no_space(&error) { Self::NoSpace } else { Self::Io(Arc::new(error)) }
    }
}

impl From<Errno> for Failure {
    fn from(errno: Errno) -> Self {
        io::Error::from(errno).into()
    }
}

impl From<rocksdb::Error> for Failure {
    fn from(error: rocksdb::Error) -> Self {
        // RocksDB's interface for C tells a full disk by its text only.
        if error.as_ref().contains("No space left") || error.as_ref().contains("quota exceeded") {
            return Self::NoSpace;
        }
        Self::Index(Arc::new(error))
    }
}

fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge)
}

/// Runs blocking work on a thread for it.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The result of such a thread; a panic goes on here.
pub(crate) fn joined<T>(result: Result<Result<T, StoreError>, JoinError>) -> Result<T, StoreError> {
    match result {
        Ok(result) => result,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_cancelled) => Err(Failure::Stopped.into()),
    }
}
