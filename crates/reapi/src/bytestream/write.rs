use cache_types::{Caller, Compressor, Digest, Role, WriteResource};
use futures::stream::BoxStream;
use store::StoreError;
use tonic::Status;

use super::resource;
use super::upload::{Messages, Outcome, SMALL_REST_BYTES, Upload};
use crate::core::Core;
use crate::proto::bytestream::WriteRequest;
use crate::{CommittedSize, status};

/// The blobs that are gathered in memory before they go to the store, which then knows them whole, in bytes.
const GATHER_BYTES: usize = 256 * 1024;

/// Stores one upload; gives the `committed_size` of the answer. Spec.
pub(super) async fn write(
    core: &Core,
    caller: &Caller,
    stream: BoxStream<'static, Result<WriteRequest, Status>>,
) -> Result<i64, Status> {
    caller.check_anywhere(Role::CasWrite).map_err(status::denied)?;
    let mut messages = Messages::new(stream, core.limits().no_progress);
    let first = messages.next().await?.ok_or_else(|| status::invalid("the stream has no message"))?;
    let resource = resource::write(&core.settings, &first.resource_name)?;
    caller.check(Role::CasWrite, &resource.blob.instance).map_err(status::denied)?;
    let digest = resource.blob.digest;
    core.check_size(&digest)?;
    if first.write_offset != 0 {
        return Err(status::invalid("an upload starts at write_offset 0; none is resumed"));
    }
    // One message that holds the whole blob is no dearer to store than to ask for, and storing it verifies it.
    let at_once = first.finish_write && resource.blob.compressor == Compressor::Identity;
    if !at_once && is_near(core, &digest).await? {
        drain(first, messages, &digest).await;
        return Ok(early(&resource));
    }
    // What came whole waits for nobody.
    let _place = match at_once {
        true => None,
        false => Some(core.uploads.take(1).await.map_err(|error| status::busy(&error))?),
    };
    let (blobs, compressor) = (core.near().clone(), resource.blob.compressor);
    let upload = Upload::new(blobs, (first, messages), digest, compressor, core.limits().zstd)?;
    let outcome = upload.outcome();
    match store(core, digest, upload).await {
        Ok(()) if outcome.is_complete() => Ok(committed(core.settings.committed_size, &resource, &outcome)),
        Ok(()) => Ok(early(&resource)),
        Err(_) if outcome.is_early() => Ok(early(&resource)),
        Err(error) => Err(outcome.refusal().unwrap_or_else(|| status::from_store(error))),
    }
}

async fn is_near(core: &Core, digest: &Digest) -> Result<bool, Status> {
    Ok(core.near().find_missing(&[*digest]).await.map_err(status::from_store)?.is_empty())
}

async fn store(core: &Core, digest: Digest, upload: Upload) -> Result<(), StoreError> {
    let body = upload.into_body();
    if digest.size_bytes() > GATHER_BYTES as u64 {
        return core.blobs.write(digest, body).await;
    }
    match body.collect(GATHER_BYTES).await? {
        Some(whole) => core.blobs.write(digest, whole.into()).await,
        None => Err(StoreError::Mismatch { expected: digest, found: "more bytes".to_owned() }),
    }
}

/// The answer to an upload that ended because the blob was here. Spec: R-072.
fn early(resource: &WriteResource) -> i64 {
    match resource.blob.compressor {
        Compressor::Identity => resource.blob.digest.size_i64(),
        Compressor::Zstd => -1,
    }
}

/// The answer to an upload that was read to its end. Spec: R-072.
fn committed(setting: CommittedSize, resource: &WriteResource, outcome: &Outcome) -> i64 {
    match (resource.blob.compressor, setting) {
        (Compressor::Identity, _) | (Compressor::Zstd, CommittedSize::Uncompressed) => resource.blob.digest.size_i64(),
        (Compressor::Zstd, CommittedSize::Compressed) => i64::try_from(outcome.received()).unwrap_or(i64::MAX),
        (Compressor::Zstd, CommittedSize::MinusOne) => -1,
    }
}

/// Reads a small rest to its end for clients that take an early answer for a broken stream. Spec: R-073.
async fn drain(first: WriteRequest, mut messages: Messages, digest: &Digest) {
    let mut rest = digest.size_bytes().saturating_sub(first.data.len() as u64);
    if rest > SMALL_REST_BYTES || first.finish_write {
        return;
    }
    // A compressed form may be longer than the blob, but not by much.
    rest += SMALL_REST_BYTES;
    while let Ok(Some(message)) = messages.next().await {
        let len = message.data.len() as u64;
        if message.finish_write || len > rest {
            return;
        }
        rest -= len;
    }
}

#[cfg(test)]
mod tests;
