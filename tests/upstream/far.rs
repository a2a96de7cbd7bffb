//! A far server that keeps everything in memory and misbehaves as it is told.

use std::collections::{BTreeMap, HashMap};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bazel_remote_apis::google::rpc;
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::sync::watch;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use super::harness::re::action_cache_server::{ActionCache, ActionCacheServer};
use super::harness::re::capabilities_server::{Capabilities, CapabilitiesServer};
use super::harness::re::content_addressable_storage_server::{
    ContentAddressableStorage, ContentAddressableStorageServer,
};
use super::harness::{Blob, bytestream, re};
use bytestream::byte_stream_server::{ByteStream, ByteStreamServer};

/// How the server behaves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mood {
    Honest,
    /// Each answer takes so long to begin.
    Slow(Duration),
    /// Each call is UNAVAILABLE.
    Refuses,
    /// No call is answered.
    Hangs,
    /// Reads stop in the middle.
    Cuts,
    /// Reads give other bytes of the same length.
    Lies,
}

/// The server and what it has seen. It ends with the test's runtime.
#[derive(Clone)]
pub struct Far {
    address: String,
    state: Arc<State>,
}

struct State {
    mood: Mutex<Mood>,
    /// Answers wait while this is set.
    held: watch::Sender<bool>,
    /// By `hash/size`.
    blobs: Mutex<HashMap<String, Vec<u8>>>,
    /// By instance and hash.
    results: Mutex<BTreeMap<(String, String), re::ActionResult>>,
    /// Calls by method, those of the capabilities left out.
    calls: Mutex<BTreeMap<&'static str, usize>>,
    /// The headers of the last call.
    headers: Mutex<tonic::metadata::MetadataMap>,
    /// Action results that came before a blob that they name.
    too_early: Mutex<Vec<String>>,
}

impl Far {
    pub async fn start() -> Self {
        let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
        let address = incoming.local_addr().expect("a bound socket").to_string();
        let state = Arc::new(State {
            mood: Mutex::new(Mood::Honest),
            held: watch::Sender::new(false),
            blobs: Mutex::default(),
            results: Mutex::default(),
            calls: Mutex::default(),
            headers: Mutex::default(),
            too_early: Mutex::default(),
        });
        let far = Self { address, state };
        let routes = Routes::new(CapabilitiesServer::new(far.clone()))
            .add_service(ContentAddressableStorageServer::new(far.clone()))
            .add_service(ByteStreamServer::new(far.clone()))
            .add_service(ActionCacheServer::new(far.clone()));
        tokio::spawn(Server::builder().add_routes(routes).serve_with_incoming(incoming.with_nodelay(Some(true))));
        far
    }

    pub fn url(&self) -> String {
        format!("grpc://{}", self.address)
    }

    pub fn behave(&self, mood: Mood) {
        *self.state.mood.lock().expect("unpoisoned") = mood;
    }

    /// Has answers wait until [`Far::release`].
    pub fn hold(&self) {
        self.state.held.send_replace(true);
    }

    pub fn release(&self) {
        self.state.held.send_replace(false);
    }

    pub fn put(&self, blob: &Blob) {
        self.state.blobs.lock().expect("unpoisoned").insert(key(&blob.digest), blob.data.clone());
    }

    pub fn forget(&self, blob: &Blob) {
        self.state.blobs.lock().expect("unpoisoned").remove(&key(&blob.digest));
    }

    pub fn has(&self, digest: &re::Digest) -> bool {
        self.state.blobs.lock().expect("unpoisoned").contains_key(&key(digest))
    }

    pub fn put_result(&self, instance: &str, action: &re::Digest, result: &re::ActionResult) {
        let key = (instance.to_owned(), action.hash.clone());
        self.state.results.lock().expect("unpoisoned").insert(key, result.clone());
    }

    /// The instances under which there is a result of this action.
    pub fn instances_of(&self, action: &re::Digest) -> Vec<String> {
        let results = self.state.results.lock().expect("unpoisoned");
        results.keys().filter(|(_, hash)| *hash == action.hash).map(|(instance, _)| instance.clone()).collect()
    }

    /// How often the methods whose names start so were called.
    pub fn calls(&self, method: &str) -> usize {
        let calls = self.state.calls.lock().expect("unpoisoned");
        calls.iter().filter(|(name, _)| name.starts_with(method)).map(|(_, count)| count).sum()
    }

    /// A header of the last call.
    pub fn header(&self, name: &str) -> Option<String> {
        let headers = self.state.headers.lock().expect("unpoisoned");
        headers.get(name).map(|value| value.to_str().expect("text").to_owned())
    }

    /// Action results that came before a blob that they name.
    pub fn too_early(&self) -> Vec<String> {
        self.state.too_early.lock().expect("unpoisoned").clone()
    }

    /// Counts a call and does what the mood says of all calls.
    async fn enter<T>(&self, method: &'static str, request: &Request<T>) -> Result<Mood, Status> {
        *self.state.calls.lock().expect("unpoisoned").entry(method).or_default() += 1;
        *self.state.headers.lock().expect("unpoisoned") = request.metadata().clone();
        self.state.held.subscribe().wait_for(|held| !held).await.expect("the sender is here");
        let mood = *self.state.mood.lock().expect("unpoisoned");
        match mood {
            Mood::Refuses => return Err(Status::unavailable("told to refuse")),
            Mood::Hangs => std::future::pending().await,
            Mood::Slow(time) => tokio::time::sleep(time).await,
            Mood::Honest | Mood::Cuts | Mood::Lies => {}
        }
        Ok(mood)
    }

    fn get(&self, key: &str) -> Result<Vec<u8>, Status> {
        let blobs = self.state.blobs.lock().expect("unpoisoned");
        blobs.get(key).cloned().ok_or_else(|| Status::not_found("not here"))
    }
}

fn key(digest: &re::Digest) -> String {
    format!("{}/{}", digest.hash, digest.size_bytes)
}

/// `hash/size` at the end of a resource name, and the instance at its start.
fn resource(name: &str) -> String {
    let mut parts = name.rsplit('/');
    let size = parts.next().expect("a size");
    format!("{}/{size}", parts.next().expect("a hash"))
}

fn lie(mut data: Vec<u8>) -> Vec<u8> {
    if let Some(byte) = data.first_mut() {
        *byte ^= 1;
    }
    data
}

fn status(error: Option<Status>) -> Option<rpc::Status> {
    let (code, message) = error.map_or((0, String::new()), |error| (error.code() as i32, error.message().to_owned()));
    Some(rpc::Status { code, message, details: Vec::new() })
}

#[tonic::async_trait]
impl Capabilities for Far {
    async fn get_capabilities(
        &self,
        _: Request<re::GetCapabilitiesRequest>,
    ) -> Result<Response<re::ServerCapabilities>, Status> {
        let mood = *self.state.mood.lock().expect("unpoisoned");
        match mood {
            Mood::Hangs => std::future::pending().await,
            Mood::Refuses => return Err(Status::unavailable("told to refuse")),
            _ => {}
        }
        let cache = re::CacheCapabilities {
            digest_functions: vec![
                re::digest_function::Value::Sha256.into(),
                re::digest_function::Value::Blake3.into(),
            ],
            ..Default::default()
        };
        Ok(Response::new(re::ServerCapabilities { cache_capabilities: Some(cache), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ContentAddressableStorage for Far {
    async fn find_missing_blobs(
        &self,
        request: Request<re::FindMissingBlobsRequest>,
    ) -> Result<Response<re::FindMissingBlobsResponse>, Status> {
        self.enter("FindMissingBlobs", &request).await?;
        let asked = request.into_inner().blob_digests;
        let missing_blob_digests = asked.into_iter().filter(|digest| !self.has(digest)).collect();
        Ok(Response::new(re::FindMissingBlobsResponse { missing_blob_digests }))
    }

    async fn batch_update_blobs(
        &self,
        request: Request<re::BatchUpdateBlobsRequest>,
    ) -> Result<Response<re::BatchUpdateBlobsResponse>, Status> {
        self.enter("Write/BatchUpdateBlobs", &request).await?;
        let store = |item: re::batch_update_blobs_request::Request| {
            let digest = item.digest.expect("a digest");
            self.state.blobs.lock().expect("unpoisoned").insert(key(&digest), item.data);
            re::batch_update_blobs_response::Response { digest: Some(digest), status: status(None) }
        };
        let responses = request.into_inner().requests.into_iter().map(store).collect();
        Ok(Response::new(re::BatchUpdateBlobsResponse { responses }))
    }

    async fn batch_read_blobs(
        &self,
        request: Request<re::BatchReadBlobsRequest>,
    ) -> Result<Response<re::BatchReadBlobsResponse>, Status> {
        let mood = self.enter("Read/BatchReadBlobs", &request).await?;
        if mood == Mood::Cuts {
            return Err(Status::unavailable("told to break"));
        }
        let read = |digest: re::Digest| {
            let (data, error) = match self.get(&key(&digest)) {
                Ok(data) if mood == Mood::Lies => (lie(data), None),
                Ok(data) => (data, None),
                Err(error) => (Vec::new(), Some(error)),
            };
            re::batch_read_blobs_response::Response {
                digest: Some(digest),
                data,
                status: status(error),
                ..Default::default()
            }
        };
        let responses = request.into_inner().digests.into_iter().map(read).collect();
        Ok(Response::new(re::BatchReadBlobsResponse { responses }))
    }

    type GetTreeStream = BoxStream<'static, Result<re::GetTreeResponse, Status>>;

    async fn get_tree(&self, _: Request<re::GetTreeRequest>) -> Result<Response<Self::GetTreeStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn split_blob(&self, _: Request<re::SplitBlobRequest>) -> Result<Response<re::SplitBlobResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    type GetChunkMappingStream = BoxStream<'static, Result<re::GetChunkMappingResponse, Status>>;

    async fn get_chunk_mapping(
        &self,
        _: Request<re::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn register_chunk_mapping(
        &self,
        _: Request<Streaming<re::RegisterChunkMappingRequest>>,
    ) -> Result<Response<re::RegisterChunkMappingResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }

    async fn splice_blob(&self, _: Request<re::SpliceBlobRequest>) -> Result<Response<re::SpliceBlobResponse>, Status> {
        Err(Status::unimplemented("not here"))
    }
}

#[tonic::async_trait]
impl ByteStream for Far {
    type ReadStream = BoxStream<'static, Result<bytestream::ReadResponse, Status>>;

    async fn read(&self, request: Request<bytestream::ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let mood = self.enter("Read/ByteStream", &request).await?;
        let request = request.into_inner();
        let mut data = self.get(&resource(&request.resource_name))?;
        if mood == Mood::Lies {
            data = lie(data);
        }
        let from = usize::try_from(request.read_offset).expect("a small offset");
        let half = data.len() / 2;
        let end = if mood == Mood::Cuts { half.max(from) } else { data.len() };
        let mut messages: Vec<_> = data[from..end]
            .chunks(64 * 1024)
            .map(|piece| Ok(bytestream::ReadResponse { data: piece.to_vec() }))
            .collect();
        if mood == Mood::Cuts {
            messages.push(Err(Status::unavailable("told to break")));
        }
        Ok(Response::new(futures::stream::iter(messages).boxed()))
    }

    async fn write(
        &self,
        request: Request<Streaming<bytestream::WriteRequest>>,
    ) -> Result<Response<bytestream::WriteResponse>, Status> {
        self.enter("Write/ByteStream", &request).await?;
        let mut messages = request.into_inner();
        let (mut name, mut data) = (String::new(), Vec::new());
        while let Some(message) = messages.message().await? {
            if !message.resource_name.is_empty() {
                name = message.resource_name;
            }
            data.extend(message.data);
        }
        let committed_size = i64::try_from(data.len()).expect("a small blob");
        self.state.blobs.lock().expect("unpoisoned").insert(resource(&name), data);
        Ok(Response::new(bytestream::WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        request: Request<bytestream::QueryWriteStatusRequest>,
    ) -> Result<Response<bytestream::QueryWriteStatusResponse>, Status> {
        self.enter("QueryWriteStatus", &request).await?;
        Ok(Response::new(bytestream::QueryWriteStatusResponse { committed_size: 0, complete: false }))
    }
}

#[tonic::async_trait]
impl ActionCache for Far {
    async fn get_action_result(
        &self,
        request: Request<re::GetActionResultRequest>,
    ) -> Result<Response<re::ActionResult>, Status> {
        self.enter("GetActionResult", &request).await?;
        let request = request.into_inner();
        let key = (request.instance_name, request.action_digest.expect("a digest").hash);
        let results = self.state.results.lock().expect("unpoisoned");
        results.get(&key).cloned().map(Response::new).ok_or_else(|| Status::not_found("no result here"))
    }

    async fn update_action_result(
        &self,
        request: Request<re::UpdateActionResultRequest>,
    ) -> Result<Response<re::ActionResult>, Status> {
        self.enter("UpdateActionResult", &request).await?;
        let request = request.into_inner();
        let (action, result) = (request.action_digest.expect("a digest"), request.action_result.expect("a result"));
        for digest in result.output_files.iter().filter_map(|file| file.digest.as_ref()) {
            if !self.has(digest) {
                self.state.too_early.lock().expect("unpoisoned").push(action.hash.clone());
            }
        }
        self.put_result(&request.instance_name, &action, &result);
        Ok(Response::new(result))
    }
}
