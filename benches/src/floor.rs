//! The floor: the RPCs of a cache answered by tonic from hash maps. It hashes nothing, stores nothing, checks nothing.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use futures::stream::BoxStream;
use reapi::proto::bytestream::byte_stream_server::{ByteStream, ByteStreamServer};
use reapi::proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest, WriteResponse,
};
use reapi::proto::re;
use reapi::proto::re::action_cache_server::{ActionCache, ActionCacheServer};
use reapi::proto::re::capabilities_server::{Capabilities, CapabilitiesServer};
use reapi::proto::re::content_addressable_storage_server::{
    ContentAddressableStorage, ContentAddressableStorageServer,
};
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

const MAX_MESSAGE_BYTES: usize = 16 * 1024 * 1024;
const PIECE_BYTES: usize = 256 * 1024;

#[derive(Clone, Default)]
struct Floor {
    blobs: Arc<RwLock<HashMap<String, Bytes>>>,
    results: Arc<RwLock<HashMap<String, re::ActionResult>>>,
}

/// Serves on a free port, says which on standard output, and ends when standard input does.
pub async fn serve() -> anyhow::Result<()> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
    println!("listening on {}", listener.local_addr()?);
    let floor = Floor::default();
    Server::builder()
        .initial_stream_window_size(4 * 1024 * 1024)
        .initial_connection_window_size(16 * 1024 * 1024)
        .add_service(CapabilitiesServer::new(floor.clone()))
        .add_service(ActionCacheServer::new(floor.clone()))
        .add_service(ContentAddressableStorageServer::new(floor.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .add_service(ByteStreamServer::new(floor).max_decoding_message_size(MAX_MESSAGE_BYTES))
        .serve_with_incoming_shutdown(TcpIncoming::from(listener).with_nodelay(Some(true)), parent_gone())
        .await?;
    Ok(())
}

async fn parent_gone() {
    let read = tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink()));
    if let Ok(Err(error)) = read.await {
        eprintln!("standard input: {error}");
    }
}

impl Floor {
    fn blob(&self, hash: &str) -> Option<Bytes> {
        self.blobs.read().expect("no holder panics").get(hash).cloned()
    }

    fn keep(&self, hash: String, data: Bytes) {
        self.blobs.write().expect("no holder panics").insert(hash, data);
    }
}

fn hash_of(digest: Option<re::Digest>) -> Result<String, Status> {
    digest.map(|digest| digest.hash).ok_or_else(|| Status::invalid_argument("no digest"))
}

/// The hash in a resource name: the segment before the last.
fn hash_in(resource_name: &str) -> Result<&str, Status> {
    resource_name.rsplit('/').nth(1).ok_or_else(|| Status::invalid_argument("no hash"))
}

#[tonic::async_trait]
impl Capabilities for Floor {
    async fn get_capabilities(
        &self,
        _request: Request<re::GetCapabilitiesRequest>,
    ) -> Result<Response<re::ServerCapabilities>, Status> {
        let cache = re::CacheCapabilities {
            digest_functions: vec![re::digest_function::Value::Sha256.into()],
            action_cache_update_capabilities: Some(re::ActionCacheUpdateCapabilities { update_enabled: true }),
            max_batch_total_size_bytes: 4_000_000,
            ..Default::default()
        };
        Ok(Response::new(re::ServerCapabilities { cache_capabilities: Some(cache), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ActionCache for Floor {
    async fn get_action_result(
        &self,
        request: Request<re::GetActionResultRequest>,
    ) -> Result<Response<re::ActionResult>, Status> {
        let hash = hash_of(request.into_inner().action_digest)?;
        let result = self.results.read().expect("no holder panics").get(&hash).cloned();
        result.map(Response::new).ok_or_else(|| Status::not_found(hash))
    }

    async fn update_action_result(
        &self,
        request: Request<re::UpdateActionResultRequest>,
    ) -> Result<Response<re::ActionResult>, Status> {
        let request = request.into_inner();
        let result = request.action_result.ok_or_else(|| Status::invalid_argument("no result"))?;
        let hash = hash_of(request.action_digest)?;
        self.results.write().expect("no holder panics").insert(hash, result.clone());
        Ok(Response::new(result))
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for Floor {
    type GetTreeStream = BoxStream<'static, Result<re::GetTreeResponse, Status>>;
    type GetChunkMappingStream = BoxStream<'static, Result<re::GetChunkMappingResponse, Status>>;

    async fn find_missing_blobs(
        &self,
        request: Request<re::FindMissingBlobsRequest>,
    ) -> Result<Response<re::FindMissingBlobsResponse>, Status> {
        let blobs = self.blobs.read().expect("no holder panics");
        let mut missing_blob_digests = request.into_inner().blob_digests;
        missing_blob_digests.retain(|digest| !blobs.contains_key(&digest.hash));
        Ok(Response::new(re::FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<re::BatchUpdateBlobsRequest>,
    ) -> Result<Response<re::BatchUpdateBlobsResponse>, Status> {
        let mut responses = Vec::new();
        for blob in request.into_inner().requests {
            let digest = blob.digest.ok_or_else(|| Status::invalid_argument("no digest"))?;
            self.keep(digest.hash.clone(), blob.data);
            responses.push(re::batch_update_blobs_response::Response {
                digest: Some(digest),
                status: Some(Default::default()),
            });
        }
        Ok(Response::new(re::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<re::BatchReadBlobsRequest>,
    ) -> Result<Response<re::BatchReadBlobsResponse>, Status> {
        let mut responses = Vec::new();
        for digest in request.into_inner().digests {
            let data = self.blob(&digest.hash).ok_or_else(|| Status::not_found(digest.hash.clone()))?;
            responses.push(re::batch_read_blobs_response::Response {
                digest: Some(digest),
                data,
                compressor: 0,
                status: Some(Default::default()),
            });
        }
        Ok(Response::new(re::BatchReadBlobsResponse { responses }))
    }

    async fn get_tree(&self, _: Request<re::GetTreeRequest>) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(not_measured())
    }

    async fn split_blob(&self, _: Request<re::SplitBlobRequest>) -> Result<Response<re::SplitBlobResponse>, Status> {
        Err(not_measured())
    }

    async fn splice_blob(&self, _: Request<re::SpliceBlobRequest>) -> Result<Response<re::SpliceBlobResponse>, Status> {
        Err(not_measured())
    }

    async fn get_chunk_mapping(
        &self,
        _: Request<re::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(not_measured())
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<re::RegisterChunkMappingRequest>>,
    ) -> Result<Response<re::RegisterChunkMappingResponse>, Status> {
        Err(not_measured())
    }
}

fn not_measured() -> Status {
    Status::unimplemented("the floor answers only what is measured")
}

#[tonic::async_trait]
impl ByteStream for Floor {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let name = &request.get_ref().resource_name;
        let mut left = self.blob(hash_in(name)?).ok_or_else(|| Status::not_found(name.clone()))?;
        let pieces = std::iter::from_fn(move || {
            let data = left.split_to(left.len().min(PIECE_BYTES));
            (!data.is_empty()).then_some(Ok(ReadResponse { data }))
        });
        Ok(Response::new(futures::stream::iter(pieces).boxed()))
    }

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        let mut messages = request.into_inner();
        let first = messages.message().await?.ok_or_else(|| Status::invalid_argument("no message"))?;
        let hash = hash_in(&first.resource_name)?.to_owned();
        let data = if first.finish_write {
            first.data
        } else {
            let mut data = BytesMut::from(first.data);
            while let Some(message) = messages.message().await? {
                data.extend_from_slice(&message.data);
            }
            data.freeze()
        };
        let committed_size = i64::try_from(data.len()).unwrap_or(i64::MAX);
        self.keep(hash, data);
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Err(not_measured())
    }
}
