//! What a `Tree` names, read as a stream of records. Spec.

use bytes::{Buf, Bytes, BytesMut};
use cache_types::{Digest, DigestError};
use prost::Message;
use prost::encoding::{WireType, decode_varint};

use crate::Settings;
use crate::convert::DigestReader;
use crate::wire::DirectoryLinks;

/// The largest tree that is looked into, in bytes.
pub(crate) const MAX_TREE_BYTES: usize = 100 * 1024 * 1024;

/// The most digests that one tree may name.
const MAX_DIGESTS: usize = 1_000_000;

/// Why a tree was refused.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// Not a `Tree` message.
    #[error("not a Tree message")]
    Malformed,
    /// A directory in it is none.
    #[error("a record is not a Directory message")]
    Directory(#[source] prost::DecodeError),
    /// A file has no digest.
    #[error("a file has no digest")]
    NoDigest,
    /// A digest in it is none.
    #[error("a file has a malformed digest")]
    Digest(#[from] DigestError),
    /// Over 100 MiB or a million files.
    #[error("the tree is too large")]
    TooLarge,
}

/// The digests of all files of an encoded `Tree`, in the order they come; the digest function is inferred.
///
/// Digests of child directories are not among them: those directories sit inside the tree. Spec: R-126.
///
/// # Errors
/// Any [`TreeError`].
pub fn digests(encoded: &[u8]) -> Result<Vec<Digest>, TreeError> {
    let mut parser = TreeParser::new(DigestReader::inferring(&Settings::default()));
    parser.push(encoded)?;
    parser.finish()
}

/// Reads a `Tree` from pieces. Holds one record and the digests found.
pub(crate) struct TreeParser {
    reader: DigestReader,
    pending: BytesMut,
    seen_bytes: usize,
    digests: Vec<Digest>,
}

impl TreeParser {
    pub(crate) fn new(reader: DigestReader) -> Self {
        Self { reader, pending: BytesMut::new(), seen_bytes: 0, digests: Vec::new() }
    }

    /// Takes the next bytes of the tree.
    pub(crate) fn push(&mut self, piece: &[u8]) -> Result<(), TreeError> {
        self.seen_bytes = self.seen_bytes.saturating_add(piece.len());
        if self.seen_bytes > MAX_TREE_BYTES {
            return Err(TreeError::TooLarge);
        }
        self.pending.extend_from_slice(piece);
        while let Some(record) = Record::read(&self.pending)? {
            // A whole record lies in `pending`: both lengths were checked against it.
            self.pending.advance(record.header_len);
            let body = self.pending.split_to(record.body_len).freeze();
            if record.is_directory {
                self.directory(body)?;
            }
        }
        Ok(())
    }

    fn directory(&mut self, encoded: Bytes) -> Result<(), TreeError> {
        let links = DirectoryLinks::decode(encoded).map_err(TreeError::Directory)?;
        if self.digests.len() + links.files.len() > MAX_DIGESTS {
            return Err(TreeError::TooLarge);
        }
        for file in &links.files {
            let digest = file.digest.as_ref().ok_or(TreeError::NoDigest)?;
            self.digests.push(self.reader.read(digest)?);
        }
        Ok(())
    }

    /// The digests, once all bytes have been taken.
    pub(crate) fn finish(self) -> Result<Vec<Digest>, TreeError> {
        if self.pending.is_empty() { Ok(self.digests) } else { Err(TreeError::Malformed) }
    }
}

/// One field at the top of a `Tree`.
struct Record {
    header_len: usize,
    body_len: usize,
    is_directory: bool,
}

impl Record {
    /// The record that `bytes` start with; `None` when it is not whole yet.
    fn read(bytes: &[u8]) -> Result<Option<Self>, TreeError> {
        let mut rest = bytes;
        let Some(key) = varint(&mut rest)? else { return Ok(None) };
        let (number, wire_type) = (key >> 3, WireType::try_from(key & 7).map_err(|_| TreeError::Malformed)?);
        if number == 0 {
            return Err(TreeError::Malformed);
        }
        let body_len = match wire_type {
            WireType::LengthDelimited => match varint(&mut rest)? {
                Some(len) => usize::try_from(len).map_err(|_| TreeError::TooLarge)?,
                None => return Ok(None),
            },
            WireType::Varint => {
                let before = rest.len();
                let mut value = rest;
                if varint(&mut value)?.is_none() {
                    return Ok(None);
                }
                before - value.len()
            }
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::StartGroup | WireType::EndGroup => return Err(TreeError::Malformed),
        };
        if body_len > MAX_TREE_BYTES {
            return Err(TreeError::TooLarge);
        }
        let is_directory = matches!((number, wire_type), (1 | 2, WireType::LengthDelimited));
        if matches!(number, 1 | 2) && !is_directory {
            return Err(TreeError::Malformed);
        }
        let header_len = bytes.len() - rest.len();
        Ok((rest.len() >= body_len).then_some(Self { header_len, body_len, is_directory }))
    }
}

/// Reads a varint off the front; `None` when it is not whole yet.
fn varint(bytes: &mut &[u8]) -> Result<Option<u64>, TreeError> {
    let whole = bytes.iter().take(10).any(|byte| byte & 0x80 == 0);
    if !whole {
        return if bytes.len() >= 10 { Err(TreeError::Malformed) } else { Ok(None) };
    }
    decode_varint(bytes).map(Some).map_err(|_| TreeError::Malformed)
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;
    use proptest::prelude::*;

    use super::*;
    use crate::convert::to_wire;
    use crate::proto::re;

    fn directory(contents: &[Vec<u8>]) -> re::Directory {
        let file = |(index, data): (usize, &Vec<u8>)| re::FileNode {
            name: format!("file{index}"),
            digest: Some(to_wire(&Digest::of(DigestFunction::Sha256, data))),
            ..Default::default()
        };
        re::Directory { files: contents.iter().enumerate().map(file).collect(), ..Default::default() }
    }

    proptest! {
        #[test]
        fn every_file_of_root_and_children_is_found_in_any_pieces(
            dirs in proptest::collection::vec(
                proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8), 1..10),
            piece_len in 1usize..500,
        ) {
            let mut directories = dirs.iter().map(|dir| directory(dir));
            let tree = re::Tree { root: directories.next(), children: directories.collect() };
            let encoded = tree.encode_to_vec();
            let expected: Vec<Digest> =
                dirs.concat().iter().map(|data| Digest::of(DigestFunction::Sha256, data)).collect();
            let mut parser = TreeParser::new(DigestReader::of(DigestFunction::Sha256));
            for piece in encoded.chunks(piece_len) {
                parser.push(piece).expect("a tree");
            }
            prop_assert_eq!(parser.finish().expect("a tree"), &expected[..]);
            prop_assert_eq!(digests(&encoded).expect("a tree"), expected);
        }

        #[test]
        fn any_bytes_are_read_or_refused_alike_whole_and_in_pieces(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
            piece_len in 1usize..20,
        ) {
            let mut parser = TreeParser::new(DigestReader::inferring(&Settings::default()));
            let pieces = bytes.chunks(piece_len).try_for_each(|piece| parser.push(piece));
            let in_pieces = pieces.and_then(|()| parser.finish());
            prop_assert_eq!(digests(&bytes).is_ok(), in_pieces.is_ok());
        }

        #[test]
        fn a_broken_tree_is_read_or_refused(
            files in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..20), 0..8),
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
        ) {
            let mut encoded = re::Tree { root: Some(directory(&files)), children: vec![] }.encode_to_vec();
            prop_assume!(!encoded.is_empty());
            let at = at.index(encoded.len());
            encoded[at] = byte;
            if let Ok(found) = digests(&encoded) {
                prop_assert!(found.len() <= encoded.len());
            }
        }
    }
}
