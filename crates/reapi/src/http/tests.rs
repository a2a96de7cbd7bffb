use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use bytes::Bytes;
use cache_types::{Caller, Digest, DigestFunction, Grant, InstanceName, Role};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use store::{BlobStore, Fault, Faulty, MemoryStore};
use tower::util::BoxCloneService;
use tower::{Layer, ServiceExt};

use crate::action_cache::{self, ActionName};
use crate::convert::to_wire;
use crate::core::Core;
use crate::proto::re;
use crate::{InstanceRule, Limits, Service, Settings, zstd_stream};

/// The services over a memory store.
struct Fixture {
    store: Arc<MemoryStore>,
    routes: Routes,
}

/// An answer, read to its end.
#[derive(Debug)]
struct Answered {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answered {
    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().expect("text"))
    }
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        let store = Arc::new(MemoryStore::default());
        let service = Service::new(store.clone(), store.clone(), settings).with_http(store.clone());
        Self { store, routes: with_caller(service.routes(), Caller::local()) }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answered {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body.into()).expect("a request");
        let (head, body) = self.routes.clone().oneshot(request).await.expect("never fails").into_parts();
        let body = axum::body::to_bytes(Body::new(body), usize::MAX).await.expect("a whole body");
        Answered { code: head.status.as_u16(), headers: head.headers, body }
    }

    async fn put(&self, path: &str, body: &[u8]) -> u16 {
        self.ask("PUT", path, &[], Bytes::copy_from_slice(body)).await.code
    }

    async fn get(&self, path: &str) -> (u16, Bytes) {
        let answered = self.ask("GET", path, &[], Body::empty()).await;
        (answered.code, if answered.code == 200 { answered.body } else { Bytes::new() })
    }
}

/// All services, whoever calls them.
type Routes = BoxCloneService<Request<Body>, http::Response<tonic::body::Body>, std::convert::Infallible>;

fn with_caller(services: crate::Direct, caller: Caller) -> Routes {
    Routes::new(Extension(caller).layer(services))
}

fn digest(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

fn cas(data: &[u8]) -> String {
    format!("/cas/{}", digest(data).hash())
}

/// A body without a length.
fn chunked(data: &'static [u8]) -> Body {
    let pieces = data.chunks(3).map(|piece| Ok::<_, std::io::Error>(Bytes::from_static(piece)));
    Body::from_stream(futures::stream::iter(pieces))
}

#[tokio::test]
async fn a_blob_comes_back_whole_by_head_and_in_ranges() {
    let fixture = Fixture::new(Settings::default());
    let path = cas(b"0123456789");
    assert_eq!(fixture.get(&path).await.0, 404);
    assert_eq!(fixture.put(&path, b"0123456789").await, 200);
    assert_eq!(fixture.put(&path, b"0123456789").await, 200, "again");
    assert_eq!(fixture.get(&format!("/any/instance{path}")).await, (200, "0123456789".into()));
    let head = fixture.ask("HEAD", &path, &[], Body::empty()).await;
    assert_eq!((head.code, head.header("content-length"), head.body.len()), (200, "10", 0));
    assert_eq!(head.header("accept-ranges"), "bytes");
    for (range, code, body, described) in [
        ("bytes=2-4", 206, "234", "bytes 2-4/10"),
        ("bytes=7-", 206, "789", "bytes 7-9/10"),
        ("bytes=-1", 206, "9", "bytes 9-9/10"),
        ("bytes=0-3,5-6", 200, "0123456789", ""),
    ] {
        let part = fixture.ask("GET", &path, &[("range", range)], Body::empty()).await;
        assert_eq!((part.code, &part.body[..], part.header("content-range")), (code, body.as_bytes(), described));
        assert_eq!(part.header("content-length"), body.len().to_string());
    }
    let past = fixture.ask("GET", &path, &[("range", "bytes=10-")], Body::empty()).await;
    assert_eq!((past.code, past.header("content-range")), (416, "bytes */10"));
    let stale = fixture.ask("GET", &path, &[("range", "bytes=2-"), ("if-range", "\"other\"")], Body::empty()).await;
    assert_eq!((stale.code, stale.body.len()), (200, 10));
}

#[tokio::test]
async fn what_does_not_hash_to_its_name_is_refused_and_not_stored() {
    let fixture = Fixture::new(Settings::default());
    let path = cas(b"right");
    for wrong in [&b"wrong"[..], b"longer than right", b""] {
        assert_eq!(fixture.put(&path, wrong).await, 400);
        assert_eq!(fixture.get(&path).await.0, 404);
    }
    assert_eq!(fixture.ask("PUT", &path, &[], chunked(b"wrong")).await.code, 400);
    assert_eq!(fixture.get(&path).await.0, 404);
    assert_eq!(fixture.ask("PUT", &path, &[], chunked(b"right")).await.code, 200);
    assert_eq!(fixture.get(&path).await, (200, "right".into()));
    assert_eq!(fixture.put(&path, b"wrong").await, 400, "one that is here is checked too");
    assert_eq!(fixture.put(&path, b"wrong and long").await, 400);
    assert_eq!(fixture.put(&cas(b""), b"").await, 200);
    assert_eq!(fixture.get(&cas(b"")).await, (200, Bytes::new()));
}

#[tokio::test]
async fn blobs_of_any_function_of_the_length_are_taken_and_found() {
    let fixture = Fixture::new(Settings::default());
    let path = |function, data: &[u8]| format!("/cas/{}", Digest::of(function, data).hash());
    let data: Vec<u8> = (0..3_000_000u32).map(|n| (n % 251) as u8).collect();
    let last = &data[..2_000_000];
    let blake3 = path(DigestFunction::Blake3, &data);
    let refused = fixture.ask("PUT", &blake3, &[], data.clone()).await;
    assert_eq!((refused.code, refused.header("retry-after")), (503, "1"), "the first large one shows the function");
    assert_eq!(fixture.get(&blake3).await.0, 404);
    assert_eq!(fixture.put(&blake3, &data).await, 200);
    assert!(fixture.get(&blake3).await == (200, data.clone().into()));
    for function in DigestFunction::ALL {
        let small = function.name().as_bytes();
        assert_eq!(fixture.put(&path(function, small), small).await, 200, "{function}");
        assert_eq!(fixture.get(&path(function, small)).await, (200, small.to_vec().into()));
        assert_eq!(fixture.put(&path(function, last), last).await, 200, "{function}");
        assert_eq!(fixture.put(&path(function, last), last).await, 200, "{function}, again");
        assert_eq!(fixture.put(&path(function, last), small).await, 400, "{function}");
        assert_eq!(fixture.put(&path(function, &data[1..]), &data[2..]).await, 400, "{function}");
        assert_eq!(fixture.get(&path(function, &data[1..])).await.0, 404);
        if function != DigestFunction::GitSha1 {
            let chunk = &b"some pieces"[..];
            assert_eq!(fixture.ask("PUT", &path(function, chunk), &[], chunked(chunk)).await.code, 200, "{function}");
        }
    }
}

#[tokio::test]
async fn the_function_of_an_instance_holds_for_its_action_results_too() {
    let rule = InstanceRule {
        prefix: InstanceName::parse("b3").expect("a name"),
        strict_ac: false,
        default_digest_function: Some(DigestFunction::Blake3),
    };
    let fixture = Fixture::new(Settings { instances: vec![rule], ..Settings::default() });
    let large = vec![3; 2 << 20];
    let large_path = format!("/b3/cas/{}", Digest::of(DigestFunction::Blake3, &large).hash());
    assert_eq!(fixture.put(&large_path, &large).await, 200, "the rule says what it is");
    let file = Digest::of(DigestFunction::Blake3, b"file");
    let file_path = format!("/cas/{}", file.hash());
    let output = re::OutputFile { path: "out".to_owned(), digest: Some(to_wire(&file)), ..Default::default() };
    let result = re::ActionResult { output_files: vec![output], ..Default::default() };
    let action = Digest::of(DigestFunction::Blake3, b"action");
    for instance in ["b3/", ""] {
        let path = format!("/{instance}ac/{}", action.hash());
        assert_eq!(fixture.put(&file_path, b"file").await, 200);
        assert_eq!(fixture.put(&path, &result.encode_to_vec()).await, 200);
        let (code, body) = fixture.get(&path).await;
        assert_eq!(code, 200, "{path}");
        assert_eq!(re::ActionResult::decode(body).expect("an ActionResult").output_files, result.output_files);
        let name = instance.trim_end_matches('/');
        let core = Core::new(fixture.store.clone(), fixture.store.clone(), Settings::default());
        let name = ActionName::of(InstanceName::parse(name).expect("a name"), &action);
        assert!(action_cache::find(&core, &name).await.expect("answers").is_ok(), "as over gRPC");
        assert_eq!(fixture.put(&path, b"raw").await, 200);
        assert_eq!(fixture.get(&path).await, (200, "raw".into()), "the last write wins");
        assert!(action_cache::find(&core, &name).await.expect("answers").is_err());
    }
}

#[tokio::test]
async fn zstd_travels_both_ways_and_never_with_a_range() {
    let fixture = Fixture::new(Settings::default());
    let data = b"the same words again and again ".repeat(100_000);
    let packed = Bytes::from(zstd_stream::encode_all(&data).expect("compresses"));
    let size = data.len().to_string();
    let path = cas(&data);
    let sized = [("content-encoding", "zstd"), ("x-digest-sizebytes", &*size)];
    for headers in [&sized[..], &sized[..1]] {
        assert_eq!(fixture.ask("PUT", &path, headers, packed.clone()).await.code, 200);
        assert!(fixture.get(&path).await == (200, data.clone().into()));
        assert_eq!(fixture.ask("PUT", &path, headers, packed.clone()).await.code, 200, "again");
        fixture.store.forget(&digest(&data));
        assert_eq!(fixture.ask("PUT", &path, headers, packed.slice(..packed.len() - 1)).await.code, 400, "cut");
        assert_eq!(fixture.ask("PUT", &path, headers, data[..100].to_vec()).await.code, 400, "not zstd");
        assert_eq!(fixture.get(&path).await.0, 404);
    }
    for wrong in ["1", "3099999", "3100001", "-1", "x"] {
        let headers = [("content-encoding", "zstd"), ("x-digest-sizebytes", wrong)];
        assert_eq!(fixture.ask("PUT", &path, &headers, packed.clone()).await.code, 400, "{wrong}");
        assert_eq!(fixture.get(&path).await.0, 404);
    }
    assert_eq!(fixture.put(&path, &data).await, 200);
    let accepted = [("accept-encoding", "gzip, zstd")];
    let sent = fixture.ask("GET", &path, &accepted, Body::empty()).await;
    assert_eq!((sent.code, sent.header("content-encoding"), sent.header("content-length")), (200, "zstd", ""));
    assert_eq!(sent.header("vary"), "accept-encoding");
    assert!(sent.body.len() < data.len() / 10);
    assert!(
        zstd_stream::decode_all(sent.body.clone(), data.len() as u64, crate::ZstdLimits::default()).expect("a frame")
            == data
    );
    let part = [accepted[0], ("range", "bytes=4-7")];
    let part = fixture.ask("GET", &path, &part, Body::empty()).await;
    assert_eq!((part.code, &part.body[..], part.header("content-encoding")), (206, &b"same"[..], ""));
    let plain = fixture.ask("GET", &path, &[], Body::empty()).await;
    assert_eq!((plain.header("vary"), plain.header("content-encoding")), ("accept-encoding", ""));
    assert_ne!(plain.header("etag"), sent.header("etag"), "other bytes, another tag");
    for (tag, headers) in [(plain.header("etag"), &[][..]), (sent.header("etag"), &accepted[..])] {
        let known = [headers, &[("if-none-match", tag)]].concat();
        let answered = fixture.ask("GET", &path, &known, Body::empty()).await;
        assert_eq!((answered.code, answered.header("etag"), answered.body.len()), (304, tag, 0));
    }
    fixture.store.forget(&digest(&data));
    let gone = fixture.ask("GET", &path, &[("if-none-match", "*")], Body::empty()).await;
    assert_eq!(gone.code, 404);
}

#[tokio::test]
async fn a_packed_body_that_hides_its_size_holds_no_more_than_its_share() {
    let fixture = Fixture::new(Settings::default());
    let data = vec![0; 65 << 20];
    let bomb = Bytes::from(zstd_stream::encode_all(&data).expect("compresses"));
    let path = cas(&data);
    assert_eq!(fixture.ask("PUT", &path, &[("content-encoding", "zstd")], bomb.clone()).await.code, 413);
    assert_eq!(fixture.get(&path).await.0, 404);
    let limited = Fixture::new(Settings {
        limits: Limits { blob_bytes: 1_000_000, ..Limits::default() }.into(),
        ..Settings::default()
    });
    let lying = [("content-encoding", "zstd"), ("x-digest-sizebytes", "1000000")];
    assert_eq!(limited.ask("PUT", &path, &lying, bomb.clone()).await.code, 400);
    let honest = [("content-encoding", "zstd"), ("x-digest-sizebytes", "68157440")];
    assert_eq!(limited.ask("PUT", &path, &honest, bomb.clone()).await.code, 413);
    assert_eq!(limited.ask("PUT", &path, &honest[..1], bomb.clone()).await.code, 413);
    assert_eq!(fixture.ask("PUT", &path, &honest, bomb).await.code, 200, "zeros are a blob too");
}

#[tokio::test]
async fn limits_methods_and_encodings_have_their_codes() {
    let fixture =
        Fixture::new(Settings { limits: Limits { blob_bytes: 4, ..Limits::default() }.into(), ..Settings::default() });
    assert_eq!(fixture.put(&cas(b"12345"), b"12345").await, 413);
    assert_eq!(fixture.ask("PUT", &cas(b"12345"), &[], chunked(b"12345")).await.code, 413);
    assert_eq!(fixture.put("/webdav/x", b"12345").await, 413);
    assert_eq!(fixture.put("/webdav/x", b"1234").await, 201);
    for (method, path, allow) in [
        ("POST", &*cas(b"x"), "GET, HEAD, PUT"),
        ("DELETE", &*cas(b"x"), "GET, HEAD, PUT"),
        ("DELETE", "/v1/cache/1", "GET, HEAD, PUT"),
        ("PUT", "/status", "GET, HEAD"),
        ("GET", "/v8/artifacts/events", "POST"),
    ] {
        let answered = fixture.ask(method, path, &[], Body::empty()).await;
        assert_eq!((answered.code, answered.header("allow")), (405, allow), "{method} {path}");
    }
    for (path, coding) in [(&*cas(b"x"), "gzip"), ("/webdav/y", "zstd"), ("/v1/cache/1", "br")] {
        let packed = fixture.ask("PUT", path, &[("content-encoding", coding)], "x").await;
        assert_eq!((packed.code, packed.header("accept-encoding")), (415, "identity, zstd"), "{path} {coding}");
        assert_eq!(fixture.get(path).await.0, 404);
    }
    assert_eq!(fixture.get("/cas/abc").await.0, 400);
    assert_eq!(fixture.get("/webdav/%2e%2e/x").await.0, 400);
    assert_eq!(fixture.get("/nothing").await.0, 404);
    let missing = fixture.ask("GET", &cas(b"x"), &[], Body::empty()).await;
    assert_eq!(missing.header("cache-control"), "no-store");
}

#[tokio::test]
async fn an_unknown_grpc_method_is_still_unimplemented() {
    let fixture = Fixture::new(Settings::default());
    let headers = [("content-type", "application/grpc")];
    let answered = fixture.ask("POST", "/no.such.Service/Method", &headers, Body::empty()).await;
    assert_eq!((answered.code, answered.header("grpc-status")), (200, "12"));
}

#[tokio::test]
async fn an_unavailable_store_is_503_and_damage_at_the_start_a_miss() {
    let faulty = Arc::new(Faulty::new(MemoryStore::default()));
    let records = Arc::new(MemoryStore::default());
    // The lookup knows the blob; the store of blobs fails.
    records.write(digest(b"x"), Bytes::from_static(b"x").into()).await.expect("stored");
    let service = Service::new(faulty.clone(), records.clone(), Settings::default()).with_http(records.clone());
    let fixture = Fixture { store: records, routes: with_caller(service.routes(), Caller::local()) };
    faulty.fail(1, Fault::Unavailable);
    let away = fixture.ask("GET", &cas(b"x"), &[], Body::empty()).await;
    assert_eq!((away.code, away.header("retry-after")), (503, "1"));
    assert_eq!(fixture.get(&cas(b"x")).await.0, 404);
}

fn result(file: &[u8]) -> re::ActionResult {
    let file = re::OutputFile { path: "out".to_owned(), digest: Some(to_wire(&digest(file))), ..Default::default() };
    re::ActionResult { output_files: vec![file], ..Default::default() }
}

#[tokio::test]
async fn an_action_result_is_served_when_it_is_complete() {
    let fixture = Fixture::new(Settings::default());
    let path = format!("/team/a/ac/{}", digest(b"action").hash());
    assert_eq!(fixture.put(&path, &result(b"file").encode_to_vec()).await, 200);
    assert_eq!(fixture.get(&path).await.0, 404, "its file is not here");
    fixture.store.write(digest(b"file"), Bytes::from_static(b"file").into()).await.expect("stored");
    let (code, body) = fixture.get(&path).await;
    let read = re::ActionResult::decode(body).expect("an ActionResult");
    assert_eq!((code, read.output_files), (200, result(b"file").output_files));
    assert_eq!(fixture.get(&path.replace("/a/", "/b/")).await.0, 404, "another instance");
    fixture.store.forget(&digest(b"file"));
    assert_eq!(fixture.get(&path).await.0, 404);
    let absolute = re::OutputFile { path: "/out".to_owned(), ..result(b"file").output_files[0].clone() };
    let broken = re::ActionResult { output_files: vec![absolute], ..Default::default() };
    assert_eq!(fixture.put(&path, &broken.encode_to_vec()).await, 400);
}

#[tokio::test]
async fn json_is_a_form_of_an_action_result() {
    let fixture = Fixture::new(Settings::default());
    let path = format!("/ac/{}", digest(b"action").hash());
    let file = digest(b"file");
    let text = format!(
        r#"{{"outputFiles":[{{"path":"out","digest":{{"hash":"{}","sizeBytes":"4"}},"isExecutable":true}}],"stdoutRaw":"b3V0"}}"#,
        file.hash()
    );
    let sends = [("content-type", "application/json")];
    let wants = [("accept", "application/json")];
    assert_eq!(fixture.ask("PUT", &path, &sends, text.clone()).await.code, 200);
    assert_eq!(fixture.ask("GET", &path, &wants, Body::empty()).await.code, 404, "its file is not here");
    assert_eq!(fixture.put(&cas(b"file"), b"file").await, 200);
    let json = fixture.ask("GET", &path, &wants, Body::empty()).await;
    assert_eq!((json.code, json.header("content-type")), (200, "application/json"));
    let json: serde_json::Value = serde_json::from_slice(&json.body).expect("JSON");
    let sent: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(json["outputFiles"], sent["outputFiles"]);
    assert_eq!(json["stdoutDigest"]["hash"], digest(b"out").hash().to_string(), "inlined bytes are in the CAS");
    let binary = re::ActionResult::decode(fixture.get(&path).await.1).expect("an ActionResult");
    assert_eq!(binary.output_files[0].digest, Some(to_wire(&file)));
    let head = fixture.ask("HEAD", &path, &wants, Body::empty()).await;
    assert_eq!(head.code, 200);
    fixture.store.forget(&file);
    assert_eq!(fixture.ask("GET", &path, &wants, Body::empty()).await.code, 404);
    for other in ["{}", "{\"exitCode\":1}", "[1,2]", "{\"outputFiles\":1}", "{"] {
        assert_eq!(fixture.ask("PUT", &path, &sends, other).await.code, 200);
        assert_eq!(fixture.ask("GET", &path, &wants, Body::empty()).await.body, other, "as it came");
    }
    let absolute = text.replace("\"out\"", "\"/out\"");
    assert_eq!(fixture.ask("PUT", &path, &sends, absolute).await.code, 400);
}

#[tokio::test]
async fn a_strict_instance_takes_action_results_alone() {
    let prefix = InstanceName::parse("strict").expect("a name");
    let rule = InstanceRule { prefix, strict_ac: true, default_digest_function: None };
    let fixture = Fixture::new(Settings { instances: vec![rule], ..Settings::default() });
    fixture.store.write(digest(b"file"), Bytes::from_static(b"file").into()).await.expect("stored");
    let hash = digest(b"action").hash().to_string();
    let (strict, free) = (format!("/strict/x/ac/{hash}"), format!("/free/ac/{hash}"));
    let sends = [("content-type", "application/json")];
    for other in [&b"cCrS\0\x01"[..], b"{\"outputFiles\":[]}", &[7; 5 << 20]] {
        assert!(matches!(fixture.put(&strict, other).await, 400 | 413));
        assert_eq!(fixture.get(&strict).await.0, 404);
        assert_eq!(fixture.put(&free, other).await, 200);
    }
    assert_eq!(fixture.ask("PUT", &strict, &sends, "[]").await.code, 400);
    assert_eq!(fixture.ask("PUT", &strict, &sends, "{\"exitCode\":1}").await.code, 200);
    assert_eq!(fixture.put(&strict, &result(b"file").encode_to_vec()).await, 200);
    assert_eq!(fixture.get(&strict).await.0, 200);
    assert_eq!(fixture.put(&strict, b"").await, 200, "a result of nothing");
    assert!(!fixture.get(&strict).await.1.is_empty(), "is no empty answer");
}

#[tokio::test]
async fn other_bytes_under_ac_come_back_as_they_came_and_the_last_write_wins() {
    let fixture = Fixture::new(Settings::default());
    fixture.store.write(digest(b"file"), Bytes::from_static(b"file").into()).await.expect("stored");
    let path = format!("/ac/{}", digest(b"action").hash());
    let large = vec![7; 5 << 20];
    for body in [&b"{\"outputFiles\":[]}"[..], b"cCrS\0\x01", b"", &large] {
        assert_eq!(fixture.put(&path, body).await, 200);
        let (code, read) = fixture.get(&path).await;
        assert!(code == 200 && read == body, "{code}");
    }
    assert_eq!(fixture.put(&path, &result(b"file").encode_to_vec()).await, 200);
    assert!(re::ActionResult::decode(fixture.get(&path).await.1).is_ok_and(|read| read.output_files.len() == 1));
    assert_eq!(fixture.put(&path, b"raw").await, 200);
    assert_eq!(fixture.get(&path).await, (200, "raw".into()));
}

#[tokio::test]
async fn values_come_back_and_one_whose_bytes_are_gone_is_a_miss() {
    let fixture = Fixture::new(Settings::default());
    let forty = "0123456789abcdef0123456789abcdef01234567";
    let subdirs = format!("/{}/{}", &forty[..2], &forty[2..]);
    for (path, code) in [
        (&*format!("/{forty}"), 200),
        (&*subdirs, 200),
        ("/webdav/0/1/2/012abc", 201),
        ("/gradle/cache/0123456789abcdef0123456789abcdef", 200),
        ("/v1/cache/42", 200),
        ("/v8/artifacts/fedcba9876543210?slug=team", 202),
    ] {
        let data = path.repeat(3).into_bytes();
        assert_eq!(fixture.put(path, &data).await, code, "{path}");
        assert_eq!(fixture.get(path).await, (200, data.clone().into()), "{path}");
        let head = fixture.ask("HEAD", path, &[], Body::empty()).await;
        assert_eq!((head.code, head.header("content-length")), (200, &*data.len().to_string()));
        fixture.store.forget(&digest(&data));
        assert_eq!(fixture.get(path).await.0, 404, "{path}");
    }
    fixture.put(&subdirs, b"x").await;
    assert_eq!(fixture.get(&format!("/{forty}")).await, (200, "x".into()), "one key in both layouts");
    assert_eq!(fixture.ask("DELETE", &subdirs, &[], Body::empty()).await.code, 204);
    assert_eq!(fixture.get(&subdirs).await.0, 404);
}

#[tokio::test]
async fn a_large_value_of_unknown_length_goes_through_a_file() {
    let fixture = Fixture::new(Settings::default());
    let data: Vec<u8> = (0..5_000_001u32).map(|n| (n % 251) as u8).collect();
    let pieces: Vec<_> =
        data.chunks(70_000).map(|piece| Ok::<_, std::io::Error>(Bytes::copy_from_slice(piece))).collect();
    let body = Body::from_stream(futures::stream::iter(pieces));
    assert_eq!(fixture.ask("PUT", "/webdav/large", &[], body).await.code, 201);
    assert!(fixture.get("/webdav/large").await == (200, data.into()));
}

#[tokio::test]
async fn webdav_answers_what_sccache_asks() {
    let fixture = Fixture::new(Settings::default());
    let depth = [("depth", "0")];
    let folder = fixture.ask("PROPFIND", "/webdav/a/b/", &depth, Body::empty()).await;
    assert_eq!(folder.code, 207);
    assert!(folder.body.windows(15).any(|part| part == b"<D:collection/>"));
    assert_eq!(fixture.ask("PROPFIND", "/webdav/a/b", &depth, Body::empty()).await.code, 404);
    assert_eq!(fixture.ask("PROPFIND", "/webdav/a/", &[("depth", "infinity")], Body::empty()).await.code, 403);
    assert_eq!(fixture.put("/webdav/a/b", b"12345").await, 201);
    let value = fixture.ask("PROPFIND", "/webdav/a/b", &depth, Body::empty()).await;
    let text = String::from_utf8(value.body.to_vec()).expect("text");
    assert!(value.code == 207 && text.contains("<D:getcontentlength>5<"), "{text}");
    assert_eq!(fixture.ask("MKCOL", "/webdav/x/", &[], Body::empty()).await.code, 201);
    assert_eq!(fixture.ask("OPTIONS", "/webdav/", &[], Body::empty()).await.header("dav"), "1");
    assert_eq!(fixture.ask("LOCK", "/webdav/a", &[], Body::empty()).await.code, 405);
}

#[tokio::test]
async fn turborepo_gets_its_headers_back_and_teams_are_apart() {
    let fixture = Fixture::new(Settings::default());
    let status = fixture.ask("GET", "/v8/artifacts/status", &[], Body::empty()).await;
    assert_eq!((status.code, &status.body[..]), (200, &b"{\"status\":\"enabled\"}"[..]));
    let headers = [("x-artifact-tag", "signature="), ("x-artifact-duration", "42"), ("x-other", "no")];
    assert_eq!(fixture.ask("PUT", "/v8/artifacts/0a?slug=t", &headers, "data").await.code, 202);
    let read = fixture.ask("GET", "/v8/artifacts/0a?slug=t", &[], Body::empty()).await;
    assert_eq!((read.code, &read.body[..]), (200, &b"data"[..]));
    assert_eq!((read.header("x-artifact-tag"), read.header("x-artifact-duration")), ("signature=", "42"));
    assert_eq!(read.header("x-other"), "");
    assert_eq!(fixture.get("/v8/artifacts/0a?slug=u").await.0, 404);
    let asked = fixture.ask("POST", "/v8/artifacts?teamId=t", &[], r#"{"hashes":["0a","0b"]}"#).await;
    let known: serde_json::Value = serde_json::from_slice(&asked.body).expect("JSON");
    assert_eq!(known["0a"]["taskDurationMs"], 42);
    assert!(known["0b"].is_null());
    assert_eq!(fixture.ask("POST", "/v8/artifacts/events", &[], "[]").await.code, 200);
    assert_eq!(fixture.ask("POST", "/v8/artifacts/events", &[], "[").await.code, 400);
}

#[tokio::test]
async fn status_and_health_answer() {
    let fixture = Fixture::new(Settings::default());
    let status = fixture.ask("GET", "/status", &[], Body::empty()).await;
    assert_eq!((status.code, status.header("content-type")), (200, "application/json"));
    assert_eq!(fixture.get("/healthz").await, (StatusCode::OK.as_u16(), "ok\n".into()));
}

#[tokio::test]
async fn what_finds_no_room_while_its_digest_is_unknown_is_507() {
    let fixture = Fixture::new(Settings {
        limits: Limits { unknown_uploads_bytes: 3 << 20, ..Limits::default() }.into(),
        ..Settings::default()
    });
    let data = vec![7; 4 << 20];
    for path in ["/webdav/large", "/v1/cache/1"] {
        assert_eq!(fixture.put(path, &data).await, 507);
        assert_eq!(fixture.get(path).await.0, 404);
    }
    assert_eq!(fixture.put(&cas(&data), &data).await, 200, "one that says its digest needs none of that room");
    for _ in 0..3 {
        assert_eq!(fixture.put("/webdav/small", &data[..2 << 20]).await, 201, "the room is given back");
    }
}

#[tokio::test]
async fn a_refusal_is_401_with_challenges_or_403_and_nothing_is_stored() {
    let store = Arc::new(MemoryStore::default());
    let service = Service::new(store.clone(), store.clone(), Settings::default()).with_http(store.clone());
    let prefix = InstanceName::parse("team").expect("a name");
    let reader = Caller::known("r", "", vec![Grant { prefix, roles: [Role::Read].into_iter().collect() }]);
    let fixture = |routes| Fixture { store: store.clone(), routes };
    let nobody = fixture(Routes::new(service.routes()));
    let rejected = fixture(with_caller(service.routes(), Caller::rejected("it is not known")));
    let reader = fixture(with_caller(service.routes(), reader));
    let path = format!("/team{}", cas(b"x"));
    for (fixture, challenge) in [(&nobody, "Basic"), (&rejected, "Bearer realm=\"twofold\", error=\"invalid_token\"")] {
        for (method, body) in [("PUT", "x"), ("GET", ""), ("HEAD", "")] {
            let refused = fixture.ask(method, &path, &[], body).await;
            assert_eq!(refused.code, 401, "{method}");
            assert!(refused.header("www-authenticate").starts_with(challenge), "{refused:?}");
        }
        assert_eq!(fixture.get("/status").await.0, 200);
    }
    assert_eq!(reader.put(&path, b"x").await, 403);
    assert_eq!(reader.get(&path).await.0, 404);
    assert_eq!(reader.get(&cas(b"x")).await.0, 403, "another instance");
    let called = reader.ask("POST", "/no.such.Service/Call", &[("content-type", "application/grpc")], "").await;
    assert_eq!(called.header("grpc-status"), "12");
    let called = nobody.ask("POST", "/no.such.Service/Call", &[("content-type", "application/grpc")], "").await;
    assert_eq!(called.header("grpc-status"), "16");
}
