//! FindMissingBlobs as it lies on the wire: its request read without a copy of any digest, its answer written in place.

use bytes::{BufMut, BytesMut};
use cache_types::Digest;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::proto::re;

/// A `FindMissingBlobsRequest`, borrowed.
#[derive(Debug, PartialEq, Eq, Default)]
pub struct DigestList<'a> {
    /// The instance.
    pub instance_name: &'a str,
    /// The number of the digest function; 0 when none is named.
    pub digest_function: i32,
    /// The hash and size of each digest.
    pub digests: Vec<(&'a str, i64)>,
}

impl<'a> DigestList<'a> {
    /// Reads a request; `None` for anything but the plain form, which each field has at most once and no other field.
    pub fn parse(message: &'a [u8]) -> Option<Self> {
        let mut list = Self::default();
        // A digest of SHA-256 takes some 72 bytes.
        list.digests.reserve(message.len() / 70);
        let (mut has_instance, mut has_function) = (false, false);
        let mut rest = message;
        while let Some((&tag, after)) = rest.split_first() {
            rest = after;
            match tag {
                0x0a if !has_instance => {
                    list.instance_name = std::str::from_utf8(take_bytes(&mut rest)?).ok()?;
                    has_instance = true;
                }
                0x12 => list.digests.push(digest(take_bytes(&mut rest)?)?),
                0x18 if !has_function => {
                    list.digest_function = i32::try_from(take_varint(&mut rest)?).ok()?;
                    has_function = true;
                }
                _ => return None,
            }
        }
        Some(list)
    }

    /// Whether a decoder reads the same in `message`. For tests and fuzzing.
    #[doc(hidden)]
    pub fn is_what_the_decoder_reads(&self, message: &[u8]) -> bool {
        let Ok(read) = re::FindMissingBlobsRequest::decode(message) else {
            return false;
        };
        let digests = read.blob_digests.iter().map(|digest| (digest.hash.as_str(), digest.size_bytes));
        self.instance_name == read.instance_name
            && self.digest_function == read.digest_function
            && digests.eq(self.digests.iter().copied())
    }
}

fn digest(mut rest: &[u8]) -> Option<(&str, i64)> {
    let (mut hash, mut size) = (None, None);
    while let Some((&tag, after)) = rest.split_first() {
        rest = after;
        match tag {
            0x0a if hash.is_none() => hash = Some(std::str::from_utf8(take_bytes(&mut rest)?).ok()?),
            0x10 if size.is_none() => size = Some(take_varint(&mut rest)?.cast_signed()),
            _ => return None,
        }
    }
    Some((hash.unwrap_or_default(), size.unwrap_or_default()))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(take_varint(rest)?).ok()?;
    let (bytes, after) = rest.split_at_checked(len)?;
    *rest = after;
    Some(bytes)
}

fn take_varint(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, after) = rest.split_first()?;
        *rest = after;
        let bits = u64::from(byte & 0x7f);
        // The tenth byte holds one bit.
        if shift == 63 && bits > 1 {
            return None;
        }
        value |= bits << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn digest_len(digest: &Digest) -> usize {
    let hex_len = digest.hash().as_bytes().len() * 2;
    let size_len = match digest.size_bytes() {
        0 => 0,
        size => 1 + encoded_len_varint(size),
    };
    1 + encoded_len_varint(hex_len as u64) + hex_len + size_len
}

/// The length of a `FindMissingBlobsResponse` with these digests.
pub(crate) fn encoded_len(digests: &[Digest]) -> usize {
    digests.iter().map(digest_len).map(|len| 1 + encoded_len_varint(len as u64) + len).sum()
}

/// Writes a `FindMissingBlobsResponse` with these digests.
pub(crate) fn encode(digests: &[Digest], buffer: &mut BytesMut) {
    buffer.reserve(encoded_len(digests));
    for digest in digests {
        let hash = digest.hash().as_bytes();
        buffer.put_u8(0x12);
        encode_varint(digest_len(digest) as u64, buffer);
        buffer.put_u8(0x0a);
        encode_varint(hash.len() as u64 * 2, buffer);
        let mut hex = [0; 128];
        let hex = &mut hex[..hash.len() * 2];
        data_encoding::HEXLOWER.encode_mut(hash, hex);
        buffer.put_slice(hex);
        if digest.size_bytes() != 0 {
            buffer.put_u8(0x10);
            encode_varint(digest.size_bytes(), buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;
    use proptest::prelude::*;

    use super::*;
    use crate::convert::to_wire;

    fn agrees(message: &[u8]) -> bool {
        DigestList::parse(message).is_none_or(|list| list.is_what_the_decoder_reads(message))
    }

    proptest! {
        #[test]
        fn the_plain_form_is_read_as_the_decoder_reads_it(
            instance_name in "[a-zé/]{0,12}",
            digest_function in 0i32..300,
            digests in proptest::collection::vec(("[0-9a-fé]{0,70}", any::<i64>()), 0..8),
        ) {
            let blob_digests =
                digests.into_iter().map(|(hash, size_bytes)| re::Digest { hash, size_bytes }).collect();
            let request = re::FindMissingBlobsRequest { instance_name, blob_digests, digest_function };
            let message = request.encode_to_vec();
            prop_assert!(DigestList::parse(&message).is_some());
            prop_assert!(agrees(&message));
        }

        #[test]
        fn any_bytes_are_read_alike_or_left_to_the_decoder(
            bytes in proptest::collection::vec(prop_oneof![Just(0x0a), Just(0x12), Just(0x10), Just(0x18), 0u8..8, any::<u8>()], 0..40),
        ) {
            prop_assert!(agrees(&bytes));
        }

        #[test]
        fn answers_are_written_as_the_encoder_writes_them(
            digests in proptest::collection::vec((0usize..20, any::<u8>()), 0..8),
        ) {
            let functions = DigestFunction::ALL;
            let digests: Vec<Digest> = digests
                .into_iter()
                .map(|(len, at)| Digest::of(functions[usize::from(at) % functions.len()], &vec![at; len]))
                .collect();
            let expected =
                re::FindMissingBlobsResponse { missing_blob_digests: digests.iter().map(to_wire).collect() };
            let mut written = BytesMut::new();
            encode(&digests, &mut written);
            prop_assert_eq!(written.len(), encoded_len(&digests));
            prop_assert_eq!(&written[..], &expected.encode_to_vec()[..]);
        }
    }
}
