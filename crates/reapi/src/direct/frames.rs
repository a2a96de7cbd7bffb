use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use cache_types::Digest;
use prost::Message;
use prost::encoding::{encode_varint, encoded_len_varint};

use crate::digest_list;
use crate::proto::re::BatchReadBlobsResponse;
use crate::proto::re::batch_read_blobs_response::Response;

/// What stands before a message: that it is not compressed, and its length.
const PREFIX_BYTES: usize = 5;
/// Bytes up to this length are copied beside what surrounds them; longer ones travel as they are.
const COPY_BYTES: usize = 4 * 1024;
/// The length of the buffers that such copies gather in.
const BUFFER_BYTES: usize = 16 * 1024;

/// Room for what stands between two blobs: tags, lengths, a digest and a status.
const HEAD_BYTES: usize = 192;

/// The tag of `BatchReadBlobsResponse.responses`.
const RESPONSES: u8 = 0x0a;
/// The tag of `Response.data`.
const DATA: u8 = 0x12;
/// The tag of `ReadResponse.data`.
const READ_DATA: u8 = 0x52;

/// The pieces of an answer, in order.
pub(super) type Frames = VecDeque<Bytes>;

fn put_prefix(buffer: &mut BytesMut, len: usize) {
    buffer.put_u8(0);
    // No message here comes near 4 GiB: answers are bounded, and so are the pieces of a read.
    buffer.put_u32(u32::try_from(len).unwrap_or(u32::MAX));
}

/// A message that is encoded already.
pub(super) fn message(encoded: Bytes) -> Frames {
    let mut frames = Gather::new(PREFIX_BYTES + encoded.len());
    put_prefix(&mut frames.buffer, encoded.len());
    frames.put(encoded);
    frames.finish()
}

/// The answer of FindMissingBlobs.
pub(super) fn missing(digests: &[Digest]) -> Frames {
    let len = digest_list::encoded_len(digests);
    let mut buffer = BytesMut::with_capacity(PREFIX_BYTES + len);
    put_prefix(&mut buffer, len);
    digest_list::encode(digests, &mut buffer);
    Frames::from([buffer.freeze()])
}

/// The answer of BatchReadBlobs; larger blobs are not copied.
pub(super) fn blobs(response: BatchReadBlobsResponse) -> Frames {
    let len = response.encoded_len();
    let mut frames = Gather::new(PREFIX_BYTES + len);
    put_prefix(&mut frames.buffer, len);
    for mut item in response.responses {
        let len = item.encoded_len();
        frames.buffer.put_u8(RESPONSES);
        encode_varint(len as u64, &mut frames.buffer);
        let data = std::mem::take(&mut item.data);
        let digest = Response { digest: item.digest.take(), ..Response::default() };
        frames.encode(&digest);
        if !data.is_empty() {
            frames.buffer.put_u8(DATA);
            encode_varint(data.len() as u64, &mut frames.buffer);
            frames.put(data);
        }
        frames.encode(&item);
    }
    frames.finish()
}

/// One message of a read.
pub(super) fn piece(data: Bytes) -> Frames {
    let mut frames = Gather::new(HEAD_BYTES + data.len());
    put_prefix(&mut frames.buffer, 1 + encoded_len_varint(data.len() as u64) + data.len());
    frames.buffer.put_u8(READ_DATA);
    encode_varint(data.len() as u64, &mut frames.buffer);
    frames.put(data);
    frames.finish()
}

/// Joins small pieces, and keeps large ones as they are.
struct Gather {
    frames: Frames,
    buffer: BytesMut,
    /// What is still to come, at most.
    left: usize,
}

impl Gather {
    fn new(len: usize) -> Self {
        let buffer = BytesMut::with_capacity(if len <= COPY_BYTES { len } else { HEAD_BYTES });
        Self { frames: Frames::new(), buffer, left: len }
    }

    fn encode(&mut self, message: &impl Message) {
        message.encode(&mut self.buffer).expect("a buffer that grows has room");
    }

    fn put(&mut self, bytes: Bytes) {
        self.left = self.left.saturating_sub(bytes.len());
        if bytes.len() > COPY_BYTES {
            self.cut(HEAD_BYTES);
            self.frames.push_back(bytes);
            return;
        }
        let room = self.buffer.capacity() - self.buffer.len();
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.cut(BUFFER_BYTES.min(self.left + HEAD_BYTES));
        } else if room < bytes.len() + HEAD_BYTES {
            self.buffer.reserve(BUFFER_BYTES.min(self.left + HEAD_BYTES).max(bytes.len()));
        }
        self.buffer.put(bytes);
    }

    /// Ends a frame, and begins another with this much room.
    fn cut(&mut self, capacity: usize) {
        if !self.buffer.is_empty() {
            let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(capacity));
            self.frames.push_back(full.freeze());
        }
    }

    fn finish(mut self) -> Frames {
        if !self.buffer.is_empty() {
            self.frames.push_back(self.buffer.freeze());
        }
        self.frames
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic_types::pb;

    use super::*;
    use crate::proto::bytestream::ReadResponse;
    use crate::proto::re;

    fn framed(message: &impl Message) -> Vec<u8> {
        let mut bytes = vec![0];
        bytes.extend_from_slice(&u32::try_from(message.encoded_len()).expect("short").to_be_bytes());
        bytes.extend_from_slice(&message.encode_to_vec());
        bytes
    }

    fn lens() -> impl Strategy<Value = usize> {
        prop_oneof![Just(0), 1usize..300, 4000usize..5000, 60_000usize..70_000]
    }

    proptest! {
        #[test]
        fn what_is_framed_by_hand_is_what_the_encoder_writes(
            items in proptest::collection::vec((lens(), 0i32..17, any::<bool>(), "[a-f0-9]{0,64}", any::<i64>()), 0..20),
            read in lens(),
        ) {
            let item = |(len, code, is_zstd, hash, size_bytes): &(usize, i32, bool, String, i64)| Response {
                digest: Some(re::Digest { hash: hash.clone(), size_bytes: *size_bytes }),
                data: vec![1; *len].into(),
                compressor: i32::from(*is_zstd),
                status: Some(pb::Status { code: *code, message: hash.clone(), details: Vec::new() }),
            };
            let response = BatchReadBlobsResponse { responses: items.iter().map(item).collect() };
            let expected = framed(&response);
            let frames = blobs(response);
            prop_assert!(frames.iter().all(|frame| !frame.is_empty()));
            prop_assert_eq!(Vec::from(frames).concat(), expected);

            let data = Bytes::from(vec![2; read.max(1)]);
            prop_assert_eq!(Vec::from(piece(data.clone())).concat(), framed(&ReadResponse { data: data.clone() }));
            let encoded = ReadResponse { data }.encode_to_vec();
            let expected = framed(&ReadResponse::decode(&encoded[..]).expect("encoded just now"));
            prop_assert_eq!(Vec::from(message(encoded.into())).concat(), expected);
        }
    }
}
