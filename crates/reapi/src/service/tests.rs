use bytes::Bytes;
use cache_types::{Caller, Digest, DigestFunction, Grant, InstanceName, Role};
use futures::{StreamExt, stream};
use prost::Message;
use store::MemoryStore;
use tokio::net::TcpListener;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};
use tower::Layer;

use super::*;
use crate::convert::to_wire;
use crate::proto::bytestream::byte_stream_client::ByteStreamClient;
use crate::proto::bytestream::{QueryWriteStatusRequest, ReadRequest, WriteRequest};
use crate::proto::re;
use crate::proto::re::action_cache_client::ActionCacheClient;
use crate::proto::re::capabilities_client::CapabilitiesClient;
use crate::proto::re::content_addressable_storage_client::ContentAddressableStorageClient;

/// A server on loopback, stopped with the test.
struct Running {
    service: Service,
    channel: Channel,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn run(settings: Settings) -> Running {
    run_for(Caller::local(), settings).await
}

async fn run_for(caller: Caller, settings: Settings) -> Running {
    let store = Arc::new(MemoryStore::default());
    let service = Service::new(store.clone(), store, settings);
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback");
    let address = listener.local_addr().expect("bound");
    let routes = axum::Extension(caller).layer(service.routes());
    let task = tokio::spawn(async move {
        let incoming = TcpListenerStream::new(listener);
        Server::builder().serve_with_incoming(routes, incoming).await.expect("serves");
    });
    let endpoint = Endpoint::from_shared(format!("http://{address}")).expect("an address");
    Running { service, channel: endpoint.connect().await.expect("connects"), task }
}

fn digest(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

async fn health(channel: &Channel, service: &str) -> Result<i32, Code> {
    let request = HealthCheckRequest { service: service.to_owned() };
    let answer = HealthClient::new(channel.clone()).check(request).await.map_err(|status| status.code())?;
    Ok(answer.into_inner().status)
}

#[tokio::test]
async fn capabilities_are_those_of_the_specification() {
    let running = run(Settings {
        limits: crate::Limits { blob_bytes: 77, ..crate::Limits::default() }.into(),
        ..Settings::default()
    })
    .await;
    let mut client = CapabilitiesClient::new(running.channel.clone());
    let answer = client.get_capabilities(re::GetCapabilitiesRequest::default()).await.expect("answers").into_inner();
    let high = answer.high_api_version.expect("set");
    assert_eq!((high.major, high.minor, high.patch), (2, 13, 0));
    assert_eq!(answer.low_api_version.expect("set").minor, 0);
    assert!(answer.execution_capabilities.is_none());
    let cache = answer.cache_capabilities.expect("set");
    assert_eq!(cache.digest_functions.get(..2), Some([1, 9].as_slice()));
    assert_eq!((cache.supported_compressors, cache.supported_batch_update_compressors), (vec![1], vec![1]));
    assert_eq!((cache.max_batch_total_size_bytes, cache.max_cas_blob_size_bytes), (4_000_000, 77));
    assert!(cache.split_blob_support && cache.splice_blob_support);
    assert_eq!(cache.fast_cdc_2020_params.expect("set").avg_chunk_size_bytes, 524_288);
    let refused = client.get_capabilities(re::GetCapabilitiesRequest { instance_name: "a/blobs".to_owned() }).await;
    assert_eq!(refused.expect_err("reserved").code(), Code::InvalidArgument);
}

#[tokio::test]
async fn each_caller_is_told_whether_it_may_write_action_results() {
    let grant = |prefix: &str, role| {
        let prefix = InstanceName::parse(prefix).expect("a name");
        Grant { prefix, roles: [role].into_iter().collect() }
    };
    let caller = Caller::known("c", "", vec![grant("w", Role::AcWrite), grant("r", Role::CasWrite)]);
    let running = run_for(caller, Settings::default()).await;
    let mut client = CapabilitiesClient::new(running.channel.clone());
    let mut ask = async |instance: &str| {
        let request = re::GetCapabilitiesRequest { instance_name: instance.to_owned() };
        let answer = client.get_capabilities(request).await.map_err(|status| status.code())?.into_inner();
        let updates = answer.cache_capabilities.expect("set").action_cache_update_capabilities;
        Ok(updates.expect("set").update_enabled)
    };
    assert_eq!(ask("w/x").await, Ok(true));
    assert_eq!(ask("r").await, Ok(false));
    assert_eq!(ask("other").await, Err(Code::PermissionDenied));
    assert_eq!(health(&running.channel, "").await, Ok(1));
}

#[tokio::test]
async fn health_knows_each_service_and_says_when_the_server_is_about_to_stop() {
    let running = run(Settings::default()).await;
    let names = [
        "",
        "/grpc.health.v1.Health/Check",
        "grpc.health.v1.Health",
        "google.bytestream.ByteStream",
        "build.bazel.remote.execution.v2.ActionCache",
        "build.bazel.remote.execution.v2.Capabilities",
        "build.bazel.remote.execution.v2.ContentAddressableStorage",
    ];
    for name in names {
        assert_eq!(health(&running.channel, name).await, Ok(1), "{name}");
    }
    assert_eq!(health(&running.channel, "build.bazel.remote.execution.v2.Execution").await, Err(Code::NotFound));
    running.service.drain();
    for name in names {
        assert_eq!(health(&running.channel, name).await, Ok(2), "{name}");
    }
}

#[tokio::test]
async fn a_watch_follows_the_state_and_ends_with_it() {
    let running = run(Settings::default()).await;
    let mut client = HealthClient::new(running.channel.clone());
    let mut watch = async |service: &str| {
        let request = HealthCheckRequest { service: service.to_owned() };
        client.watch(request).await.expect("no name is an error").into_inner()
    };
    let (mut known, mut unknown) = (watch("").await, watch("no.such.Service").await);
    assert_eq!(known.message().await.expect("no error").expect("a state").status, 1);
    assert_eq!(unknown.message().await.expect("no error").expect("a state").status, 3);
    running.service.drain();
    assert_eq!(known.message().await.expect("no error").expect("a state").status, 2);
    assert_eq!(known.message().await.expect("no error"), None);
}

#[tokio::test]
async fn both_versions_of_reflection_list_the_services() {
    let running = run(Settings::default()).await;
    let wanted = "build.bazel.remote.execution.v2.ContentAddressableStorage";
    let request = v1::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
    };
    let mut client = v1::server_reflection_client::ServerReflectionClient::new(running.channel.clone());
    let mut answers = client.server_reflection_info(stream::iter([request])).await.expect("answers").into_inner();
    let answer = answers.message().await.expect("no error").expect("one").message_response.expect("set");
    let v1::server_reflection_response::MessageResponse::ListServicesResponse(list) = answer else {
        panic!("another answer: {answer:?}");
    };
    assert!(list.service.iter().any(|service| service.name == wanted));

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            wanted.to_owned(),
        )),
    };
    let mut client = v1alpha::server_reflection_client::ServerReflectionClient::new(running.channel.clone());
    let mut answers = client.server_reflection_info(stream::iter([request])).await.expect("answers").into_inner();
    let answer = answers.message().await.expect("no error").expect("one").message_response.expect("set");
    assert!(matches!(answer, v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(_)));
}

#[tokio::test]
async fn an_oversize_message_is_resource_exhausted_and_one_above_the_default_limit_is_taken() {
    let running = run(Settings::default()).await;
    let mut client = ContentAddressableStorageClient::new(running.channel.clone());
    let mut ask = async |len: usize| {
        let item = re::batch_update_blobs_request::Request {
            digest: Some(to_wire(&digest(b"x"))),
            data: vec![1; len].into(),
            compressor: 0,
        };
        client.batch_update_blobs(re::BatchUpdateBlobsRequest { requests: vec![item], ..Default::default() }).await
    };
    let taken = ask(6 << 20).await.expect("read").into_inner();
    assert_eq!(taken.responses[0].status.as_ref().expect("set").code, i32::from(Code::InvalidArgument));
    assert_eq!(ask(17 << 20).await.expect_err("too large").code(), Code::ResourceExhausted);
    let first = WriteRequest {
        resource_name: format!("uploads/u/blobs/{}", digest(&[1; 100])),
        data: vec![1; 17 << 20].into(),
        ..Default::default()
    };
    let refused = ByteStreamClient::new(running.channel.clone()).write(stream::iter([first])).await;
    assert_eq!(refused.expect_err("too large").code(), Code::ResourceExhausted);
}

#[tokio::test]
async fn what_is_not_served_is_unimplemented() {
    let running = run(Settings::default()).await;
    let mut grpc = tonic::client::Grpc::new(running.channel.clone());
    grpc.ready().await.expect("connected");
    let path = http::uri::PathAndQuery::from_static("/build.bazel.remote.execution.v2.Execution/Execute");
    let codec = tonic_prost::ProstCodec::<re::Digest, re::Digest>::default();
    let refused = grpc.unary(Request::new(re::Digest::default()), path, codec).await;
    assert_eq!(refused.expect_err("not served").code(), Code::Unimplemented);
}

#[tokio::test]
async fn blobs_go_up_and_come_down_over_the_wire() {
    let running = run(Settings::default()).await;
    let mut client = ByteStreamClient::new(running.channel.clone());
    let data = Bytes::from(b"0123456789abcdef".repeat(200_000));
    let digest = digest(&data);
    let name = format!("team/a/uploads/u/blobs/{digest}/file.txt");
    let query = QueryWriteStatusRequest { resource_name: name.clone() };
    let before = client.query_write_status(query.clone()).await.expect("answers").into_inner();
    assert_eq!((before.committed_size, before.complete), (0, false));
    let pieces = data.len() / 16_384;
    let messages: Vec<_> = (0..=pieces)
        .map(|index| WriteRequest {
            resource_name: if index == 0 { name.clone() } else { String::new() },
            write_offset: i64::try_from(index * 16_384).expect("short"),
            finish_write: index == pieces,
            data: data.slice(index * 16_384..data.len().min((index + 1) * 16_384)),
        })
        .collect();
    let written = client.write(stream::iter(messages.clone())).await.expect("stored").into_inner();
    assert_eq!(written.committed_size, digest.size_i64());
    let after = client.query_write_status(query).await.expect("answers").into_inner();
    assert_eq!((after.committed_size, after.complete), (digest.size_i64(), true));
    // Here already: the answer comes while the client still has more to send.
    let endless = stream::iter(messages.into_iter().take(1)).chain(stream::pending());
    let early = client.write(endless).await.expect("early").into_inner();
    assert_eq!(early.committed_size, digest.size_i64());

    let request = ReadRequest { resource_name: format!("blobs/{digest}"), read_offset: 7, read_limit: 0 };
    let mut answers = client.read(request).await.expect("here").into_inner();
    let mut read = Vec::new();
    while let Some(message) = answers.message().await.expect("no error") {
        read.extend_from_slice(&message.data);
    }
    assert_eq!(read, data[7..]);
}

#[tokio::test]
async fn results_and_trees_that_pass_as_bytes_are_ordinary_messages_to_a_client() {
    let running = run(Settings::default()).await;
    let mut client = ActionCacheClient::new(running.channel.clone());
    let action_digest = Some(to_wire(&digest(b"action")));
    let result = re::ActionResult { stdout_raw: Bytes::from_static(b"out"), exit_code: 4, ..Default::default() };
    let update = re::UpdateActionResultRequest {
        action_digest: action_digest.clone(),
        action_result: Some(result),
        ..Default::default()
    };
    let stored = client.update_action_result(update).await.expect("stored").into_inner();
    assert_eq!((stored.exit_code, stored.stdout_digest.clone()), (4, Some(to_wire(&digest(b"out")))));
    let get = re::GetActionResultRequest { action_digest, inline_stdout: true, ..Default::default() };
    let found = client.get_action_result(get).await.expect("complete").into_inner();
    assert_eq!(found, re::ActionResult { stdout_raw: Bytes::from_static(b"out"), ..stored });

    let root = re::Directory {
        symlinks: vec![re::SymlinkNode { name: "l".to_owned(), target: "/t".to_owned(), ..Default::default() }],
        ..Default::default()
    };
    let encoded = root.encode_to_vec();
    let mut cas = ContentAddressableStorageClient::new(running.channel.clone());
    let root_digest = Some(to_wire(&digest(&encoded)));
    let item =
        re::batch_update_blobs_request::Request { digest: root_digest.clone(), data: encoded.into(), compressor: 0 };
    cas.batch_update_blobs(re::BatchUpdateBlobsRequest { requests: vec![item], ..Default::default() })
        .await
        .expect("stored");
    let mut pages =
        cas.get_tree(re::GetTreeRequest { root_digest, ..Default::default() }).await.expect("here").into_inner();
    let page = pages.message().await.expect("no error").expect("one");
    assert_eq!((page.directories, page.next_page_token), (vec![root], String::new()));
    assert_eq!(pages.message().await.expect("no error"), None);
}
