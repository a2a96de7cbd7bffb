//! Every RPC, made with a credential in an instance.

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use bazel_remote_apis::google::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use futures::future::BoxFuture;
use futures::stream;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::{ServerReflectionRequest, server_reflection_request::MessageRequest};

use super::credentials::{Credential, Setting};
use crate::harness::re::action_cache_client::ActionCacheClient;
use crate::harness::re::capabilities_client::CapabilitiesClient;
use crate::harness::re::content_addressable_storage_client::ContentAddressableStorageClient;
use crate::harness::{Blob, re};

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The caller may make it, whatever its answer.
    Allowed,
    /// PERMISSION_DENIED, 403.
    Forbidden,
    /// UNAUTHENTICATED, 401.
    Unauthenticated,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allowed => "yes",
            Self::Forbidden => "forbidden",
            Self::Unauthenticated => "who?",
        })
    }
}

type Run = dyn Fn(Arc<Setting>, Credential, &'static str) -> BoxFuture<'static, Outcome> + Send + Sync;

/// A call and the role that it needs.
#[derive(Clone)]
pub struct Call {
    pub name: &'static str,
    pub needs: &'static str,
    pub has_instance: bool,
    pub run: Arc<Run>,
}

/// A call of gRPC.
struct Rpc {
    channel: Channel,
    header: Option<String>,
    instance: String,
}

impl Rpc {
    fn new(setting: &Setting, credential: &Credential, instance: &str) -> Self {
        Self { channel: setting.channel(credential), header: credential.header.clone(), instance: instance.to_owned() }
    }

    /// The message with the credential beside it.
    fn ask<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        if let Some(header) = &self.header {
            request.metadata_mut().insert("authorization", header.parse().expect("a header"));
        }
        request
    }

    fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel.clone())
    }

    fn bytes(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel.clone())
    }

    fn actions(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel.clone())
    }

    fn name(&self, rest: &str) -> String {
        if self.instance.is_empty() { rest.to_owned() } else { format!("{}/{rest}", self.instance) }
    }

    fn at(&self, blob: &Blob) -> String {
        self.name(&format!("blobs/{}/{}", blob.digest.hash, blob.digest.size_bytes))
    }
}

fn outcome<T>(answer: &Result<T, Status>) -> Outcome {
    match answer.as_ref().map_or_else(Status::code, |_| Code::Ok) {
        Code::Unauthenticated => Outcome::Unauthenticated,
        Code::PermissionDenied => Outcome::Forbidden,
        Code::Ok | Code::NotFound | Code::InvalidArgument | Code::FailedPrecondition => Outcome::Allowed,
        code => panic!("neither an answer nor a refusal: {code:?}"),
    }
}

fn rpc<F, Fut, T>(name: &'static str, needs: &'static str, run: F) -> Call
where
    F: Fn(Rpc) -> Fut + Clone + Send + Sync + 'static,
    Fut: Future<Output = Result<T, Status>> + Send + 'static,
    T: 'static,
{
    let run =
        move |setting: Arc<Setting>, credential: Credential, instance: &'static str| -> BoxFuture<'static, Outcome> {
            let answer = run.clone()(Rpc::new(&setting, &credential, instance));
            Box::pin(async move { outcome(&answer.await) })
        };
    Call { name, needs, has_instance: true, run: Arc::new(run) }
}

fn blob() -> Blob {
    Blob::new(b"a blob of the roles".to_vec())
}

/// Every RPC that is served.
pub fn all() -> Vec<Call> {
    reads().into_iter().chain(writes()).chain(of_no_instance()).collect()
}

fn reads() -> Vec<Call> {
    vec![
        rpc("GetCapabilities", "read", |rpc| async move {
            let request = re::GetCapabilitiesRequest { instance_name: rpc.instance.clone() };
            CapabilitiesClient::new(rpc.channel.clone()).get_capabilities(rpc.ask(request)).await
        }),
        rpc("FindMissingBlobs", "read", |rpc| async move {
            let request = re::FindMissingBlobsRequest {
                instance_name: rpc.instance.clone(),
                blob_digests: vec![blob().digest],
                ..Default::default()
            };
            rpc.cas().find_missing_blobs(rpc.ask(request)).await
        }),
        rpc("BatchReadBlobs", "read", |rpc| async move {
            let digests = vec![blob().digest];
            let request =
                re::BatchReadBlobsRequest { instance_name: rpc.instance.clone(), digests, ..Default::default() };
            rpc.cas().batch_read_blobs(rpc.ask(request)).await
        }),
        rpc("GetTree", "read", |rpc| async move {
            let root_digest = Some(blob().digest);
            let request = re::GetTreeRequest { instance_name: rpc.instance.clone(), root_digest, ..Default::default() };
            rpc.cas().get_tree(rpc.ask(request)).await
        }),
        rpc("SplitBlob", "read", |rpc| async move {
            let blob_digest = Some(blob().digest);
            let request =
                re::SplitBlobRequest { instance_name: rpc.instance.clone(), blob_digest, ..Default::default() };
            rpc.cas().split_blob(rpc.ask(request)).await
        }),
        rpc("GetChunkMapping", "read", |rpc| async move {
            let blob_digest = Some(blob().digest);
            let request = re::GetChunkMappingRequest {
                instance_name: rpc.instance.clone(),
                blob_digest,
                digest_function: re::digest_function::Value::Sha256.into(),
                ..Default::default()
            };
            rpc.cas().get_chunk_mapping(rpc.ask(request)).await
        }),
        rpc("ByteStream.Read", "read", |rpc| async move {
            let request = ReadRequest { resource_name: rpc.at(&blob()), read_offset: 0, read_limit: 0 };
            rpc.bytes().read(rpc.ask(request)).await
        }),
        rpc("ByteStream.QueryWriteStatus", "read", |rpc| async move {
            let resource_name =
                rpc.name(&format!("uploads/u/blobs/{}/{}", blob().digest.hash, blob().digest.size_bytes));
            rpc.bytes().query_write_status(rpc.ask(QueryWriteStatusRequest { resource_name })).await
        }),
        rpc("GetActionResult", "read", |rpc| async move {
            let action_digest = Some(blob().digest);
            let request =
                re::GetActionResultRequest { instance_name: rpc.instance.clone(), action_digest, ..Default::default() };
            rpc.actions().get_action_result(rpc.ask(request)).await
        }),
    ]
}

fn writes() -> Vec<Call> {
    vec![
        rpc("BatchUpdateBlobs", "cas-write", |rpc| async move {
            let item = re::batch_update_blobs_request::Request {
                digest: Some(blob().digest),
                data: blob().data,
                ..Default::default()
            };
            let request = re::BatchUpdateBlobsRequest {
                instance_name: rpc.instance.clone(),
                requests: vec![item],
                ..Default::default()
            };
            rpc.cas().batch_update_blobs(rpc.ask(request)).await
        }),
        rpc("SpliceBlob", "cas-write", |rpc| async move {
            let request = re::SpliceBlobRequest {
                instance_name: rpc.instance.clone(),
                blob_digest: Some(blob().digest),
                chunk_digests: vec![blob().digest],
                ..Default::default()
            };
            rpc.cas().splice_blob(rpc.ask(request)).await
        }),
        rpc("RegisterChunkMapping", "cas-write", |rpc| async move {
            let message = re::RegisterChunkMappingRequest {
                instance_name: rpc.instance.clone(),
                blob_digest: Some(blob().digest),
                chunk_digests: vec![blob().digest],
                digest_function: re::digest_function::Value::Sha256.into(),
                ..Default::default()
            };
            rpc.cas().register_chunk_mapping(rpc.ask(stream::iter([message]))).await
        }),
        rpc("ByteStream.Write", "cas-write", |rpc| async move {
            let Blob { digest, data } = blob();
            let resource_name = rpc.name(&format!("uploads/u/blobs/{}/{}", digest.hash, digest.size_bytes));
            let message = WriteRequest { resource_name, write_offset: 0, finish_write: true, data };
            rpc.bytes().write(rpc.ask(stream::iter([message]))).await
        }),
        rpc("UpdateActionResult", "ac-write", |rpc| async move {
            let request = re::UpdateActionResultRequest {
                instance_name: rpc.instance.clone(),
                action_digest: Some(blob().digest),
                action_result: Some(re::ActionResult {
                    exit_code: 0,
                    stdout_raw: b"out".to_vec(),
                    ..Default::default()
                }),
                ..Default::default()
            };
            rpc.actions().update_action_result(rpc.ask(request)).await
        }),
    ]
}

fn of_no_instance() -> Vec<Call> {
    let reflection = rpc("ServerReflection", "read", |rpc| async move {
        let message_request = Some(MessageRequest::ListServices(String::new()));
        let question = ServerReflectionRequest { host: String::new(), message_request };
        let mut client = ServerReflectionClient::new(rpc.channel.clone());
        client.server_reflection_info(rpc.ask(stream::iter([question]))).await
    });
    let health = rpc("Health.Check", "open", |rpc| async move {
        HealthClient::new(rpc.channel.clone()).check(rpc.ask(HealthCheckRequest::default())).await
    });
    [reflection, health].map(|call| Call { has_instance: false, ..call }).into()
}

/// Stores a blob as this caller.
pub async fn store(setting: &Setting, credential: &Credential, instance: &str, blob: &Blob) {
    let rpc = Rpc::new(setting, credential, instance);
    let resource_name = rpc.name(&format!("uploads/u/blobs/{}/{}", blob.digest.hash, blob.digest.size_bytes));
    let message = WriteRequest { resource_name, write_offset: 0, finish_write: true, data: blob.data.clone() };
    rpc.bytes().write(rpc.ask(stream::iter([message]))).await.expect("stored");
}

/// What all the ways to ask for a blob answer: codes and texts.
pub async fn probes(setting: &Setting, credential: &Credential, instance: &str, blob: &Blob) -> Vec<String> {
    let rpc = Rpc::new(setting, credential, instance);
    let digest = || Some(blob.digest.clone());
    let instance_name = || rpc.instance.clone();
    let mut answers = Vec::new();
    let mut told = |status: Result<(), Status>| {
        answers.push(
            status.map_or_else(|status| format!("{:?} {}", status.code(), status.message()), |()| "ok".to_owned()),
        );
    };
    let request = re::FindMissingBlobsRequest {
        instance_name: instance_name(),
        blob_digests: vec![blob.digest.clone()],
        ..Default::default()
    };
    told(rpc.cas().find_missing_blobs(rpc.ask(request)).await.map(drop));
    let digests = vec![blob.digest.clone()];
    let request = re::BatchReadBlobsRequest { instance_name: instance_name(), digests, ..Default::default() };
    told(rpc.cas().batch_read_blobs(rpc.ask(request)).await.map(drop));
    let request = re::SplitBlobRequest { instance_name: instance_name(), blob_digest: digest(), ..Default::default() };
    told(rpc.cas().split_blob(rpc.ask(request)).await.map(drop));
    let request = re::GetTreeRequest { instance_name: instance_name(), root_digest: digest(), ..Default::default() };
    told(rpc.cas().get_tree(rpc.ask(request)).await.map(drop));
    let request = ReadRequest { resource_name: rpc.at(blob), read_offset: 0, read_limit: 0 };
    told(rpc.bytes().read(rpc.ask(request)).await.map(drop));
    let resource_name = rpc.name(&format!("uploads/u/blobs/{}/{}", blob.digest.hash, blob.digest.size_bytes));
    told(
        rpc.bytes()
            .query_write_status(rpc.ask(QueryWriteStatusRequest { resource_name: resource_name.clone() }))
            .await
            .map(drop),
    );
    let message = WriteRequest { resource_name, write_offset: 0, finish_write: true, data: blob.data.clone() };
    told(rpc.bytes().write(rpc.ask(stream::iter([message]))).await.map(drop));
    let item =
        re::batch_update_blobs_request::Request { digest: digest(), data: blob.data.clone(), ..Default::default() };
    let request =
        re::BatchUpdateBlobsRequest { instance_name: instance_name(), requests: vec![item], ..Default::default() };
    told(rpc.cas().batch_update_blobs(rpc.ask(request)).await.map(drop));
    for method in ["GET", "HEAD", "PUT"] {
        let path = rpc.name(&format!("cas/{}", blob.digest.hash));
        let answer = super::routes::ask(setting, credential, &format!("{method} /{path}"), b"");
        answers.push(format!("{} {}", answer.code, String::from_utf8_lossy(&answer.body)));
    }
    answers
}

/// What GetCapabilities says to this caller.
pub async fn update_enabled(setting: &Setting, credential: &Credential, instance: &str) -> bool {
    let rpc = Rpc::new(setting, credential, instance);
    let request = re::GetCapabilitiesRequest { instance_name: rpc.instance.clone() };
    let answer = CapabilitiesClient::new(rpc.channel.clone()).get_capabilities(rpc.ask(request)).await;
    let cache = answer.expect("capabilities").into_inner().cache_capabilities.expect("set");
    cache.action_cache_update_capabilities.expect("set").update_enabled
}
