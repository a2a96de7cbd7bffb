use bytes::Bytes;
use cache_types::Digest;
use tonic::{Code, Status};

use super::{Compression, RemoteStore, wire, wire_function, zstd};
use crate::proto::re;
use crate::proto::re::compressor::Value as WireCompressor;

/// Blobs up to this size go by a batch call, which costs less than a stream and holds them in memory.
const SMALL_BLOB_BYTES: u64 = 256 * 1024;

/// Whether a blob goes by a batch call to this server.
pub(super) fn fits(remote: &RemoteStore, digest: &Digest) -> bool {
    digest.size_bytes() <= SMALL_BLOB_BYTES.min(remote.capabilities.max_batch_bytes)
}

/// Uploads one small blob.
pub(super) async fn update(remote: &RemoteStore, digest: &Digest, data: &Bytes) -> Result<(), Status> {
    let zstd_offered = remote.settings.compression == Compression::ZstdWhenOffered && remote.capabilities.batch_zstd;
    let compressed = if zstd_offered { zstd::compress(data).filter(|small| small.len() < data.len()) } else { None };
    let compressor = if compressed.is_some() { WireCompressor::Zstd } else { WireCompressor::Identity };
    let blob = re::batch_update_blobs_request::Request {
        digest: Some(wire(digest)),
        data: compressed.unwrap_or_else(|| data.clone()),
        compressor: compressor.into(),
    };
    let request = re::BatchUpdateBlobsRequest {
        instance_name: remote.instance(),
        requests: vec![blob],
        digest_function: wire_function(digest.function()),
    };
    remote
        .call(|| {
            let (mut cas, request) = (remote.cas(), request.clone());
            async move {
                let answer = cas.batch_update_blobs(request).await?;
                let first = answer.get_ref().responses.first();
                let blob = first.ok_or_else(|| Status::internal("the server left the blob out of its answer"))?;
                check(blob.status.as_ref())?;
                Ok(answer)
            }
        })
        .await
        .map(|_answer| ())
}

/// Downloads one small blob whole; NOT_FOUND when the server lacks it.
pub(super) async fn read(remote: &RemoteStore, digest: &Digest) -> Result<Bytes, Status> {
    let takes_zstd = remote.settings.compression == Compression::ZstdWhenOffered;
    let request = re::BatchReadBlobsRequest {
        instance_name: remote.instance(),
        digests: vec![wire(digest)],
        acceptable_compressors: if takes_zstd { vec![WireCompressor::Zstd.into()] } else { Vec::new() },
        digest_function: wire_function(digest.function()),
    };
    let answer = remote
        .call(|| {
            let (mut cas, request) = (remote.cas(), request.clone());
            async move {
                let answer = cas.batch_read_blobs(request).await?;
                let first = answer.get_ref().responses.first();
                check(first.and_then(|blob| blob.status.as_ref()))?;
                Ok(answer)
            }
        })
        .await?;
    let blob = answer.responses.into_iter().next();
    let blob = blob.ok_or_else(|| Status::internal("the server left the blob out of its answer"))?;
    let data = plain(digest, blob)?;
    if data.len() as u64 != digest.size_bytes() {
        return Err(Status::internal(format!("the server sent {} bytes for {digest}", data.len())));
    }
    Ok(data)
}

fn plain(digest: &Digest, blob: re::batch_read_blobs_response::Response) -> Result<Bytes, Status> {
    match WireCompressor::try_from(blob.compressor) {
        Ok(WireCompressor::Identity) => Ok(blob.data),
        Ok(WireCompressor::Zstd) => {
            let limit = usize::try_from(digest.size_bytes()).unwrap_or(usize::MAX);
            zstd::decompress(&blob.data, limit)
                .map_err(|error| Status::internal(format!("the server sent broken zstd for {digest}: {error}")))
        }
        _ => Err(Status::internal("the server used a compressor that was not offered to it")),
    }
}

/// The status of one blob in an answer, as if it were that of the call.
fn check(status: Option<&tonic_types::pb::Status>) -> Result<(), Status> {
    match status {
        Some(status) if status.code != 0 => Err(Status::new(Code::from(status.code), status.message.clone())),
        // Some servers leave the status of a success out.
        _ => Ok(()),
    }
}
