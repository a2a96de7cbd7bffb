//! Status codes, their details, and the metadata of requests. Spec: reapi §11, §12.

use prost::Message as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::metadata::MetadataValue;
use tonic::{Code, Request, Status};

use crate::case::{Case, Context, action, case, code, invalid, result_with};
use crate::harness::{Blob, digest_of, re};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_151_a_missing_chunk_is_named_where_details_are_given", r_151),
        case("r_152_no_answer_is_cancelled_or_unknown", r_152),
        case("r_155_request_metadata_is_optional_and_a_broken_one_does_no_harm", r_155),
        case("r_156_the_old_metadata_key_is_taken_too", r_156),
        case("q_32_pants_asks_with_the_old_key", r_156),
        case("pain_08_what_cannot_be_read_is_said_to_be_missing_and_never_a_failed_precondition", pain_08),
    ]
}

async fn r_151(context: Context) {
    let client = &context.client;
    let chunks = context.blobs(2, 1000);
    client.write(&chunks[0]).await.expect("Write");
    let whole = Blob::new([&chunks[0].data[..], &chunks[1].data].concat());
    let request = re::SpliceBlobRequest {
        blob_digest: Some(whole.digest.clone()),
        chunk_digests: chunks.iter().map(|chunk| chunk.digest.clone()).collect(),
        ..Default::default()
    };
    let status = client.cas().splice_blob(request).await.expect_err("a chunk is absent");
    assert_eq!(status.code(), Code::NotFound);
    if let Some(details) = details_with(&status, "PreconditionFailure") {
        let text = String::from_utf8_lossy(&details);
        assert!(text.contains("MISSING"), "{text:?}");
        assert!(text.contains(&format!("blobs/{}/1000", chunks[1].digest.hash)), "{text:?}");
    }
    assert!(status.message().contains(&chunks[1].digest.hash) || !status.details().is_empty(), "{status:?}");
}

/// The detail of this type in a status, encoded.
pub fn details_with(status: &Status, kind: &str) -> Option<Vec<u8>> {
    let details = bazel_remote_apis::google::rpc::Status::decode(status.details()).expect("google.rpc.Status");
    let ending = format!("google.rpc.{kind}");
    details.details.into_iter().find(|detail| detail.type_url.ends_with(&ending)).map(|detail| detail.value)
}

/// Any bytes as a request.
#[derive(Clone, PartialEq, prost::Message)]
struct Raw {
    /// On the wire this is a digest function, a priority or a token of the wrong type.
    #[prost(string, tag = "1")]
    text: String,
    #[prost(string, tag = "2")]
    more: String,
}

async fn r_152(context: Context) {
    let client = &context.client;
    let mut codes = Vec::new();
    let service = "/build.bazel.remote.execution.v2.ContentAddressableStorage";
    for path in [
        format!("{service}/FindMissingBlobs"),
        format!("{service}/BatchReadBlobs"),
        format!("{service}/GetTree"),
        format!("{service}/NoSuchCall"),
        "/google.bytestream.ByteStream/Read".to_owned(),
        "/build.bazel.remote.execution.v2.ActionCache/GetActionResult".to_owned(),
        "/build.bazel.remote.execution.v2.Execution/Execute".to_owned(),
        "/no.such.Service/Call".to_owned(),
    ] {
        let mut grpc = tonic::client::Grpc::new(client.channel());
        grpc.ready().await.expect("a connection");
        let raw = Raw { text: "x".to_owned(), more: "\u{7f}\u{1}not a message".to_owned() };
        let codec = tonic_prost::ProstCodec::<Raw, Raw>::default();
        let outcome = grpc
            .server_streaming(Request::new(raw), PathAndQuery::try_from(path.as_str()).expect("a path"), codec)
            .await;
        let code = match outcome {
            Ok(stream) => code(&stream.into_inner().message().await),
            Err(status) => status.code(),
        };
        if path.contains("NoSuch") || path.contains("no.such") || path.contains("Execut") && path.contains("/Execute") {
            assert_eq!(code, Code::Unimplemented, "{path}");
        }
        codes.push((path, code));
    }
    let absent = context.blob(9).digest;
    codes.push(("Read".to_owned(), code(&client.read(&absent).await)));
    codes.push(("bad Read".to_owned(), code(&client.read_named("%%%", 0, 0).await)));
    codes.push(("no upload".to_owned(), code(&client.write_messages(Vec::new()).await)));
    for (path, code) in codes {
        assert!(!matches!(code, Code::Ok | Code::Cancelled | Code::Unknown | Code::AlreadyExists), "{path}: {code:?}");
    }
}

async fn asked_with(context: &Context, key: &'static str, value: &[u8]) -> Result<(), Status> {
    let blob = Blob::new(context.blob(30).data);
    let mut request =
        Request::new(re::FindMissingBlobsRequest { blob_digests: vec![blob.digest.clone()], ..Default::default() });
    request.metadata_mut().insert_bin(key, MetadataValue::from_bytes(value));
    context.client.cas().find_missing_blobs(request).await?;
    let mut request = Request::new(re::UpdateActionResultRequest {
        action_digest: Some(action(&mut context.random())),
        action_result: Some(result_with(&blob)),
        ..Default::default()
    });
    request.metadata_mut().insert_bin(key, MetadataValue::from_bytes(value));
    context.client.action_cache().update_action_result(request).await?;
    Ok(())
}

fn metadata() -> Vec<u8> {
    let metadata = re::RequestMetadata {
        tool_details: Some(re::ToolDetails { tool_name: "bazel".to_owned(), tool_version: "4.2.3".to_owned() }),
        action_id: "an action".to_owned(),
        tool_invocation_id: "an invocation".to_owned(),
        target_id: "//a:b".to_owned(),
        ..Default::default()
    };
    metadata.encode_to_vec()
}

async fn r_155(context: Context) {
    let key = "build.bazel.remote.execution.v2.requestmetadata-bin";
    asked_with(&context, key, &metadata()).await.expect("well-formed metadata");
    for broken in [&b"\xff\xff\xff\xff"[..], b"", &[0; 5000], &metadata()[..10]] {
        asked_with(&context, key, broken).await.expect("broken metadata");
    }
    // Metadata does not turn a wrong request into a right one.
    let mut request =
        Request::new(re::FindMissingBlobsRequest { blob_digests: vec![digest_of("x", 1)], ..Default::default() });
    request.metadata_mut().insert_bin(key, MetadataValue::from_bytes(&metadata()));
    invalid(context.client.cas().find_missing_blobs(request).await, "a bad digest");
}

async fn r_156(context: Context) {
    let key = "google.devtools.remoteexecution.v1test.requestmetadata-bin";
    asked_with(&context, key, &metadata()).await.expect("well-formed metadata");
    asked_with(&context, key, b"\xff\xff").await.expect("broken metadata");
}

async fn pain_08(context: Context) {
    let mut server = crate::harness::Server::start(&[]);
    let blob = context.blob(120_000);
    let action = action(&mut context.random());
    let client = server.client();
    client.write(&blob).await.expect("Write");
    client.update_action_result(&action, result_with(&blob)).await.expect("UpdateActionResult");
    server.terminate();
    crate::lifetimes::damage(server.folder(), &blob.data);
    server.restart();
    let client = server.client();
    // It was said to be there; the read that fails sets that right, for every call.
    assert!(client.has(&blob.digest).await, "damage is found out when the blob is read");
    assert!(matches!(code(&client.read(&blob.digest).await), Code::NotFound | Code::DataLoss));
    assert!(!client.has(&blob.digest).await);
    assert_eq!(code(&client.action_result(&action).await), Code::NotFound);
    assert_eq!(crate::case::read_code(&client, &blob.digest).await, Code::NotFound);
    assert!(!client.write_status(&client.write_name(&blob.digest)).await.expect("QueryWriteStatus").complete);
}
