use std::marker::PhantomData;

use bytes::{Buf, BufMut, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic_prost::ProstCodec;

use crate::proto::re;

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
    type Decoder = <ProstCodec<D, D> as Codec>::Decoder;

    fn encoder(&mut self) -> Self::Encoder {
        RawEncoder
    }

    fn decoder(&mut self) -> Self::Decoder {
        ProstCodec::<D, D>::default().decoder()
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
