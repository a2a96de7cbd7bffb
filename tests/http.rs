//! The HTTP caches of the built server, on the wire: HTTP/1.1 by hand, and curl where a second opinion helps.
mod harness;

use std::path::Path;
use std::process::Command;

use harness::http::{Answer, abandon, ask, exchange, request};
use harness::{Blob, Listener, Random, Server, re, tool};
use prost::Message;
use tonic::Code;

const MIB: usize = 1024 * 1024;

fn cas(blob: &Blob) -> String {
    format!("/cas/{}", blob.digest.hash)
}

fn put(server: &Server, path: &str, body: &[u8]) -> u16 {
    ask(server.listener(), &format!("PUT {path}"), &[], body).code
}

fn get(server: &Server, path: &str) -> Answer {
    ask(server.listener(), &format!("GET {path}"), &[], b"")
}

/// The body of a hit; `None` for a miss. Any other answer fails the test.
fn hit(server: &Server, path: &str) -> Option<Vec<u8>> {
    let answer = get(server, path);
    match answer.code {
        200 => Some(answer.body),
        404 => None,
        code => panic!("{code} for {path}"),
    }
}

#[test]
fn blobs_of_every_size_come_back_and_stay_after_sigkill() {
    let mut server = Server::start(&[]);
    let mut random = Random::new(1);
    let blobs: Vec<Blob> =
        [0, 1, 2_048, 2_049, 100_000, MIB, MIB + 1, 9 * MIB].map(|len| Blob::random(&mut random, len)).into();
    for blob in &blobs {
        let path = cas(blob);
        assert_eq!(hit(&server, &path).is_some(), blob.data.is_empty());
        assert_eq!(put(&server, &path, &blob.data), 200);
        assert!(hit(&server, &path) == Some(blob.data.clone()), "{blob:?}");
    }
    server.kill();
    server.restart();
    for blob in &blobs {
        let head = ask(server.listener(), &format!("HEAD {}", cas(blob)), &[], b"");
        assert_eq!((head.code, head.header("content-length")), (200, &*blob.data.len().to_string()));
        assert!(head.body.is_empty());
        assert!(hit(&server, &format!("/an/instance{}", cas(blob))) == Some(blob.data.clone()), "{blob:?}");
    }
}

#[test]
fn ranges_are_cut_out_of_every_kind_of_storage() {
    let server = Server::start(&[]);
    let mut random = Random::new(2);
    for len in [1_000, 300_000, 3 * MIB] {
        let blob = Blob::random(&mut random, len);
        assert_eq!(put(&server, &cas(&blob), &blob.data), 200);
        for (from, to) in [(0, 1), (1, len), (len / 2, len / 2 + 100), (len - 1, len)] {
            let range = format!("bytes={from}-{}", to - 1);
            let part = ask(server.listener(), &format!("GET {}", cas(&blob)), &[("Range", &range)], b"");
            assert_eq!((part.code, part.header("content-range")), (206, &*format!("bytes {from}-{}/{len}", to - 1)));
            assert!(part.body == blob.data[from..to], "{range} of {len}");
        }
        let past = ask(server.listener(), &format!("GET {}", cas(&blob)), &[("Range", &format!("bytes={len}-"))], b"");
        assert_eq!((past.code, past.header("content-range")), (416, &*format!("bytes */{len}")));
    }
}

#[test]
fn wrong_bodies_are_400_and_nothing_is_stored() {
    let server = Server::start(&[]);
    let blob = Blob::random(&mut Random::new(3), 200_000);
    let mut flipped = blob.data.clone();
    flipped[150_000] ^= 1;
    for wrong in [&flipped[..], &blob.data[..199_999], &[&blob.data[..], b"x"].concat(), b""] {
        assert_eq!(put(&server, &cas(&blob), wrong), 400);
        assert_eq!(hit(&server, &cas(&blob)), None);
    }
    let whole = request(&format!("PUT {}", cas(&blob)), &[], &blob.data);
    abandon(server.listener(), &whole[..100_000]);
    assert_eq!(hit(&server, &cas(&blob)), None, "half of an upload");
    assert_eq!(put(&server, &cas(&blob), &blob.data), 200);
    assert!(hit(&server, &cas(&blob)) == Some(blob.data));
}

#[test]
fn blake3_and_zstd_pass_as_they_are_named() {
    let server = Server::start(&[]);
    let mut random = Random::new(7);
    let put_packed = |blob: &Blob, packed: &[u8], headers: &[(&str, &str)]| {
        let headers = [&[("Content-Encoding", "zstd")], headers].concat();
        ask(server.listener(), &format!("PUT {}", cas(blob)), &headers, packed).code
    };
    for blob in [Blob::blake3(random.text(1000)), Blob::blake3(random.text(3 * MIB)), Blob::new(random.text(4 * MIB))] {
        let packed = zstd::encode_all(&blob.data[..], 3).expect("zstd in memory");
        let size = blob.data.len().to_string();
        assert_eq!(put_packed(&blob, &packed, &[("X-Digest-SizeBytes", "7")]), 400);
        assert_eq!(put_packed(&blob, &packed[..packed.len() - 1], &[("X-Digest-SizeBytes", &size)]), 400);
        assert_eq!(hit(&server, &cas(&blob)), None);
        assert_eq!(put_packed(&blob, &packed, &[("X-Digest-SizeBytes", &size)]), 200);
        assert!(hit(&server, &cas(&blob)) == Some(blob.data.clone()));
        let accepts = request(&format!("GET {}", cas(&blob)), &[("Accept-Encoding", "zstd")], b"");
        let sent = exchange(server.listener(), &accepts);
        assert_eq!((sent.header("content-encoding"), sent.header("transfer-encoding")), ("zstd", "chunked"));
        let head = ask(server.listener(), &format!("HEAD {}", cas(&blob)), &[("Accept-Encoding", "zstd")], b"");
        assert_eq!((head.header("content-length"), head.header("content-encoding")), (&*size, ""));
    }
}

#[test]
fn malformed_names_and_requests_have_their_codes() {
    let server = Server::start(&[]);
    let blob = Blob::new("x");
    let upper = cas(&blob).to_uppercase().replace("/CAS/", "/cas/");
    for (line, code) in [
        ("GET /cas/abc", 400),
        (&*format!("GET {upper}"), 400),
        ("PUT /webdav/../../etc/passwd", 400),
        ("PUT /webdav/%2e%2e/x", 400),
        ("PUT /gradle/a%2f..%2fb", 400),
        ("GET /webdav/%00", 400),
        (&*format!("GET /blobs{}", cas(&blob)), 400),
        ("GET /elsewhere", 404),
        ("PUT /elsewhere", 404),
        (&*format!("DELETE {}", cas(&blob)), 405),
        ("POST /v1/cache/1", 405),
        ("PROPFIND /cas/", 404),
    ] {
        let answer = ask(server.listener(), line, &[], b"");
        assert_eq!(answer.code, code, "{line}");
        assert_eq!(answer.header("allow").is_empty(), code != 405, "{line}");
    }
    assert_eq!(get(&server, &cas(&blob)).header("cache-control"), "no-store");
    let garbage = exchange(server.listener(), b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n");
    assert_eq!(garbage.code, 400);
    assert_eq!(get(&server, "/healthz").body, b"ok\n");
    let status: serde_json::Value = serde_json::from_slice(&get(&server, "/status").body).expect("JSON");
    assert_eq!(status["status"], "serving");
}

#[test]
fn what_finds_no_room_is_507_and_the_rest_goes_on() {
    let server = Server::start(&["--max-size", "64MiB"]);
    let blob = Blob::new("x");
    let large = format!("PUT {} HTTP/1.1\r\nHost: cache\r\nContent-Length: 200000000\r\n\r\n", cas(&blob));
    assert_eq!(exchange(server.listener(), large.as_bytes()).code, 507);
    assert_eq!(put(&server, &cas(&blob), b"x"), 200);
}

fn result(file: &Blob) -> re::ActionResult {
    let file = re::OutputFile { path: "out".to_owned(), digest: Some(file.digest.clone()), ..Default::default() };
    re::ActionResult { output_files: vec![file], ..Default::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn http_and_grpc_see_the_same_entries() {
    let server = Server::start(&[]);
    let client = server.client().instance("team/a");
    let (file, other) = (Blob::new("the file"), Blob::new("another file"));
    let (one, two, three) = (Blob::new("action one"), Blob::new("action two"), Blob::new("action three"));
    let path = |action: &Blob| format!("/team/a/ac/{}", action.digest.hash);

    client.update_action_result(&one.digest, result(&file)).await.expect("stored");
    assert_eq!(hit(&server, &path(&one)), None, "its file is not here");
    client.write(&file).await.expect("stored");
    let read = hit(&server, &path(&one)).expect("a hit");
    let over_grpc = client.action_result(&one.digest).await.expect("a hit");
    assert_eq!(re::ActionResult::decode(&read[..]).expect("an ActionResult"), over_grpc);
    assert_eq!(hit(&server, &path(&one).replace("/a/", "/b/")), None, "another instance");

    assert_eq!(put(&server, &path(&two), &result(&other).encode_to_vec()), 200);
    let early = client.action_result(&two.digest).await.expect_err("its file is not here");
    assert_eq!(early.code(), Code::NotFound);
    assert_eq!(put(&server, &cas(&other), &other.data), 200);
    assert_eq!(client.action_result(&two.digest).await.expect("a hit").output_files, result(&other).output_files);
    assert!(client.has(&other.digest).await);

    let text = format!(
        r#"{{"outputFiles":[{{"path":"out","digest":{{"hash":"{}","sizeBytes":"{}"}}}}]}}"#,
        file.digest.hash, file.digest.size_bytes
    );
    let sends = [("Content-Type", "application/json")];
    assert_eq!(ask(server.listener(), &format!("PUT {}", path(&three)), &sends, text.as_bytes()).code, 200);
    let over_grpc = client.action_result(&three.digest).await.expect("JSON is a form of it");
    assert_eq!(over_grpc.output_files, result(&file).output_files);
    let wants = [("Accept", "application/json")];
    let read = ask(server.listener(), &format!("GET {}", path(&one)), &wants, b"");
    let read: serde_json::Value = serde_json::from_slice(&read.body).expect("JSON of what came over gRPC");
    assert_eq!(read["outputFiles"][0]["digest"]["hash"], file.digest.hash);

    let json = br#"{"outputFiles":[{"path":"out"}]}"#;
    assert_eq!(put(&server, &path(&three), json), 200);
    let raw = client.action_result(&three.digest).await.expect_err("not an ActionResult");
    assert_eq!(raw.code(), Code::NotFound);
    assert_eq!(hit(&server, &path(&three)).as_deref(), Some(&json[..]), "a question over gRPC leaves it alone");
    assert_eq!(put(&server, &path(&one), json), 200);
    assert_eq!(hit(&server, &path(&one)).as_deref(), Some(&json[..]), "the last write wins");
}

#[test]
fn values_of_the_other_clients_come_back_after_a_restart() {
    let mut server = Server::start(&[]);
    let mut random = Random::new(4);
    let hex = "00112233445566778899aabbccddeeff00112233";
    let values: Vec<(String, Vec<u8>)> = [
        format!("/{hex}"),
        format!("/pre/fix/{}/{}", &hex[..2], &hex[2..]),
        format!("/ac/{hex}{}", &hex[..24]),
        "/webdav/0/1/2/0123".to_owned(),
        "/gradle/0123456789abcdef0123456789abcdef".to_owned(),
        "/v8/artifacts/0123456789abcdef?slug=team".to_owned(),
        "/v1/cache/1234567890".to_owned(),
    ]
    .into_iter()
    .map(|path| (path, random.bytes(1_500_000)))
    .collect();
    for (path, data) in &values {
        assert_eq!(hit(&server, path), None, "{path}");
        let tag = [("x-artifact-tag", "a+b/c="), ("x-artifact-duration", "7")];
        let code = ask(server.listener(), &format!("PUT {path}"), &tag, data).code;
        assert!((200..300).contains(&code), "{code} {path}");
    }
    assert!(server.terminate().success());
    server.restart();
    for (path, data) in &values {
        assert!(hit(&server, path) == Some(data.clone()), "{path}");
    }
    let artifact = get(&server, "/v8/artifacts/0123456789abcdef?slug=team");
    assert_eq!((artifact.header("x-artifact-tag"), artifact.header("x-artifact-duration")), ("a+b/c=", "7"));
    assert_eq!(hit(&server, "/v8/artifacts/0123456789abcdef?slug=other"), None);
    let folder = ask(server.listener(), "PROPFIND /webdav/0/1/", &[("Depth", "0")], b"");
    assert_eq!(folder.code, 207);
    assert_eq!(ask(server.listener(), "DELETE /webdav/0/1/2/0123", &[], b"").code, 204);
    assert_eq!(hit(&server, "/webdav/0/1/2/0123"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unix_socket_takes_both_protocols() {
    let server = Server::start_unix(&[]);
    let blob = Blob::new("over a socket");
    assert_eq!(put(&server, &cas(&blob), &blob.data), 200);
    assert_eq!(server.client().read(&blob.digest).await.expect("the blob"), blob.data);
    let Listener::Unix(socket) = server.listener() else { panic!("asked for a Unix socket") };
    let curl = curl(&["--unix-socket", path_text(socket), &format!("http://cache{}", cas(&blob))]);
    assert_eq!(curl, "over a socket");
}

#[test]
fn large_bodies_pass_through_bounded_memory() {
    let server = Server::start(&["--max-size", "4GiB"]);
    let blob = Blob::random(&mut Random::new(5), 300 * MIB);
    assert_eq!(put(&server, &cas(&blob), &blob.data), 200);
    assert_eq!(put(&server, "/webdav/large", &blob.data), 201);
    assert!(hit(&server, "/webdav/large") == Some(blob.data));
    let peak = server.peak_resident_bytes() / MIB as u64;
    harness::say(format!("peak of resident memory: {peak} MiB after 300 MiB up, up and down"));
    assert!(peak < 200, "{peak} MiB");
}

fn path_text(path: &Path) -> &str {
    path.to_str().expect("a temporary folder's name is text")
}

/// Standard output of a curl that fails on any status of 400 and above.
fn curl(args: &[&str]) -> String {
    let curl = tool::installed("curl", &tool::on_path("curl"));
    let mut command = Command::new(curl);
    command.args(["--silent", "--show-error", "--fail", "--noproxy", "*"]).args(args);
    tool::run(&mut command).expect_success().output
}

#[test]
fn curl_resumes_streams_without_a_length_and_speaks_old_and_new_http() {
    let server = Server::start(&[]);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let blob = Blob::new(Random::new(6).text(2 * MIB));
    let file = folder.path().join("file");
    std::fs::write(&file, &blob.data).expect("a file");
    let url = format!("http://{}{}", server.address(), cas(&blob));
    curl(&["--upload-file", path_text(&file), "--header", "Transfer-Encoding: chunked", &url]);
    let got = folder.path().join("got");
    for version in ["--http1.0", "--http1.1", "--http2-prior-knowledge"] {
        curl(&[version, "--output", path_text(&got), &url]);
        assert!(std::fs::read(&got).expect("the download") == blob.data, "{version}");
    }
    std::fs::write(&got, &blob.data[..1_000_000]).expect("a part of the download");
    let code = curl(&["--continue-at", "-", "--write-out", "%{http_code}", "--output", path_text(&got), &url]);
    assert_eq!(code, "206");
    assert!(std::fs::read(&got).expect("the download") == blob.data, "resumed");
    for (range, part) in [("0-9", &blob.data[..10]), ("1000-", &blob.data[1000..]), ("-5", &blob.data[2 * MIB - 5..])] {
        curl(&["--range", range, "--output", path_text(&got), &url]);
        assert!(std::fs::read(&got).expect("the download") == part, "{range}");
    }
    let etag = format!("If-None-Match: \"{}\"", blob.digest.hash);
    let code = curl(&["--header", &etag, "--write-out", "%{http_code}", "--output", path_text(&got), &url]);
    assert_eq!(code, "304");
}
