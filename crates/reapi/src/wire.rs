use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, decode_key, decode_varint};
use tonic::Status;
use tonic::codec::{BufferSettings, Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

use crate::proto::re;
use crate::status;

/// Server code of the two services that pass stored bytes on unparsed, made by the build script.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod raw {
    include!(concat!(env!("OUT_DIR"), "/raw/build.bazel.remote.execution.v2.ActionCache.rs"));
    include!(concat!(env!("OUT_DIR"), "/raw/build.bazel.remote.execution.v2.ContentAddressableStorage.rs"));
}

/// The request of UpdateActionResult with the result as the bytes that were sent: a field of a newer protocol
/// version survives. Spec: R-137.
#[derive(Clone, PartialEq, Message)]
pub struct UpdateActionResultRequest {
    /// The instance.
    #[prost(string, tag = "1")]
    pub instance_name: String,
    /// The action.
    #[prost(message, optional, tag = "2")]
    pub action_digest: Option<re::Digest>,
    /// An encoded `ActionResult`.
    #[prost(bytes = "bytes", optional, tag = "3")]
    pub action_result: Option<Bytes>,
    /// How long to keep it.
    #[prost(message, optional, tag = "4")]
    pub results_cache_policy: Option<re::ResultsCachePolicy>,
    /// The number of the digest function, 0 when it is not named.
    #[prost(int32, tag = "5")]
    pub digest_function: i32,
}

/// The response of GetTree with each directory as the bytes it is stored as, so that it keeps its digest. Spec: R-096.
#[derive(Clone, PartialEq, Message)]
pub struct GetTreeResponse {
    /// Encoded `Directory` messages.
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub directories: Vec<Bytes>,
    /// What continues after this response; empty in the last.
    #[prost(string, tag = "2")]
    pub next_page_token: String,
}

/// What a `Directory` names, without names, links and properties.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct DirectoryLinks {
    #[prost(message, repeated, tag = "1")]
    pub(crate) files: Vec<Link>,
    #[prost(message, repeated, tag = "2")]
    pub(crate) directories: Vec<Link>,
}

/// The digest of a `FileNode` or a `DirectoryNode`, which have it under one number.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Link {
    #[prost(message, optional, tag = "2")]
    pub(crate) digest: Option<re::Digest>,
}

/// The most entries of one message that are read: more than 16 MiB of digests have. An entry of two bytes takes a hundred
/// times that in memory.
const MAX_ENTRIES: usize = 300_000;

/// Refuses a message of more entries than any that is meant, without reading what they hold.
pub(crate) fn check_entries(message: &[u8]) -> Result<(), Status> {
    let mut rest = message;
    let mut entries = 0;
    while !rest.is_empty() {
        // What cannot be read is the decoder's to refuse.
        let Ok((_, kind)) = decode_key(&mut rest) else { return Ok(()) };
        let len = match kind {
            WireType::LengthDelimited => decode_varint(&mut rest).unwrap_or(u64::MAX),
            WireType::SixtyFourBit => 8,
            WireType::ThirtyTwoBit => 4,
            WireType::Varint => decode_varint(&mut rest).map_or(u64::MAX, |_| 0),
            WireType::StartGroup | WireType::EndGroup => 0,
        };
        let Some(after) = usize::try_from(len).ok().and_then(|len| rest.get(len..)) else { return Ok(()) };
        rest = after;
        entries += 1;
        if entries > MAX_ENTRIES {
            return Err(status::invalid(format!("a message has at most {MAX_ENTRIES} entries")));
        }
    }
    Ok(())
}

/// Reads protobuf whose entries have been counted.
pub struct Counted<D>(D);

impl<D: Decoder<Error = Status>> Decoder for Counted<D> {
    type Item = D::Item;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<D::Item>, Status> {
        // The transport gathers a message in one piece.
        check_entries(src.chunk())?;
        self.0.decode(src)
    }

    fn buffer_settings(&self) -> BufferSettings {
        self.0.buffer_settings()
    }
}

/// Protobuf both ways, the entries of requests counted.
pub struct CountingCodec<E, D>(PhantomData<(E, D)>);

impl<E, D> Default for CountingCodec<E, D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E, D> Codec for CountingCodec<E, D>
where
    E: Message + Send + 'static,
    D: Message + Default + Send + 'static,
{
    type Encode = E;
    type Decode = D;
    type Encoder = <ProstCodec<E, D> as Codec>::Encoder;
    type Decoder = Counted<<ProstCodec<E, D> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<E, D>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        Counted(ProstCodec::<E, D>::default().decoder())
    }
}

/// Reads requests as protobuf and answers with messages that are encoded already.
pub struct RawCodec<D>(PhantomData<D>);

impl<D> Default for RawCodec<D> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<D: Message + Default + Send + 'static> Codec for RawCodec<D> {
    type Encode = Bytes;
    type Decode = D;
    type Encoder = RawEncoder;
    type Decoder = Counted<<ProstCodec<D, D> as Codec>::Decoder>;

    fn encoder(&mut self) -> Self::Encoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        Counted(ProstCodec::<D, D>::default().decoder())
    }
}

/// Writes a message that is encoded already.
pub struct RawEncoder;

impl Encoder for RawEncoder {
    type Item = Bytes;
    type Error = Status;

    fn encode(&mut self, item: Bytes, dst: &mut EncodeBuf<'_>) -> Result<(), Status> {
        dst.reserve(item.len());
        dst.put(item);
        Ok(())
    }
}

/// Sends requests as protobuf and takes answers as the bytes they are: the client's side of [`RawCodec`].
pub struct EncodedCodec<E>(PhantomData<E>);

impl<E> Default for EncodedCodec<E> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<E: Message + Send + 'static> Codec for EncodedCodec<E> {
    type Encode = E;
    type Decode = Bytes;
    type Encoder = <ProstCodec<E, ()> as Codec>::Encoder;
    type Decoder = EncodedDecoder;

    fn encoder(&mut self) -> Self::Encoder {
        ProstCodec::<E, ()>::default().encoder()
    }

    fn decoder(&mut self) -> Self::Decoder {
        EncodedDecoder
    }
}

/// Takes a message without parsing it.
pub struct EncodedDecoder;

impl Decoder for EncodedDecoder {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, src: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(src.copy_to_bytes(src.remaining())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_counted_whatever_they_hold() {
        assert!(check_entries(&[0x12, 0].repeat(MAX_ENTRIES)).is_ok());
        assert!(check_entries(&[0x12, 0].repeat(MAX_ENTRIES + 1)).is_err());
        assert!(check_entries(&[0x08, 0x80, 0x01].repeat(MAX_ENTRIES + 1)).is_err());
        assert!(check_entries(&[0xa3, 0x06].repeat(MAX_ENTRIES + 1)).is_err());
        let digest = re::Digest { hash: "0".repeat(64), size_bytes: 1 };
        let many = re::FindMissingBlobsRequest { blob_digests: vec![digest; 200_000], ..Default::default() };
        assert!(check_entries(&many.encode_to_vec()).is_ok());
        for broken in [&[0x12, 0xff, 0xff, 0xff, 0xff, 0x0f][..], &[0x0f], &[0xff; 20], &[]] {
            assert!(check_entries(broken).is_ok(), "the decoder refuses it");
        }
    }
}
