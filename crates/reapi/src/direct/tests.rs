use bytes::BytesMut;
use cache_types::{Caller, Digest, DigestFunction, Grant, InstanceName};
use http_body::Body as _;
use store::{BlobStore, MemoryStore};

use super::*;
use crate::convert::to_wire;
use crate::{Service as Services, Settings};

const GET: &str = "/build.bazel.remote.execution.v2.ActionCache/GetActionResult";
const UPDATE: &str = "/build.bazel.remote.execution.v2.ActionCache/UpdateActionResult";
const FIND: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/FindMissingBlobs";
const BATCH: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchReadBlobs";
const UPDATE_BLOBS: &str = "/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs";
const READ: &str = "/google.bytestream.ByteStream/Read";

struct Fixture {
    direct: Direct,
    big: Digest,
    small: Digest,
    gone: Digest,
}

/// What a caller sees of an answer.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    data: Vec<u8>,
    code: Option<String>,
    message: Option<String>,
}

impl Fixture {
    async fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let big: Vec<u8> = (0..3_000_000_u32).map(|i| (i / 3 % 251) as u8).collect();
        let [big, small] = [&big[..], b"small"].map(|data| (Digest::of(DigestFunction::Sha256, data), data.to_vec()));
        for (digest, data) in [&big, &small] {
            store.write(*digest, Bytes::copy_from_slice(data).into()).await.expect("stored");
        }
        let gone = Digest::of(DigestFunction::Sha256, b"gone");
        let services = Services::new(store.clone(), store.clone(), Settings::default());
        let direct = services.with_memory(store).routes();
        Self { direct, big: big.0, small: small.0, gone }
    }

    fn request(path: &str, message: &[u8], headers: &[(&str, &str)]) -> Request<axum::body::Body> {
        let mut body = BytesMut::from(&[0][..]);
        body.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
        body.extend_from_slice(message);
        let mut request = Request::post(path).header("content-type", "application/grpc");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.extension(Caller::local());
        request.body(axum::body::Body::from(body.freeze())).expect("a request")
    }

    /// The answer of the short way, which must be that of the ordinary services.
    async fn ask(&self, path: &str, message: &impl Message) -> Seen {
        let request = || Self::request(path, &message.encode_to_vec(), &[]);
        let Either::Right(direct) = self.direct.clone().call(request()) else { panic!("{path} is hot") };
        let direct = seen(direct.await).await;
        assert_eq!(direct, seen(self.direct.rest.clone().call(request()).await).await, "{path}");
        direct
    }
}

async fn seen(response: Result<Response<Body>, Infallible>) -> Seen {
    let Ok(response) = response;
    let text = |headers: &HeaderMap, name| headers.get(name).map(|value| value.to_str().expect("text").to_owned());
    let (mut code, mut message) = (text(response.headers(), "grpc-status"), text(response.headers(), "grpc-message"));
    assert_eq!(response.headers()["content-type"], "application/grpc");
    let (mut body, mut data) = (response.into_body(), Vec::new());
    while let Some(frame) = futures::future::poll_fn(|cx| std::pin::Pin::new(&mut body).poll_frame(cx)).await {
        match frame.expect("a frame").into_data() {
            Ok(bytes) => data.extend_from_slice(&bytes),
            Err(frame) => {
                let Ok(trailers) = frame.into_trailers() else { panic!("neither data nor trailers") };
                (code, message) = (text(&trailers, "grpc-status"), text(&trailers, "grpc-message"));
            }
        }
    }
    Seen { data, code, message }
}

#[tokio::test]
async fn finding_what_is_missing_is_answered_as_by_the_ordinary_service() {
    let fixture = Fixture::new().await;
    let ask = |blob_digests: Vec<re::Digest>, instance_name: &str, digest_function| re::FindMissingBlobsRequest {
        instance_name: instance_name.to_owned(),
        blob_digests,
        digest_function,
    };
    let [big, small, gone] = [&fixture.big, &fixture.small, &fixture.gone].map(to_wire);
    let all = vec![big.clone(), gone.clone(), small, gone.clone(), to_wire(&Digest::empty(DigestFunction::Sha256))];
    let answer = fixture.ask(FIND, &ask(all, "team/a", 0)).await;
    assert_eq!(answer.code.as_deref(), Some("0"));
    let named = re::FindMissingBlobsResponse::decode(&answer.data[5..]).expect("an answer").missing_blob_digests;
    assert_eq!(named, std::slice::from_ref(&gone));
    for (request, code) in [
        (ask(Vec::new(), "", 0), "0"),
        (ask(vec![gone.clone()], "a/blobs", 0), "3"),
        (ask(vec![gone.clone()], "", 77), "3"),
        (ask(vec![gone.clone()], "", 2), "3"),
        (ask(vec![re::Digest { size_bytes: -1, ..big.clone() }], "", 1), "3"),
        (ask(vec![re::Digest { hash: big.hash.to_uppercase(), ..big }], "", 1), "3"),
        (ask(vec![re::Digest::default()], "", 1), "3"),
    ] {
        assert_eq!(fixture.ask(FIND, &request).await.code.as_deref(), Some(code), "{request:?}");
    }
}

#[tokio::test]
async fn batches_and_reads_are_answered_as_by_the_ordinary_services() {
    let fixture = Fixture::new().await;
    let [big, small, gone] = [&fixture.big, &fixture.small, &fixture.gone].map(to_wire);
    for (digests, acceptable_compressors) in [
        (vec![small.clone(), gone.clone(), big.clone(), small.clone(), re::Digest::default()], vec![]),
        (vec![big.clone(), small.clone()], vec![1]),
        (vec![big.clone(), big.clone()], vec![]),
        (vec![], vec![]),
    ] {
        let request = re::BatchReadBlobsRequest { digests, acceptable_compressors, ..Default::default() };
        fixture.ask(BATCH, &request).await;
    }
    let plain = |digest: &Digest| format!("blobs/{digest}");
    for (resource_name, read_offset, read_limit, code) in [
        (plain(&fixture.big), 0, 0, "0"),
        (plain(&fixture.big), 2_000_001, 7, "0"),
        (plain(&fixture.small), 1, 0, "0"),
        (plain(&fixture.small), 6, 0, "11"),
        (plain(&fixture.gone), 0, 0, "5"),
        (format!("compressed-blobs/zstd/{}", fixture.big), 0, 0, "0"),
        (plain(&Digest::empty(DigestFunction::Sha256)), 0, 0, "0"),
        ("nonsense".to_owned(), 0, 0, "3"),
    ] {
        let request = ReadRequest { resource_name, read_offset, read_limit };
        assert_eq!(fixture.ask(READ, &request).await.code.as_deref(), Some(code), "{request:?}");
    }
}

#[tokio::test]
async fn batches_are_stored_as_by_the_ordinary_service() {
    let fixture = Fixture::new().await;
    let blob = |data: &[u8], sent: &[u8]| re::batch_update_blobs_request::Request {
        digest: Some(to_wire(&Digest::of(DigestFunction::Sha256, data))),
        data: Bytes::copy_from_slice(sent),
        compressor: 0,
    };
    let large = vec![7; 300_000];
    for (requests, instance, code) in [
        (vec![blob(b"one", b"one"), blob(b"two", b"three"), blob(b"", b"")], "", "0"),
        (vec![blob(&large, &large), blob(b"four", b"four")], "", "0"),
        (vec![blob(b"five", b"five")], "a/blobs", "3"),
        (vec![], "", "0"),
    ] {
        let request =
            re::BatchUpdateBlobsRequest { instance_name: instance.to_owned(), requests, ..Default::default() };
        assert_eq!(fixture.ask(UPDATE_BLOBS, &request).await.code.as_deref(), Some(code), "{instance:?}");
    }
    for (data, is_here) in [(&b"one"[..], true), (b"two", false), (&large, true), (b"four", true), (b"five", false)] {
        let digest = Digest::of(DigestFunction::Sha256, data);
        let missing = fixture.direct.core.missing(&[digest]).await.expect("asked");
        assert_eq!(missing.is_empty(), is_here, "{digest}");
    }
}

#[tokio::test]
async fn action_results_are_answered_as_by_the_ordinary_service() {
    let fixture = Fixture::new().await;
    let action = to_wire(&Digest::of(DigestFunction::Sha256, b"action"));
    let output = |digest: &Digest| re::OutputFile {
        path: digest.hash().to_string(),
        digest: Some(to_wire(digest)),
        ..Default::default()
    };
    let get = |inline_stdout, files: &[&str]| re::GetActionResultRequest {
        action_digest: Some(action.clone()),
        inline_stdout,
        inline_output_files: files.iter().map(|file| (*file).to_owned()).collect(),
        ..Default::default()
    };
    assert_eq!(fixture.ask(GET, &get(false, &[])).await.code.as_deref(), Some("5"));
    for (outputs, code) in [(vec![&fixture.small, &fixture.big], "0"), (vec![&fixture.gone], "5"), (vec![], "0")] {
        let result = re::ActionResult {
            output_files: outputs.into_iter().map(output).collect(),
            stdout_digest: Some(to_wire(&fixture.small)),
            ..Default::default()
        };
        let update = re::UpdateActionResultRequest {
            action_digest: Some(action.clone()),
            action_result: Some(result),
            ..Default::default()
        };
        assert_eq!(fixture.ask(UPDATE, &update).await.code.as_deref(), Some("0"));
        let small = fixture.small.hash().to_string();
        // The second time the result is known.
        for _ in 0..2 {
            for request in [get(false, &[]), get(true, &[]), get(false, &[&small])] {
                assert_eq!(fixture.ask(GET, &request).await.code.as_deref(), Some(code));
            }
        }
    }
    let other_size = re::Digest { size_bytes: 99, ..action.clone() };
    let other = re::GetActionResultRequest { action_digest: Some(other_size), ..Default::default() };
    assert_eq!(fixture.ask(GET, &other).await.code.as_deref(), Some("5"));
    let none = re::GetActionResultRequest::default();
    assert_eq!(fixture.ask(GET, &none).await.code.as_deref(), Some("3"));
}

#[tokio::test]
async fn calls_are_counted_once_on_either_way() {
    let fixture = Fixture::new().await;
    let message = re::FindMissingBlobsRequest::default().encode_to_vec();
    let meter = fixture.direct.core.observer.meter(Endpoint::Rpc(Rpc::FindMissingBlobs));
    let plain = Fixture::request(FIND, &message, &[]);
    seen(fixture.direct.clone().call(plain).await).await;
    assert_eq!((meter.begun(), meter.in_flight(), meter.received_bytes()), (1, 0, 5));
    // A field that this version does not know is for the decoder.
    let unusual = Fixture::request(FIND, &[0x78, 1], &[]);
    assert_eq!(seen(fixture.direct.clone().call(unusual).await).await.code.as_deref(), Some("0"));
    assert_eq!((meter.begun(), meter.in_flight(), meter.received_bytes()), (2, 0, 12));
    assert_eq!(meter.codes(Endpoint::Rpc(Rpc::FindMissingBlobs)).collect::<Vec<_>>(), [("OK", 2)]);
}

#[tokio::test]
async fn who_may_not_is_refused_on_either_way() {
    let fixture = Fixture::new().await;
    let prefix = InstanceName::parse("team").expect("a name");
    let reader = Caller::known("r", "", vec![Grant { prefix, roles: [Role::Read].into_iter().collect() }]);
    let request = |path, message: Vec<u8>, caller: Option<&Caller>| {
        let mut request = Fixture::request(path, &message, &[]);
        request.extensions_mut().remove::<Caller>();
        caller.map(|caller| request.extensions_mut().insert(caller.clone()));
        request
    };
    let gone = to_wire(&fixture.gone);
    let messages = |instance: &str| {
        let instance_name = instance.to_owned();
        let (action_digest, digests) = (Some(gone.clone()), vec![gone.clone()]);
        let get =
            re::GetActionResultRequest { instance_name: instance_name.clone(), action_digest, ..Default::default() };
        let batch = re::BatchReadBlobsRequest { instance_name: instance_name.clone(), digests, ..Default::default() };
        let find =
            re::FindMissingBlobsRequest { instance_name, blob_digests: vec![gone.clone()], ..Default::default() };
        let read = ReadRequest { resource_name: format!("{instance}/blobs/{}", fixture.gone), ..Default::default() };
        [
            (GET, get.encode_to_vec()),
            (BATCH, batch.encode_to_vec()),
            (FIND, find.encode_to_vec()),
            (READ, read.encode_to_vec()),
        ]
    };
    let rejected = Caller::rejected("unknown");
    for (caller, instance, refusal) in [
        (None, "team", Some("16")),
        (Some(&rejected), "team", Some("16")),
        (Some(&reader), "other", Some("7")),
        (Some(&reader), "team/a", None),
    ] {
        let instance_name = instance.to_owned();
        let update = re::UpdateActionResultRequest { instance_name: instance_name.clone(), ..Default::default() }
            .encode_to_vec();
        let blobs = re::BatchUpdateBlobsRequest { instance_name, ..Default::default() }.encode_to_vec();
        for (path, message) in [(UPDATE, update), (UPDATE_BLOBS, blobs)] {
            let asked = seen(fixture.direct.clone().call(request(path, message, caller)).await).await;
            assert_eq!(asked.code.as_deref(), refusal.or(Some("7")), "{path}: a reader writes nowhere");
        }
        for (path, message) in messages(instance) {
            let asked = seen(fixture.direct.clone().call(request(path, message.clone(), caller)).await).await;
            let ordinary = seen(fixture.direct.rest.clone().call(request(path, message, caller)).await).await;
            assert_eq!(asked, ordinary, "{path}");
            let code = asked.code.as_deref().expect("a status");
            assert!(refusal.map_or(!matches!(code, "7" | "16"), |refusal| code == refusal), "{path} {code} {caller:?}");
        }
    }
}

#[tokio::test]
async fn what_is_not_plain_is_left_to_the_ordinary_services() {
    for headers in [[("grpc-encoding", "gzip")], [("grpc-encoding", "zstd")]] {
        assert_eq!(hot(&Fixture::request(FIND, b"", &headers)), None);
    }
    assert_eq!(hot(&Fixture::request(FIND, b"", &[("grpc-encoding", "identity")])), Some(Rpc::FindMissingBlobs));
    let mut request = Fixture::request(FIND, b"", &[]);
    request.headers_mut().insert("content-type", "application/grpc-web".parse().expect("a value"));
    assert_eq!(hot(&request), None);
    assert_eq!(hot(&Fixture::request("/x/FindMissingBlobs", b"", &[])), None);

    let fixture = Fixture::new().await;
    let broken = Fixture::request(GET, b"\xff\xff", &[]);
    let direct = seen(fixture.direct.clone().call(broken).await).await;
    let ordinary = seen(fixture.direct.rest.clone().call(Fixture::request(GET, b"\xff\xff", &[])).await).await;
    assert_eq!(direct, ordinary);
    assert_ne!(direct.code.as_deref(), Some("0"));
}
