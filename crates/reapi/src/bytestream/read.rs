use bytes::Bytes;
use cache_types::{ByteRange, Caller, Compressor, Digest, Role};
use futures::stream::{self, BoxStream, StreamExt};
use store::{BlobBody, StoreError};
use tonic::Status;

use super::{pieces, resource};
use crate::core::Core;
use crate::proto::bytestream::{ReadRequest, ReadResponse};
use crate::{status, zstd_stream};

/// The bytes compressed in one step on the async thread.
const STEP_BYTES: usize = 256 * 1024;

/// Answers a read with a stream of messages.
pub(super) async fn read(
    core: &Core,
    caller: &Caller,
    request: &ReadRequest,
) -> Result<BoxStream<'static, Result<ReadResponse, Status>>, Status> {
    Ok(data(core, caller, request).await?.map(|piece| piece.map(|data| ReadResponse { data })).boxed())
}

/// The data of those messages. Spec.
pub(crate) async fn data(
    core: &Core,
    caller: &Caller,
    request: &ReadRequest,
) -> Result<BoxStream<'static, Result<Bytes, Status>>, Status> {
    let resource = resource::read(&core.settings, &request.resource_name)?;
    caller.check(Role::Read, &resource.instance).map_err(status::denied)?;
    let range = ByteRange::parse(request.read_offset, request.read_limit).map_err(status::out_of_range)?;
    if resource.compressor != Compressor::Identity && range.limit().is_some() {
        return Err(status::invalid("read_limit must be 0 for compressed-blobs"));
    }
    let body = open(core, &resource.digest, range).await?;
    Ok(match resource.compressor {
        Compressor::Identity => pieces::pieces(body).map(|piece| piece.map_err(status::from_store)).boxed(),
        Compressor::Zstd => compressed(body).boxed(),
    })
}

async fn open(core: &Core, digest: &Digest, range: ByteRange) -> Result<BlobBody, Status> {
    match core.blobs.read(digest, range).await {
        Ok(Some(body)) => Ok(body),
        Ok(None) | Err(StoreError::Damaged(_)) => Err(status::not_found(digest)),
        Err(error) => Err(status::from_store(error)),
    }
}

/// The body as one zstd frame, compressed step by step while it is sent.
pub(crate) fn compressed(body: BlobBody) -> impl stream::Stream<Item = Result<Bytes, Status>> + Send {
    stream::try_unfold(Compressing { body, pending: Bytes::new(), compressor: None, ended: false }, |mut state| async {
        Ok(state.next().await?.map(|piece| (piece, state)))
    })
}

struct Compressing {
    body: BlobBody,
    pending: Bytes,
    compressor: Option<zstd_stream::Compressor>,
    ended: bool,
}

impl Compressing {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let failed = |_error| Status::internal("compressing failed");
        loop {
            if self.ended {
                return Ok(None);
            }
            if self.pending.is_empty() {
                match self.body.next().await.transpose().map_err(status::from_store)? {
                    Some(piece) => self.pending = piece,
                    None => {
                        self.ended = true;
                        let compressor = match self.compressor.take() {
                            Some(compressor) => compressor,
                            None => zstd_stream::Compressor::new().map_err(failed)?,
                        };
                        return compressor.finish().map(Some).map_err(failed);
                    }
                }
            }
            let step = self.pending.split_to(self.pending.len().min(STEP_BYTES));
            let compressor = match &mut self.compressor {
                Some(compressor) => compressor,
                none => none.insert(zstd_stream::Compressor::new().map_err(failed)?),
            };
            let ready = compressor.push(&step).map_err(failed)?;
            if !ready.is_empty() {
                return Ok(Some(ready));
            }
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cache_types::DigestFunction;
    use futures::TryStreamExt;
    use store::{BlobStore, MemoryStore};
    use tonic::Code;

    use super::*;
    use crate::Settings;

    async fn core_with(data: &[u8]) -> (Core, Digest) {
        let store = Arc::new(MemoryStore::default());
        let digest = Digest::of(DigestFunction::Sha256, data);
        store.write(digest, Bytes::copy_from_slice(data).into()).await.expect("stored");
        (Core::new(store.clone(), store, Settings::default()), digest)
    }

    async fn ask(core: &Core, name: String, offset: i64, limit: i64) -> Result<Vec<u8>, Code> {
        let request = ReadRequest { resource_name: name, read_offset: offset, read_limit: limit };
        let stream = read(core, &Caller::local(), &request).await.map_err(|status| status.code())?;
        let messages: Vec<ReadResponse> = stream.try_collect().await.map_err(|status| status.code())?;
        Ok(messages.into_iter().flat_map(|message| message.data).collect())
    }

    #[tokio::test]
    async fn offsets_and_limits_are_those_of_the_specification() {
        let data: Vec<u8> = (0..3_000_000u32).map(|i| (i / 7 % 251) as u8).collect();
        let (core, digest) = core_with(&data).await;
        let (plain, zstd) = (format!("blobs/{digest}"), format!("compressed-blobs/zstd/{digest}"));
        let size = data.len() as i64;
        for offset in [0, 1, size - 1, size] {
            let expected = data[usize::try_from(offset).expect("in range")..].to_vec();
            assert_eq!(ask(&core, plain.clone(), offset, 0).await.as_ref(), Ok(&expected));
            assert_eq!(ask(&core, plain.clone(), offset, size * 2).await.as_ref(), Ok(&expected));
            let compressed = ask(&core, zstd.clone(), offset, 0).await.expect("readable");
            assert!(!compressed.is_empty());
            assert_eq!(
                zstd_stream::decode_all(compressed.into(), data.len() as u64, crate::ZstdLimits::default())
                    .expect("zstd"),
                expected
            );
        }
        assert_eq!(ask(&core, plain.clone(), 5, 3).await, Ok(data[5..8].to_vec()));
        for name in [&plain, &zstd] {
            assert_eq!(ask(&core, name.clone(), size + 1, 0).await, Err(Code::OutOfRange));
            assert_eq!(ask(&core, name.clone(), -1, 0).await, Err(Code::OutOfRange));
            assert_eq!(ask(&core, name.clone(), 0, -1).await, Err(Code::InvalidArgument));
        }
        assert_eq!(ask(&core, zstd, 0, 1).await, Err(Code::InvalidArgument));
        let gone = Digest::of(DigestFunction::Sha256, b"gone");
        assert_eq!(ask(&core, format!("blobs/{gone}"), 0, 0).await, Err(Code::NotFound));
        assert_eq!(ask(&core, format!("blobs/{}/{}", digest.hash(), size - 1), 0, 0).await, Err(Code::NotFound));
    }

    #[tokio::test]
    async fn the_empty_blob_is_there_in_both_forms() {
        let (core, _) = core_with(b"x").await;
        for function in DigestFunction::ALL {
            let empty = Digest::empty(function);
            assert_eq!(ask(&core, format!("blobs/{empty}"), 0, 0).await, Ok(Vec::new()));
            let frame = ask(&core, format!("compressed-blobs/zstd/{empty}"), 0, 0).await.expect("readable");
            assert_eq!(frame.get(..4), Some([0x28, 0xb5, 0x2f, 0xfd].as_slice()));
            assert_eq!(
                zstd_stream::decode_all(frame.into(), 0, crate::ZstdLimits::default()).expect("zstd"),
                Bytes::new()
            );
        }
    }
}
