use cache_types::{Digest, RangeError};

type Source = Box<dyn std::error::Error + Send + Sync>;

/// Why a store could not do what was asked. A miss is not an error.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The bytes are not those that the digest names.
    #[error("the data does not match {expected}: {found}")]
    Mismatch {
        /// What the caller claimed.
        expected: Digest,
        /// What was seen instead, in words.
        found: String,
    },
    /// A chunk that a splice names is not here.
    #[error("chunk {0} is not here")]
    MissingChunk(Digest),
    /// The range starts outside the blob.
    #[error("the range does not fit {digest}")]
    Range {
        /// The blob.
        digest: Digest,
        /// What is wrong with the range.
        source: RangeError,
    },
    /// The incoming stream failed.
    #[error("the upload failed")]
    Body(#[source] BodyError),
    /// No room: the disk is full, or all that could be evicted is leased.
    #[error("no room for {needed_bytes} bytes: {reason}")]
    Full {
        /// The bytes asked for.
        needed_bytes: u64,
        /// Which limit was hit and what helps.
        reason: String,
    },
    /// Stored bytes failed their checksum after a part of them had been sent.
    #[error("stored bytes of {0} are damaged")]
    Damaged(Digest),
    /// The level cannot be reached now; asking again may help.
    #[error("{level} is unavailable")]
    Unavailable {
        /// Which store.
        level: &'static str,
        /// The cause.
        source: Source,
    },
    /// The level is known to be away and was not asked: whoever can do without it goes on at once.
    #[error("{level} is left out until it answers again")]
    LeftOut {
        /// Which store.
        level: &'static str,
    },
    /// The level failed in a way that asking again does not mend.
    #[error("{level} failed")]
    Internal {
        /// Which store.
        level: &'static str,
        /// The cause.
        source: Source,
    },
}

/// Why an incoming stream of bytes failed.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The peer sent what the protocol forbids.
    #[error("{0}")]
    Invalid(String),
    /// The peer went away or was too slow.
    #[error("the stream was interrupted")]
    Interrupted(#[source] Source),
}
