//! Health, reflection, connections, shutdown. Spec: reapi §15.

use std::time::Duration;

use futures::{StreamExt, future, stream};
use tonic::Code;
use tonic::transport::Endpoint;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::{v1, v1alpha};

use crate::case::{Case, Context, case, invalid, message, open_upload, refused};
use crate::harness::{Server, digest_of, pieces};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_180_health_of_the_server_and_of_each_service", r_180),
        case("r_180_not_serving_is_told_first_then_calls_are_finished", r_180_drain),
        case("r_181_reflection_v1_and_v1alpha", r_181),
        case("r_182_many_streams_many_connections_frequent_pings", r_182),
        case("issue_2_a_unix_socket_serves_the_same", unix_socket),
    ]
}

const SERVICES: [&str; 4] = [
    "build.bazel.remote.execution.v2.Capabilities",
    "build.bazel.remote.execution.v2.ContentAddressableStorage",
    "build.bazel.remote.execution.v2.ActionCache",
    "google.bytestream.ByteStream",
];

fn health(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

async fn r_180(context: Context) {
    let mut stub = HealthClient::new(context.client.channel());
    let serving = i32::from(ServingStatus::Serving);
    // The last name is what tools written for a server with a wrong name ask.
    for service in [""].iter().chain(&SERVICES).chain(&["/grpc.health.v1.Health/Check"]) {
        let answer = stub.check(health(service)).await.expect(service).into_inner();
        assert_eq!(answer.status, serving, "{service}");
        let mut watch = stub.watch(health(service)).await.expect(service).into_inner();
        assert_eq!(watch.message().await.expect(service).expect("a first answer").status, serving, "{service}");
    }
    refused(stub.check(health("no.such.Service")).await, Code::NotFound, "an unknown service");
    let mut watch = stub.watch(health("no.such.Service")).await.expect("Watch").into_inner();
    let first = watch.message().await.expect("Watch").expect("a first answer");
    assert_eq!(first.status, i32::from(ServingStatus::ServiceUnknown));
}

async fn r_180_drain(context: Context) {
    let mut server = Server::start(&[]);
    let client = server.client();
    let blob = context.blob(50_000);
    let mut watch = HealthClient::new(server.client().channel()).watch(health("")).await.expect("Watch").into_inner();
    assert_eq!(watch.message().await.expect("Watch").expect("an answer").status, i32::from(ServingStatus::Serving));
    // An upload is under way when the server is told to stop.
    let mut messages = pieces(&client.write_name(&blob.digest), &blob.data, 20_000).into_iter();
    let upload = open_upload(&client, messages.next().expect("three")).await;
    client.find_missing(std::slice::from_ref(&blob.digest)).await.expect("the connection stands");
    server.ask_to_stop();
    let told = watch.message().await.expect("Watch").expect("an answer before the end");
    assert_eq!(told.status, i32::from(ServingStatus::NotServing));
    drop(watch);
    messages.for_each(|message| upload.send(message));
    assert_eq!(upload.finish().await.expect("an upload that was under way"), 50_000);
    drop(client);
    let status = server.wait_for_end();
    assert!(status.success(), "{status}");
    server.restart();
    assert_eq!(server.client().read(&blob.digest).await.expect("Read"), blob.data);
}

async fn r_181(context: Context) {
    let file = "build/bazel/remote/execution/v2/remote_execution.proto";
    let new =
        |message_request| v1::ServerReflectionRequest { host: String::new(), message_request: Some(message_request) };
    let requests = [
        new(v1::server_reflection_request::MessageRequest::ListServices(String::new())),
        new(v1::server_reflection_request::MessageRequest::FileContainingSymbol(SERVICES[1].to_owned())),
        new(v1::server_reflection_request::MessageRequest::FileByFilename(file.to_owned())),
        new(v1::server_reflection_request::MessageRequest::FileContainingSymbol("google.rpc.Status".to_owned())),
        new(v1::server_reflection_request::MessageRequest::FileContainingSymbol("no.Such".to_owned())),
    ];
    let mut stub = v1::server_reflection_client::ServerReflectionClient::new(context.client.channel());
    let answers = stub.server_reflection_info(stream::iter(requests)).await.expect("reflection v1").into_inner();
    let answers: Vec<_> = answers.map(|answer| answer.map(|answer| answer.message_response)).collect().await;
    use v1::server_reflection_response::MessageResponse;
    match &answers[0] {
        Ok(Some(MessageResponse::ListServicesResponse(list))) => {
            for service in SERVICES {
                assert!(list.service.iter().any(|listed| listed.name == service), "{service} is not listed: {list:?}");
            }
        }
        other => panic!("{other:?}"),
    }
    for answer in &answers[1..4] {
        match answer {
            Ok(Some(MessageResponse::FileDescriptorResponse(files))) => {
                assert!(!files.file_descriptor_proto.is_empty())
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(matches!(&answers[4], Err(_) | Ok(Some(MessageResponse::ErrorResponse(_)))), "{:?}", answers[4]);

    let request = v1alpha::ServerReflectionRequest {
        host: String::new(),
        message_request: Some(v1alpha::server_reflection_request::MessageRequest::FileContainingSymbol(
            SERVICES[2].to_owned(),
        )),
    };
    let mut stub = v1alpha::server_reflection_client::ServerReflectionClient::new(context.client.channel());
    let mut answers = stub.server_reflection_info(stream::iter([request])).await.expect("v1alpha").into_inner();
    let answer = answers.message().await.expect("v1alpha").expect("an answer").message_response;
    match answer {
        Some(v1alpha::server_reflection_response::MessageResponse::FileDescriptorResponse(files)) => {
            assert!(!files.file_descriptor_proto.is_empty());
        }
        other => panic!("{other:?}"),
    }
}

async fn r_182(context: Context) {
    let client = context.another_client();
    // 400 uploads are open at once on one connection, and a call beside them is answered.
    let blobs = context.blobs(400, 40);
    let uploads = future::join_all(blobs.iter().map(|blob| {
        let name = client.write_name(&blob.digest);
        let client = client.clone();
        async move { open_upload(&client, message(&name, 0, &blob.data[..20], false)).await }
    }));
    let uploads = uploads.await;
    client.find_missing(std::slice::from_ref(&blobs[0].digest)).await.expect("a call beside 400 open streams");
    for (upload, blob) in uploads.into_iter().zip(&blobs) {
        upload.send(message("", 20, &blob.data[20..], true));
        upload.finish().await.expect("Write");
    }
    // 100 connections, 20 calls each at once.
    let calls = (0..100).flat_map(|_| {
        let client = context.another_client();
        (0..20).map(move |_| client.clone())
    });
    let digest = blobs[0].digest.clone();
    let answers = future::join_all(calls.map(|client| {
        let digest = digest.clone();
        async move { client.read(&digest).await }
    }));
    assert!(answers.await.iter().all(|answer| answer.as_ref().is_ok_and(|data| *data == blobs[0].data)));
    // Pings far more frequent than any client sends, while an upload takes its time.
    let endpoint = Endpoint::from_shared(format!("http://{}", context.address())).expect("an address");
    let channel = endpoint
        .http2_keep_alive_interval(Duration::from_millis(100))
        .keep_alive_timeout(Duration::from_secs(20))
        .keep_alive_while_idle(true)
        .connect()
        .await
        .expect("a connection");
    let blob = context.blobs(401, 40)[400].clone();
    let paced = stream::iter(pieces(&client.write_name(&blob.digest), &blob.data, 4)).then(|message| async move {
        tokio::time::sleep(Duration::from_millis(200)).await;
        message
    });
    let mut stub = bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient::new(channel);
    assert_eq!(stub.write(paced).await.expect("no GOAWAY").into_inner().committed_size, 40);
}

async fn unix_socket(context: Context) {
    let server = Server::start_unix(&[]);
    let client = server.client();
    let blob = context.blob(100_000);
    client.write(&blob).await.expect("Write");
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
    invalid(client.find_missing(&[digest_of("x", 1)]).await, "a bad digest");
}
