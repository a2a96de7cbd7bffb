use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use cache_types::nix::{ContentAddress, SecretKey, Signature, StorePath, base32_encode};
use cache_types::{Digest, DigestFunction};
use http::{Request, StatusCode, header};
use store::{BlobStore, MemoryStore};
use tower::ServiceExt;

use super::*;
use crate::compression::Compression;

const DEMO: &str = "faq2j1z6jrkqk23mhzq65iy3ghv0zrj8";

/// Caches over a store in memory.
struct House {
    store: Arc<MemoryStore>,
    router: Router,
}

struct Answer {
    code: u16,
    headers: http::HeaderMap,
    body: Bytes,
}

impl Answer {
    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

fn key() -> SecretKey {
    SecretKey::from_seed("test.example-1", &std::array::from_fn(|at| at as u8)).expect("a name")
}

fn house(set: impl FnOnce(&mut CacheSettings)) -> House {
    let mut main = CacheSettings::new(CacheName::parse("main").expect("a name"));
    main.key = Some(key());
    main.transfer = Transfer::Plain;
    set(&mut main);
    let mut other = CacheSettings::new(CacheName::parse("other").expect("a name"));
    other.sign = Sign::Never;
    let store = Arc::new(MemoryStore::default());
    let settings = Settings {
        caches: vec![main, other],
        uploads: std::env::temp_dir(),
        limits: uploads(),
        touch_every: Duration::from_secs(60),
    };
    let router = NixCaches::new(store.clone(), settings).router();
    House { store, router }
}

fn uploads() -> Uploads {
    let no_progress = Duration::from_secs(5);
    let limits = UploadLimits { max_bytes: 64 << 20, no_progress, zstd_window_log: 23, ratio: 10_000 };
    Uploads { now: Arc::new(move || limits), place: Arc::new(|| Box::pin(async { Ok(Box::new(()) as Place) })) }
}

impl House {
    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Body>) -> Answer {
        let mut request = Request::builder().method(method).uri(format!("/nix/{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = access::admit(request.body(body.into()).expect("a request"));
        let response = self.router.clone().oneshot(request).await.expect("infallible");
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap_or_default();
        Answer { code: head.status.as_u16(), headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, &[], Body::empty()).await
    }

    async fn put(&self, path: &str, body: impl Into<Body>) -> u16 {
        self.ask("PUT", path, &[], body).await.code
    }

    /// Puts a NAR, not packed; its narinfo under this path, not put yet.
    async fn put_nar(&self, base_name: &str, nar: &[u8]) -> String {
        let hash = base32_encode(DigestFunction::Sha256.hash(nar).as_bytes());
        assert_eq!(self.put(&format!("main/nar/{hash}.nar"), nar.to_vec()).await, 200);
        narinfo(base_name, nar, "")
    }
}

fn narinfo(base_name: &str, nar: &[u8], references: &str) -> String {
    let hash = base32_encode(DigestFunction::Sha256.hash(nar).as_bytes());
    let size = nar.len();
    format!(
        "StorePath: /nix/store/{base_name}\nURL: nar/{hash}.nar\nCompression: none\nFileHash: sha256:{hash}\n\
         FileSize: {size}\nNarHash: sha256:{hash}\nNarSize: {size}\nReferences: {references}\n"
    )
}

/// A NAR of one file.
fn file_nar(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    nar::start_nar(&mut out);
    nar::start_file(&mut out, false, data.len() as u64);
    out.extend_from_slice(data);
    nar::end_file(&mut out, data.len() as u64);
    out
}

/// The tree of the specification, packed from files.
fn demo_nar() -> Vec<u8> {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name: &str| folder.path().join(name);
    std::fs::create_dir(path("sub")).expect("a folder");
    for (name, data) in [("a.txt", "hello\n"), ("run.sh", "#!/bin/sh\necho hi\n"), ("sub/b", "x\n")] {
        std::fs::write(path(name), data).expect("a file");
    }
    std::fs::set_permissions(path("run.sh"), std::fs::Permissions::from_mode(0o755)).expect("its mode");
    std::os::unix::fs::symlink("a.txt", path("link")).expect("a link");
    let mut out = Vec::new();
    nar::pack(folder.path(), &mut out).expect("packed");
    out
}

#[tokio::test]
async fn a_pushed_path_is_signed_and_served_as_real_nix_would() {
    let house = house(|_| {});
    let nar = demo_nar();
    let info = house.put_nar(&format!("{DEMO}-demo"), &nar).await;
    let path = format!("main/{DEMO}.narinfo");
    assert_eq!(house.get(&path).await.code, 404);
    let with_address = format!("{info}CA: fixed:r:sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0\n");
    assert_eq!(house.put(&path, with_address).await, 200);
    let got = house.get(&path).await;
    assert_eq!((got.code, got.headers[header::CONTENT_TYPE].as_bytes()), (200, &b"text/x-nix-narinfo"[..]));
    let signature =
        "test.example-1:fVh6OEx1vnB6GO2K9eas1GgMqiiktnaY7B8FoQ80A5SSVYpusXUAsE5QVDp6NNEqhgxSU6BaVKWGGYaQoWncBA==";
    assert!(got.text().contains(&format!("Sig: {signature}\n")), "{}", got.text());
    assert!(got.text().contains("Compression: none\n") && got.text().contains("NarSize: 1080\n"));
    let file = got.text().lines().find_map(|line| line.strip_prefix("URL: ")).expect("a URL").to_owned();
    let served = house.get(&format!("main/{file}")).await;
    assert_eq!(served.code, 200);
    assert_eq!(served.headers[header::ACCEPT_RANGES].as_bytes(), b"bytes");
    assert!(served.body == nar);
    let part = house.ask("GET", &format!("main/{file}"), &[("range", "bytes=100-")], Body::empty()).await;
    assert_eq!((part.code, part.headers[header::CONTENT_RANGE].as_bytes()), (206, &b"bytes 100-1079/1080"[..]));
    assert!(part.body == nar[100..]);
    assert_eq!(house.ask("GET", &format!("main/{file}"), &[("range", "bytes=1080-")], Body::empty()).await.code, 416);
    let zstd = house.get(&format!("main/{file}.zst")).await;
    assert!(zstd::decode_all(&zstd.body[..]).expect("zstd") == nar);
    let listing = house.get(&format!("main/{DEMO}.ls")).await;
    let listing: serde_json::Value = serde_json::from_slice(&listing.body).expect("JSON");
    let run = &listing["root"]["entries"]["run.sh"];
    let at = run["narOffset"].as_u64().expect("an offset") as usize;
    assert_eq!((&nar[at..at + 9], run["executable"].as_bool()), (&b"#!/bin/sh"[..], Some(true)));
    // Another cache of the server does not have it: a hash is no proof of possession.
    assert_eq!(house.get(&format!("other/{DEMO}.narinfo")).await.code, 404);
    assert_eq!(house.get(&format!("other/{file}")).await.code, 404);
}

#[tokio::test]
async fn every_file_of_a_nar_is_the_blob_that_build_clients_name() {
    let house = house(|_| {});
    let info = house.put_nar(&format!("{DEMO}-demo"), &demo_nar()).await;
    assert_eq!(house.put(&format!("main/{DEMO}.narinfo"), info).await, 200);
    let blobs = [&b"hello\n"[..], b"#!/bin/sh\necho hi\n", b"x\n"].map(|data| Digest::of(DigestFunction::Sha256, data));
    assert_eq!(house.store.find_missing(&blobs).await.expect("answers"), []);
    // A part that goes makes the path a miss, and putting it again heals it.
    for blob in blobs {
        house.store.forget(&blob);
        assert_eq!(house.get(&format!("main/{DEMO}.narinfo")).await.code, 404);
        house.put_nar(&format!("{DEMO}-demo"), &demo_nar()).await;
        assert_eq!(house.get(&format!("main/{DEMO}.narinfo")).await.code, 200);
    }
}

#[tokio::test]
async fn files_are_taken_packed_in_every_way_and_given_back_under_their_name() {
    let nar = demo_nar();
    for compression in [Compression::Zstd, Compression::Xz, Compression::Bzip2, Compression::Gzip] {
        let house = house(|_| {});
        let mut packing = compression.pack().expect("memory").expect("one that packs");
        let mut file = packing.push(&nar).expect("memory");
        file.extend(packing.finish().expect("memory"));
        let hash = base32_encode(DigestFunction::Sha256.hash(&file).as_bytes());
        let name = format!("nar/{hash}.nar{}", compression.suffix());
        assert_eq!(house.ask("HEAD", &format!("main/{name}"), &[], Body::empty()).await.code, 404);
        assert_eq!(house.put(&format!("main/{name}"), file.clone()).await, 200);
        assert_eq!(house.ask("HEAD", &format!("main/{name}"), &[], Body::empty()).await.code, 200);
        let info = narinfo(&format!("{DEMO}-demo"), &nar, "")
            .replace("Compression: none", &format!("Compression: {}", compression.name()));
        let lines = info.lines().map(|line| match line.split_once(": ") {
            Some(("URL", _)) => format!("URL: {name}\n"),
            Some(("FileHash", _)) => format!("FileHash: sha256:{hash}\n"),
            Some(("FileSize", _)) => format!("FileSize: {}\n", file.len()),
            _ => format!("{line}\n"),
        });
        assert_eq!(house.put(&format!("main/{DEMO}.narinfo"), lines.collect::<String>()).await, 200);
        let again = house.get(&format!("main/{name}")).await;
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut compression.unpack(&again.body[..], 23).expect("a reader"), &mut out)
            .expect("packed");
        assert!(out == nar, "{name}");
    }
}

#[tokio::test]
async fn uploads_that_lie_are_refused_and_leave_nothing() {
    let house = house(|_| {});
    let nar = demo_nar();
    let hash = base32_encode(DigestFunction::Sha256.hash(&nar).as_bytes());
    let wrong = "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73";
    assert_eq!(house.put(&format!("main/nar/{wrong}.nar"), nar.clone()).await, 400);
    assert_eq!(house.put(&format!("main/nar/{hash}.nar.xz"), nar.clone()).await, 400);
    assert_eq!(house.put(&format!("main/nar/{hash}.nar.lz4"), nar.clone()).await, 415);
    let torn = nar[..nar.len() - 8].to_vec();
    let torn_hash = base32_encode(DigestFunction::Sha256.hash(&torn).as_bytes());
    assert_eq!(house.put(&format!("main/nar/{torn_hash}.nar"), torn).await, 400);
    assert_eq!(house.get(&format!("main/nar/{hash}.nar")).await.code, 404);
    let path = format!("main/{DEMO}.narinfo");
    let info = narinfo(&format!("{DEMO}-demo"), &nar, "");
    assert_eq!(house.put(&path, info.clone()).await, 400, "no NAR was put");
    house.put_nar(&format!("{DEMO}-demo"), &nar).await;
    let other = house.put_nar(&format!("{DEMO}-demo"), &file_nar(b"other")).await;
    let reference = "an573i3k6x2sjlwsdmgllhwch18xq4mg-plain.txt";
    for (what, body) in [
        ("another path", info.replace(DEMO, "an573i3k6x2sjlwsdmgllhwch18xq4mg")),
        ("another store", info.replace("/nix/store", "/gnu/store")),
        ("a bad name", info.replace("-demo", "-de mo")),
        ("another size", info.replace("NarSize: 1080", "NarSize: 1081")),
        ("another file size", info.replace("FileSize: 1080", "FileSize: 1081")),
        ("another hash", info.replace(&format!("NarHash: sha256:{hash}"), &format!("NarHash: sha256:{wrong}"))),
        ("another file hash", info.replace(&format!("FileHash: sha256:{hash}"), &format!("FileHash: sha256:{wrong}"))),
        ("another compression", info.replace("Compression: none", "Compression: xz")),
        ("a URL elsewhere", info.replace("URL: nar/", "URL: http://example.org/nar/")),
        ("an absent reference", info.replace("References: ", &format!("References: {reference}"))),
        ("two lines of references", format!("{info}References: \n")),
        ("a wrong address", format!("{info}CA: fixed:r:sha256:{wrong}\n")),
        ("an address of another kind", format!("{info}CA: text:sha256:{hash}\n")),
        ("no narinfo", "hello".to_owned()),
    ] {
        assert_eq!(house.put(&path, body).await, 400, "{what}");
        assert_eq!(house.get(&path).await.code, 404, "{what}");
    }
    assert_eq!(house.put(&path, "x".repeat(3 << 20)).await, 413);
    assert_eq!(house.put(&path, info.clone()).await, 200);
    assert_eq!(house.put(&path, other).await, 409, "the first one stays");
    assert!(house.get(&path).await.text().contains(&hash));
}

#[tokio::test]
async fn a_content_address_must_be_that_of_the_content() {
    let house = house(|_| {});
    let nar = file_nar(b"hello\n");
    let path = "an573i3k6x2sjlwsdmgllhwch18xq4mg-plain.txt";
    let info = house.put_nar(path, &nar).await;
    let good = "text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
    assert_eq!(house.put(&format!("main/{}.narinfo", &path[..32]), format!("{info}CA: {good}\n")).await, 200);
    // The right path for the address, and other content.
    let other = file_nar(b"hullo\n");
    let info = house.put_nar(path, &other).await;
    let refused = house.put(&format!("main/{}.narinfo", &path[..32]), format!("{info}CA: {good}\n")).await;
    assert_eq!(refused, 400);
    assert!(ContentAddress::parse(good).is_ok() && StorePath::parse(path).is_ok());
}

#[tokio::test]
async fn references_first_and_signatures_are_gathered() {
    let house = house(|main| main.sign = Sign::OnlyIfUnsigned);
    let (low, high) = ("an573i3k6x2sjlwsdmgllhwch18xq4mg-low", format!("{DEMO}-high"));
    let (low_nar, high_nar) = (file_nar(b"low"), file_nar(b"high"));
    let info = house.put_nar(&high, &high_nar).await;
    let info = info.replace("References: ", &format!("References: {low} {high}"));
    assert_eq!(house.put(&format!("main/{DEMO}.narinfo"), info.clone()).await, 400);
    let low_info = house.put_nar(low, &low_nar).await;
    assert_eq!(house.put(&format!("main/{}.narinfo", &low[..32]), low_info).await, 200);
    assert_eq!(house.put(&format!("main/{DEMO}.narinfo"), info.clone()).await, 200);
    let signed = |name: &str| {
        let key = SecretKey::from_seed(name, &[7; 32]).expect("a name");
        let info = cache_types::nix::NarInfo::parse(&info, &Default::default()).expect("a narinfo");
        key.sign(&info.fingerprint(&Default::default()))
    };
    let lines = |text: &str| -> Vec<Signature> {
        let values = text.lines().filter_map(|line| line.strip_prefix("Sig: "));
        values.map(|value| Signature::parse(value).expect("a signature")).collect()
    };
    let got = house.get(&format!("main/{DEMO}.narinfo")).await;
    assert_eq!(lines(got.text()).iter().map(Signature::key).collect::<Vec<_>>(), ["test.example-1"]);
    let (one, two) = (signed("one"), signed("two"));
    for signature in [&one, &two] {
        let put = house.put(&format!("main/{DEMO}.narinfo"), format!("{info}Sig: {signature}\n")).await;
        assert_eq!(put, 200);
    }
    let got = house.get(&format!("main/{DEMO}.narinfo")).await;
    let mut found = lines(got.text());
    found.sort();
    assert_eq!(found, [one, two], "ours is not needed");
}

#[tokio::test]
async fn a_cache_of_closures_serves_no_path_whose_reference_is_gone() {
    let house = house(|main| main.completeness = Completeness::Closure);
    let (low, high) = ("an573i3k6x2sjlwsdmgllhwch18xq4mg-low", format!("{DEMO}-high"));
    let low_info = house.put_nar(low, &file_nar(b"low")).await;
    assert_eq!(house.put(&format!("main/{}.narinfo", &low[..32]), low_info).await, 200);
    let info = house.put_nar(&high, &file_nar(b"high")).await.replace("References: ", &format!("References: {low}"));
    assert_eq!(house.put(&format!("main/{DEMO}.narinfo"), info).await, 200);
    assert_eq!(house.get(&format!("main/{DEMO}.narinfo")).await.code, 200);
    house.store.forget(&Digest::of(DigestFunction::Sha256, b"low"));
    assert_eq!(house.get(&format!("main/{DEMO}.narinfo")).await.code, 404);
}

#[tokio::test]
async fn texts_are_kept_as_they_were_before_their_encoding() {
    let house = house(|_| {});
    let info = house.get("main/nix-cache-info").await;
    assert_eq!(info.text(), "StoreDir: /nix/store\nWantMassQuery: 1\nPriority: 30\n");
    assert_eq!(house.put("main/nix-cache-info", "StoreDir: /other\n").await, 200);
    assert_eq!(house.get("main/nix-cache-info").await.text(), info.text());
    assert_eq!(house.get("main/pubkey").await.text(), format!("{}\n", key().public()));
    assert_eq!(house.get("other/pubkey").await.code, 404);
    let log = format!("main/log/{DEMO}-demo.drv");
    let mut packing = Compression::Gzip.pack().expect("memory").expect("gzip");
    let mut packed = packing.push(b"built\n").expect("memory");
    packed.extend(packing.finish().expect("memory"));
    assert_eq!(house.ask("PUT", &log, &[("content-encoding", "gzip")], packed).await.code, 200);
    let got = house.get(&log).await;
    assert_eq!((got.text(), got.headers.get(header::CONTENT_ENCODING)), ("built\n", None));
    assert_eq!(house.put(&log, "").await, 200, "a log may be empty");
    assert_eq!(house.get(&log).await.text(), "");
    let realisation = r#"{"dependentRealisations":{},"id":"sha256:ab!out","outPath":"x","signatures":[]}"#;
    assert_eq!(house.put("main/realisations/sha256:ab%21out.doi", realisation).await, 200);
    assert_eq!(house.get("main/realisations/sha256:ab!out.doi").await.text(), realisation);
    assert_eq!(house.put("main/realisations/sha256:cd!out.doi", realisation).await, 400);
    assert_eq!(house.put("main/debuginfo/ab.debug", "no JSON").await, 400);
    assert_eq!(house.put("main/debuginfo/ab.debug", r#"{"archive":"../nar/x","member":"y"}"#).await, 200);
    assert_eq!(house.put(&format!("main/build-trace-v2/{DEMO}-x.drv/out.doi"), "{}").await, 200);
    assert_eq!(house.ask("PUT", &log, &[("content-encoding", "lzip")], "x").await.code, 415);
    assert_eq!(house.ask("DELETE", &log, &[], "").await.code, StatusCode::METHOD_NOT_ALLOWED);
}

#[tokio::test]
async fn pins_are_listed_and_taken_back() {
    let house = house(|_| {});
    assert_eq!(house.put(&format!("main/pins/{DEMO}"), "").await, 404);
    let info = house.put_nar(&format!("{DEMO}-demo"), &demo_nar()).await;
    assert_eq!(house.put(&format!("main/{DEMO}.narinfo"), info).await, 200);
    assert_eq!(house.put(&format!("main/pins/{DEMO}"), "").await, 204);
    assert!(house.get("main/pins").await.text().contains(&format!("/nix/store/{DEMO}-demo")));
    assert_eq!(house.ask("DELETE", &format!("main/pins/{DEMO}"), &[], "").await.code, 204);
    assert_eq!(house.get("main/pins").await.text(), "{\"pins\":[]}\n");
}
