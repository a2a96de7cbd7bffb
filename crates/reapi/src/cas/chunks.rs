//! Chunk lists: SplitBlob and SpliceBlob, and their streaming pair. Spec: reapi §9.

use cache_types::{Caller, Digest, Role};
use futures::stream::{self, BoxStream, Stream, StreamExt};
use prost::Message;
use tonic::{Code, Status};

use crate::chunk_list::{self, ChunkList};
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::proto::re;
use crate::status;

/// The digests in one message of a streamed list. Spec: R-109.
const DIGESTS_PER_MESSAGE: usize = 10_000;

/// The function that every list given out obeys in its limits. Spec: R-102.
const FUNCTION: i32 = re::chunking_function::Value::FastCdc2020 as i32;

pub(super) async fn split_blob(core: &Core, request: re::SplitBlobRequest) -> Result<re::SplitBlobResponse, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let digest = reader.required(request.blob_digest.as_ref(), "blob_digest")?;
    let chunks = split(core, &digest).await?;
    let chunk_digests = chunks.iter().map(convert::to_wire).collect();
    let response = re::SplitBlobResponse { chunk_digests, chunking_function: FUNCTION };
    if response.encoded_len() >= MAX_OUTBOUND_BYTES {
        // A client falls back to a plain read on this code. Spec.
        return Err(Status::not_found("the list of chunks is over 4 MiB; GetChunkMapping gives it in parts"));
    }
    Ok(response)
}

pub(super) async fn get_chunk_mapping(
    core: &Core,
    request: re::GetChunkMappingRequest,
) -> Result<impl Stream<Item = Result<re::GetChunkMappingResponse, Status>> + Send + use<>, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::declared(&core.settings, request.digest_function)?;
    let digest = reader.required(request.blob_digest.as_ref(), "blob_digest")?;
    Ok(stream::iter(mapping(&split(core, &digest).await?)).map(Ok))
}

/// A list as messages; the function is in the first, which is there even for an empty list. Spec: R-109.
fn mapping(chunks: &[Digest]) -> Vec<re::GetChunkMappingResponse> {
    let digests = |part: &[Digest]| part.iter().map(convert::to_wire).collect();
    let mut parts = chunks.chunks(DIGESTS_PER_MESSAGE);
    let first = re::GetChunkMappingResponse {
        chunk_digests: digests(parts.next().unwrap_or_default()),
        chunking_function: FUNCTION,
    };
    let rest = parts.map(|part| re::GetChunkMappingResponse { chunk_digests: digests(part), chunking_function: 0 });
    [first].into_iter().chain(rest).collect()
}

async fn split(core: &Core, digest: &Digest) -> Result<Vec<Digest>, Status> {
    let chunks = core.blobs.split(digest).await.map_err(status::from_store)?;
    let chunks = chunks.ok_or_else(|| status::not_found(digest))?;
    // A miss makes a client read the blob instead.
    if chunk_list::is_strict(digest, &chunks) { Ok(chunks) } else { Err(status::not_found(digest)) }
}

pub(super) async fn splice_blob(core: &Core, request: re::SpliceBlobRequest) -> Result<re::SpliceBlobResponse, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let list = ChunkList::read(&mut reader, request.blob_digest.as_ref(), &request.chunk_digests);
    splice(core, list.map_err(|error| status::bad_chunk_list(&error))?).await?;
    Ok(re::SpliceBlobResponse { blob_digest: request.blob_digest })
}

/// Gathers a list that comes in parts; the end of the stream commits it. Spec: R-108.
pub(super) async fn register_chunk_mapping(
    core: &Core,
    caller: &Caller,
    mut messages: BoxStream<'static, Result<re::RegisterChunkMappingRequest, Status>>,
) -> Result<re::RegisterChunkMappingResponse, Status> {
    caller.check_anywhere(Role::CasWrite).map_err(status::denied)?;
    let first = next(core, &mut messages).await?.ok_or_else(|| status::invalid("the stream has no message"))?;
    caller.check(Role::CasWrite, &convert::instance(&first.instance_name)?).map_err(status::denied)?;
    let mut reader = DigestReader::declared(&core.settings, first.digest_function)?;
    let list = ChunkList::read(&mut reader, first.blob_digest.as_ref(), &first.chunk_digests);
    let mut list = list.map_err(|error| status::bad_chunk_list(&error))?;
    while let Some(message) = next(core, &mut messages).await? {
        list.extend(&mut reader, &message.chunk_digests).map_err(|error| status::bad_chunk_list(&error))?;
    }
    splice(core, list).await?;
    Ok(re::RegisterChunkMappingResponse { blob_digest: first.blob_digest })
}

async fn next(
    core: &Core,
    messages: &mut BoxStream<'static, Result<re::RegisterChunkMappingRequest, Status>>,
) -> Result<Option<re::RegisterChunkMappingRequest>, Status> {
    let limit = core.limits().no_progress;
    let message = tokio::time::timeout(limit, messages.next()).await.map_err(|_| status::no_progress(limit))?;
    message.transpose().map_err(|error| status::broken_stream(&error))
}

/// Makes a blob from chunks; success when it is here already. Spec.
async fn splice(core: &Core, list: ChunkList) -> Result<(), Status> {
    let blob = list.blob();
    core.check_size(blob)?;
    // One question for the blob and its chunks, which live longer by it.
    let asked: Vec<Digest> = [blob].into_iter().chain(list.chunks()).copied().collect();
    let missing = core.blobs.find_missing(&asked).await.map_err(status::from_store)?;
    if !missing.contains(blob) {
        return Ok(());
    }
    if !list.adds_up() {
        return Err(status::invalid(format!("the sizes of the chunks do not add up to that of {blob}")));
    }
    let missing: Vec<Digest> =
        missing.into_iter().filter(|chunk| chunk != blob || list.chunks().contains(blob)).collect();
    if !missing.is_empty() {
        return Err(status::missing(Code::NotFound, "chunks are not here", &missing));
    }
    let chunks: Vec<Digest> = list.chunks().iter().filter(|chunk| chunk.size_bytes() > 0).copied().collect();
    core.blobs.splice(*blob, &chunks).await.map_err(status::from_store)
}

#[cfg(test)]
mod tests;
