use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use http::{HeaderMap, Request, StatusCode};
use prost::Message;
use store::{BlobStore, Fault, Faulty, MemoryStore};
use tonic::service::Routes;
use tower::ServiceExt;

use crate::convert::to_wire;
use crate::proto::re;
use crate::{Service, Settings};

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
        Self { store, routes: service.routes() }
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
async fn blobs_of_other_functions_are_found_by_their_hash() {
    let settings = Settings { default_digest_function: Some(DigestFunction::Blake3), ..Settings::default() };
    let fixture = Fixture::new(settings);
    let blake3 = format!("/cas/{}", Digest::of(DigestFunction::Blake3, b"text").hash());
    assert_eq!(fixture.put(&blake3, b"text").await, 200);
    assert_eq!(fixture.get(&blake3).await, (200, "text".into()));
    let sha256 = digest(b"other");
    fixture.store.write(sha256, Bytes::from_static(b"other").into()).await.expect("stored");
    assert_eq!(fixture.get(&cas(b"other")).await, (200, "other".into()));
}

#[tokio::test]
async fn limits_methods_and_encodings_have_their_codes() {
    let fixture = Fixture::new(Settings { max_blob_size_bytes: 4, ..Settings::default() });
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
    let packed = fixture.ask("PUT", &cas(b"x"), &[("content-encoding", "zstd")], "x").await;
    assert_eq!(packed.code, 415);
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
    let fixture = Fixture { store: records, routes: service.routes() };
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
    let fixture = Fixture::new(Settings { max_uploads_bytes: 3 << 20, ..Settings::default() });
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
