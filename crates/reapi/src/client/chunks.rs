use cache_types::{ByteRange, Digest};
use futures::StreamExt;
use store::{BlobBody, BlobStore, Chunker, MAX_CHUNK_BYTES, StoreError};
use tonic::{Code, Status};

use super::retry::within;
use super::status::store_error;
use super::{RemoteStore, parse, wire, wire_function};
use crate::proto::re;
use crate::proto::re::chunking_function::Value as ChunkingFunction;

/// Digests in one message of a chunk list: under 1.5 MiB for the longest hash. Spec: R-109.
const DIGESTS_PER_MESSAGE: usize = 10_000;

/// The chunk list that the server has; where it has none that fits, the blob is cut here.
pub(super) async fn split(remote: &RemoteStore, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
    if remote.capabilities.split {
        match ask_list(remote, digest).await {
            Ok(chunks) if is_usable(digest, &chunks) => return Ok(Some(chunks)),
            Ok(_unusable) => {}
            Err(status) if matches!(status.code(), Code::NotFound | Code::Unimplemented) => {}
            Err(status) => return Err(store_error(status, Some(digest))),
        }
    }
    if digest.is_empty() {
        return Ok(Some(Vec::new()));
    }
    if digest.size_bytes() <= MAX_CHUNK_BYTES as u64 {
        return Ok(remote.find_missing(&[*digest]).await?.is_empty().then(|| vec![*digest]));
    }
    cut(remote, digest).await
}

/// Whether a list keeps what [`BlobStore::split`] promises. Spec: R-103.
fn is_usable(digest: &Digest, chunks: &[Digest]) -> bool {
    let sizes = || chunks.iter().map(Digest::size_bytes);
    sizes().try_fold(0u64, u64::checked_add) == Some(digest.size_bytes())
        && sizes().all(|size| size > 0 && size <= MAX_CHUNK_BYTES as u64)
}

/// Cuts a blob of a server that does not, and uploads the chunks.
async fn cut(remote: &RemoteStore, digest: &Digest) -> Result<Option<Vec<Digest>>, StoreError> {
    let Some(mut body) = remote.read(digest, ByteRange::ALL).await? else {
        return Ok(None);
    };
    let mut chunker = Chunker::default();
    let mut chunks = Vec::new();
    while let Some(piece) = body.next().await.transpose()? {
        chunker.push(&piece);
        while let Some(chunk) = chunker.next_chunk() {
            chunks.push(keep(remote, digest, chunk).await?);
        }
    }
    while let Some(chunk) = chunker.last_chunk() {
        chunks.push(keep(remote, digest, chunk).await?);
    }
    Ok(Some(chunks))
}

async fn keep(remote: &RemoteStore, whole: &Digest, chunk: bytes::Bytes) -> Result<Digest, StoreError> {
    let digest = Digest::of(whole.function(), &chunk);
    remote.write(digest, chunk.into()).await?;
    Ok(digest)
}

/// Has the server join the chunks; where it cannot, the bytes pass through here.
pub(super) async fn splice(remote: &RemoteStore, digest: Digest, chunks: &[Digest]) -> Result<(), StoreError> {
    if digest.is_empty() && chunks.iter().all(Digest::is_empty) {
        return Ok(());
    }
    if remote.capabilities.splice {
        match register(remote, &digest, chunks).await {
            Ok(()) => return Ok(()),
            Err(status) if status.code() == Code::AlreadyExists => return Ok(()),
            Err(status) if status.code() == Code::NotFound => return Err(absent(remote, status, &digest, chunks).await),
            Err(status) if status.code() != Code::Unimplemented => return Err(store_error(status, Some(&digest))),
            Err(_unimplemented) => {}
        }
    }
    if remote.find_missing(&[digest]).await?.is_empty() {
        return Ok(());
    }
    remote.write(digest, joined(remote.clone(), chunks.to_vec())).await
}

/// The error for chunks that the server says are not there.
async fn absent(remote: &RemoteStore, status: Status, digest: &Digest, chunks: &[Digest]) -> StoreError {
    match remote.find_missing(chunks).await {
        Ok(missing) => missing.first().map_or_else(
            || store_error(Status::aborted(status.message()), Some(digest)),
            |chunk| StoreError::MissingChunk(*chunk),
        ),
        Err(error) => error,
    }
}

/// The chunks' bytes, one after the other.
fn joined(remote: RemoteStore, chunks: Vec<Digest>) -> BlobBody {
    let bodies = futures::stream::iter(chunks).then(move |chunk| {
        let remote = remote.clone();
        async move { remote.read(&chunk, ByteRange::ALL).await?.ok_or(StoreError::MissingChunk(chunk)) }
    });
    BlobBody::from_stream(bodies.flat_map(|body| match body {
        Ok(body) => body.left_stream(),
        Err(error) => futures::stream::once(std::future::ready(Err(error))).right_stream(),
    }))
}

/// Asks by the call that the server's version names, then by the older or newer one.
async fn ask_list(remote: &RemoteStore, digest: &Digest) -> Result<Vec<Digest>, Status> {
    if remote.capabilities.streams_chunk_lists() {
        match ask_list_streaming(remote, digest).await {
            Err(status) if status.code() == Code::Unimplemented => ask_list_unary(remote, digest).await,
            result => result,
        }
    } else {
        match ask_list_unary(remote, digest).await {
            Err(status) if status.code() == Code::Unimplemented => ask_list_streaming(remote, digest).await,
            result => result,
        }
    }
}

async fn ask_list_unary(remote: &RemoteStore, digest: &Digest) -> Result<Vec<Digest>, Status> {
    let request = re::SplitBlobRequest {
        instance_name: remote.instance(),
        blob_digest: Some(wire(digest)),
        digest_function: wire_function(digest.function()),
        chunking_function: ChunkingFunction::FastCdc2020.into(),
    };
    let answer = remote
        .call(|| {
            let (mut cas, request) = (remote.cas(), request.clone());
            async move { cas.split_blob(request).await }
        })
        .await?;
    answer.chunk_digests.iter().map(|chunk| parse(digest.function(), chunk)).collect()
}

async fn ask_list_streaming(remote: &RemoteStore, digest: &Digest) -> Result<Vec<Digest>, Status> {
    let request = re::GetChunkMappingRequest {
        instance_name: remote.instance(),
        blob_digest: Some(wire(digest)),
        digest_function: wire_function(digest.function()),
        chunking_function: ChunkingFunction::FastCdc2020.into(),
    };
    let mut answers = remote
        .call(|| {
            let (mut cas, request) = (remote.cas(), request.clone());
            async move { cas.get_chunk_mapping(request).await }
        })
        .await?;
    let mut chunks = Vec::new();
    while let Some(answer) = within(remote.settings.no_progress, answers.message()).await? {
        for chunk in &answer.chunk_digests {
            chunks.push(parse(digest.function(), chunk)?);
        }
    }
    Ok(chunks)
}

async fn register(remote: &RemoteStore, digest: &Digest, chunks: &[Digest]) -> Result<(), Status> {
    if remote.capabilities.streams_chunk_lists() {
        match register_streaming(remote, digest, chunks).await {
            Err(status) if status.code() == Code::Unimplemented => register_unary(remote, digest, chunks).await,
            result => result,
        }
    } else {
        match register_unary(remote, digest, chunks).await {
            Err(status) if status.code() == Code::Unimplemented => register_streaming(remote, digest, chunks).await,
            result => result,
        }
    }
}

async fn register_unary(remote: &RemoteStore, digest: &Digest, chunks: &[Digest]) -> Result<(), Status> {
    let request = re::SpliceBlobRequest {
        instance_name: remote.instance(),
        blob_digest: Some(wire(digest)),
        chunk_digests: chunks.iter().map(wire).collect(),
        digest_function: wire_function(digest.function()),
        chunking_function: ChunkingFunction::FastCdc2020.into(),
    };
    let send = || {
        let (mut cas, request) = (remote.cas(), request.clone());
        async move { cas.splice_blob(request).await }
    };
    remote.call(send).await.map(|_answer| ())
}

async fn register_streaming(remote: &RemoteStore, digest: &Digest, chunks: &[Digest]) -> Result<(), Status> {
    let message = |part: &[Digest]| re::RegisterChunkMappingRequest {
        instance_name: remote.instance(),
        blob_digest: Some(wire(digest)),
        chunk_digests: part.iter().map(wire).collect(),
        digest_function: wire_function(digest.function()),
        chunking_function: ChunkingFunction::FastCdc2020.into(),
    };
    let mut messages: Vec<_> = chunks.chunks(DIGESTS_PER_MESSAGE).map(message).collect();
    if messages.is_empty() {
        messages.push(message(&[]));
    }
    let send = || {
        let (mut cas, messages) = (remote.cas(), messages.clone());
        async move { cas.register_chunk_mapping(futures::stream::iter(messages)).await }
    };
    remote.call(send).await.map(|_answer| ())
}
