//! A blob as the list of its chunks, as clients send and get it. Spec.

use cache_types::{Digest, DigestError};
use prost::Message;
use store::MAX_CHUNK_BYTES;

use crate::Settings;
use crate::convert::DigestReader;
use crate::proto::re;

/// The most chunks of one blob. Spec: R-111.
const MAX_CHUNKS: usize = 1_000_000;

/// A blob and the chunks that are said to make it up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkList {
    blob: Digest,
    chunks: Vec<Digest>,
}

/// Why a list of chunks was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChunkListError {
    /// Not the message.
    #[error("not a SpliceBlobRequest message")]
    Malformed(#[source] prost::DecodeError),
    /// No blob is named.
    #[error("blob_digest must be set")]
    NoBlob,
    /// A digest is none, or of another function.
    #[error(transparent)]
    Digest(#[from] DigestError),
    /// Over a million chunks.
    #[error("a blob has at most {MAX_CHUNKS} chunks")]
    TooMany,
}

impl ChunkList {
    /// Reads an encoded `SpliceBlobRequest` that names no digest function.
    ///
    /// # Errors
    /// Any [`ChunkListError`].
    pub fn parse(encoded: &[u8]) -> Result<Self, ChunkListError> {
        let request = re::SpliceBlobRequest::decode(encoded).map_err(ChunkListError::Malformed)?;
        let mut reader = DigestReader::inferring(&Settings::default());
        Self::read(&mut reader, request.blob_digest.as_ref(), &request.chunk_digests)
    }

    pub(crate) fn read(
        reader: &mut DigestReader,
        blob: Option<&re::Digest>,
        chunks: &[re::Digest],
    ) -> Result<Self, ChunkListError> {
        let blob = reader.read(blob.ok_or(ChunkListError::NoBlob)?)?;
        let mut list = Self { blob, chunks: Vec::new() };
        list.extend(reader, chunks)?;
        Ok(list)
    }

    /// Adds the chunks of a further message.
    pub(crate) fn extend(&mut self, reader: &mut DigestReader, chunks: &[re::Digest]) -> Result<(), ChunkListError> {
        if self.chunks.len().saturating_add(chunks.len()) > MAX_CHUNKS {
            return Err(ChunkListError::TooMany);
        }
        for chunk in chunks {
            self.chunks.push(reader.read(chunk)?);
        }
        Ok(())
    }

    /// The blob.
    pub fn blob(&self) -> &Digest {
        &self.blob
    }

    /// Its chunks, in order.
    pub fn chunks(&self) -> &[Digest] {
        &self.chunks
    }

    /// Whether the sizes of the chunks are together that of the blob. Spec: R-104.
    pub fn adds_up(&self) -> bool {
        adds_up(&self.blob, &self.chunks)
    }
}

fn adds_up(blob: &Digest, chunks: &[Digest]) -> bool {
    let total = chunks.iter().try_fold(0u64, |total, chunk| total.checked_add(chunk.size_bytes()));
    total == Some(blob.size_bytes())
}

/// Whether a client that fails hard on a lax list takes this one. Spec: R-103.
pub(crate) fn is_strict(blob: &Digest, chunks: &[Digest]) -> bool {
    let in_bounds = |chunk: &Digest| (1..=MAX_CHUNK_BYTES as u64).contains(&chunk.size_bytes());
    chunks.iter().all(in_bounds) && adds_up(blob, chunks)
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;
    use proptest::prelude::*;

    use super::*;
    use crate::convert::to_wire;

    proptest! {
        #[test]
        fn a_list_adds_up_exactly_when_its_sizes_do(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..30), 0..20),
            which in 0usize..4,
        ) {
            let function = [DigestFunction::Sha256, DigestFunction::Sha1, DigestFunction::Sha384, DigestFunction::Sha512]
                [which];
            let blob = Digest::of(function, &parts.concat());
            let chunks: Vec<Digest> = parts.iter().map(|part| Digest::of(function, part)).collect();
            let mut request = re::SpliceBlobRequest {
                blob_digest: Some(to_wire(&blob)),
                chunk_digests: chunks.iter().map(to_wire).collect(),
                ..Default::default()
            };
            let list = ChunkList::parse(&request.encode_to_vec()).expect("well formed");
            prop_assert_eq!((list.blob(), list.chunks(), list.adds_up()), (&blob, &chunks[..], true));
            prop_assert_eq!(is_strict(&blob, &chunks), parts.iter().all(|part| !part.is_empty()));
            request.chunk_digests.push(to_wire(&Digest::of(function, b"more")));
            prop_assert!(!ChunkList::parse(&request.encode_to_vec()).expect("well formed").adds_up());
            request.blob_digest = None;
            prop_assert_eq!(ChunkList::parse(&request.encode_to_vec()), Err(ChunkListError::NoBlob));
        }

        #[test]
        fn sizes_that_overflow_do_not_add_up(count in 2usize..40) {
            let hash = Digest::of(DigestFunction::Sha256, b"x").hash().to_string();
            let huge = re::Digest { hash, size_bytes: i64::MAX };
            let request = re::SpliceBlobRequest {
                blob_digest: Some(huge.clone()),
                chunk_digests: vec![huge; count],
                ..Default::default()
            };
            prop_assert!(!ChunkList::parse(&request.encode_to_vec()).expect("well formed").adds_up());
        }

        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            if let Ok(list) = ChunkList::parse(&bytes) {
                prop_assert!(list.chunks().iter().all(|chunk| chunk.function() == list.blob().function()));
            }
        }
    }
}
