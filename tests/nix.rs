//! The Nix cache with real Nix: each machine is a mount namespace with an empty store in memory.
mod harness;

#[path = "nix/archive.rs"]
mod archive;
#[path = "nix/auth.rs"]
mod auth;
#[path = "nix/bazel.rs"]
mod bazel;
#[path = "nix/crash.rs"]
mod crash;
#[path = "nix/integration.rs"]
mod integration;
#[path = "nix/machine.rs"]
mod machine;
#[path = "nix/proxy.rs"]
mod proxy;
#[path = "nix/upkeep.rs"]
mod upkeep;

use std::path::Path;

use harness::tool::Run;
use harness::{Blob, Listener, Random, Server, http, say};
use machine::{CHAIN, Machine, lines};
use proxy::CuttingProxy;

/// The program under test.
const TWOFOLD: &str = env!("CARGO_BIN_EXE_twofold");

fn url(server: &Server) -> String {
    format!("http://{}/nix/default", server.address())
}

fn get(server: &Server, path: &str) -> http::Answer {
    http::exchange(server.listener(), &http::request(&format!("GET /nix/default/{path}"), &[], b""))
}

fn public_key(server: &Server) -> String {
    String::from_utf8(get(server, "pubkey").body).expect("a key").trim().to_owned()
}

/// Shows what Nix itself said.
fn show(what: &str, run: &Run) {
    for line in run.output.lines().filter(|line| !line.trim().is_empty()) {
        say(format!("{what}: {line}"));
    }
}

/// Whether what the chain made was run.
fn says_hello(run: &Run) -> bool {
    run.output.lines().any(|line| line == "hello")
}

/// Builds the chain on a new machine and pushes its closure.
fn push_chain(server: &Server, query: &str) -> Run {
    let script =
        format!("{CHAIN} top=$(nix-build --no-out-link chain.nix); nix copy --to '{}{query}' $top", url(server));
    Machine::default().run(&script).expect_success()
}

#[test]
fn a_closure_is_pushed_wiped_and_substituted_trusting_only_our_key() {
    for query in
        ["?compression=none", "?compression=zstd", "", "?compression=bzip2", "?compression=gzip", "?compression=br"]
    {
        let server = Server::start(&[]);
        let pushed = push_chain(&server, query);
        assert_eq!(lines(&pushed, "building '").len(), 3, "{}", pushed.output);
        let machine = Machine::trusting(&url(&server), &public_key(&server));
        let built = machine.run(&format!("{CHAIN} sh $(nix-build --no-out-link chain.nix)")).expect_success();
        if query.is_empty() {
            show("push (xz, Nix's default)", &pushed);
            show("build on a wiped machine", &built);
        }
        assert_eq!(lines(&built, "building '").len(), 0, "{query}: {}", built.output);
        assert_eq!(lines(&built, "copying path '").len(), 3, "{query}: {}", built.output);
        assert!(says_hello(&built), "{}", built.output);
    }
}

#[test]
fn paths_are_copied_from_the_cache_byte_for_byte() {
    let server = Server::start(&[]);
    let dump = "nix-store --dump $tree | sha256sum";
    let make = "mkdir -p tree/a/b tree/a-b tree/empty; seq 1 9 > tree/a/b/c; : > tree/a.b; ln -s a/b tree/link; \
                cp /bin/sh tree/sh; head -c 5000000 /bin/bash > tree/large; chmod +x tree/a.b; tree=$(nix-store --add tree)";
    let script = format!("{make}; {dump}; echo $tree; nix copy --to {} $tree", url(&server));
    let pushed = Machine::default().run(&script).expect_success();
    let tree = pushed.line_with("/nix/store/").to_owned();
    let fetch = format!("tree={tree}; nix copy --from {} $tree; {dump}; nix-store --verify-path $tree", url(&server));
    let fetched = Machine::trusting("", &public_key(&server)).run(&fetch).expect_success();
    assert_eq!(fetched.line_with("  -"), pushed.line_with("  -"));
}

#[test]
fn without_a_trusted_key_nix_builds_itself() {
    let server = Server::start(&[]);
    push_chain(&server, "");
    let stranger = "stranger-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    let script = format!("{CHAIN} nix-build --no-out-link chain.nix");
    let built = Machine::trusting(&url(&server), stranger).run(&script).expect_success();
    assert_eq!(lines(&built, "building '").len(), 3, "{}", built.output);
}

#[test]
fn an_interrupted_download_goes_on_where_it_broke() {
    let server = Server::start(&["--nix-cache", "default,transfer=plain"]);
    let make = "mkdir tree; head -c 8000000 /dev/urandom > tree/large; tree=$(nix-store --add tree)";
    let script = format!("{make}; echo $tree; nix copy --to '{}?compression=none' $tree", url(&server));
    let pushed = Machine::default().run(&script).expect_success();
    let tree = pushed.line_with("/nix/store/").to_owned();
    let proxy = CuttingProxy::start(server.address(), 3_000_000);
    let from = format!("http://{}/nix/default", proxy.address());
    let fetch = format!("nix copy --from {from} {tree}; nix-store --verify-path {tree}");
    let fetched = Machine::trusting("", &public_key(&server)).run(&fetch).expect_success();
    show("a cut download", &fetched);
    let asked = proxy.asked();
    let ranges: Vec<&str> = asked.lines().filter(|line| line.to_ascii_lowercase().starts_with("range:")).collect();
    assert_eq!(ranges.len(), 1, "{asked}");
    say(format!("a cut download: {}", ranges[0]));
    assert!(ranges[0].contains("bytes=") && !ranges[0].contains("bytes=0-"), "{}", ranges[0]);
}

/// Changes bytes throughout the files below a folder.
fn damage(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("the data folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            damage(&path);
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("a file");
        bytes.iter_mut().step_by(512).for_each(|byte| *byte ^= 0x55);
        std::fs::write(&path, bytes).expect("a file");
    }
}

#[test]
fn a_nar_that_was_damaged_on_disk_is_a_miss_and_nix_builds() {
    let mut server = Server::start(&[]);
    push_chain(&server, "");
    let key = public_key(&server);
    assert!(server.terminate().success());
    for part in ["packs", "files"] {
        damage(&server.folder().join(part));
    }
    server.restart();
    let script = format!("{CHAIN} sh $(nix-build --no-out-link chain.nix)");
    let built = Machine::trusting(&url(&server), &key).run(&script).expect_success();
    show("after damage", &built);
    assert!(says_hello(&built), "{}", built.output);
    // The base alone is large enough to lie in a damaged file; the others lie in the index.
    assert_eq!(lines(&built, "building '").len(), 1, "{}", built.output);
    assert_eq!(lines(&built, "copying path '").len(), 2, "{}", built.output);
    // Pushed again, it is whole again.
    push_chain(&server, "");
    let built = Machine::trusting(&url(&server), &key).run(&script).expect_success();
    assert_eq!(lines(&built, "building '").len(), 0, "{}", built.output);
}

/// The bytes that a folder takes on disk.
fn disk_bytes(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).expect("the data folder").map(|entry| entry.expect("an entry"));
    entries
        .map(|entry| match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
            Ok(metadata) => std::os::unix::fs::MetadataExt::blocks(&metadata) * 512,
            Err(_) => 0,
        })
        .sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_a_build_client_uploaded_is_one_blob_with_that_of_a_pushed_path() {
    let server = Server::start(&[]);
    let mut random = Random::new(6);
    for size in [6_000_000, 900_000, 40_000] {
        let file = Blob::random(&mut random, size);
        server.client().write(&file).await.expect("uploaded as Bazel does");
        let before = disk_bytes(server.folder());
        let nar = archive::nar(&[("file", &file.data)]);
        let name = format!("path-{size}");
        let put =
            |path: &str, body: &[u8]| http::ask(server.listener(), &format!("PUT /nix/default/{path}"), &[], body).code;
        assert_eq!(put(&format!("nar/{}.nar", archive::hash(&nar)), &nar), 200);
        let narinfo = format!("{}.narinfo", archive::path_hash(&name));
        assert_eq!(put(&narinfo, archive::narinfo(&name, &nar).as_bytes()), 200);
        assert_eq!(get(&server, &narinfo).code, 200);
        let grown = disk_bytes(server.folder()).saturating_sub(before);
        say(format!(
            "a file of {size} bytes uploaded over gRPC, then pushed within a path: {grown} bytes more on disk"
        ));
        assert!(grown < size as u64 / 4 + 32_768, "{grown} bytes more for a file of {size} that was there");
        // And the other way: what Nix pushed, build clients find.
        let other = Blob::random(&mut random, size);
        let nar = archive::nar(&[("other", &other.data)]);
        assert_eq!(put(&format!("nar/{}.nar", archive::hash(&nar)), &nar), 200);
        assert!(server.client().has(&other.digest).await);
        assert!(server.client().read(&other.digest).await.expect("readable") == other.data);
    }
}

#[test]
fn what_another_cache_has_is_fetched_once_and_kept() {
    let mut far = Server::start(&[]);
    push_chain(&far, "");
    let key = public_key(&far);
    let settings = format!("default,upstream={}#{key}", url(&far));
    let near = Server::start(&["--nix-cache", &settings]);
    assert_ne!(public_key(&near), key);
    let script = format!("{CHAIN} sh $(nix-build --no-out-link chain.nix)");
    // Its signatures pass untouched: the key of the far cache alone is trusted.
    let first = Machine::trusting(&url(&near), &key).run(&script).expect_success();
    assert_eq!(lines(&first, "building '").len(), 0, "{}", first.output);
    let with_ours = Machine::trusting(&url(&near), &public_key(&near)).run(&script).expect_success();
    assert_eq!(
        lines(&with_ours, "building '").len(),
        3,
        "what came from elsewhere is not signed: {}",
        with_ours.output
    );
    far.kill();
    let second = Machine::trusting(&url(&near), &key).run(&script).expect_success();
    show("the far cache is gone", &second);
    assert_eq!(lines(&second, "building '").len(), 0, "{}", second.output);
    // A path that neither has is a miss, and stays one that is asked for again.
    let absent = format!("{}.narinfo", archive::path_hash("absent"));
    assert_eq!(get(&near, &absent).code, 404);
}

#[test]
fn a_far_cache_that_lies_is_a_miss() {
    let far = Server::start(&["--nix-cache", "default,sign=never"]);
    let nar = archive::nar(&[("file", b"data")]);
    let put = |path: &str, body: &[u8]| http::ask(far.listener(), &format!("PUT /nix/default/{path}"), &[], body).code;
    assert_eq!(put(&format!("nar/{}.nar", archive::hash(&nar)), &nar), 200);
    let narinfo = format!("{}.narinfo", archive::path_hash("unsigned"));
    assert_eq!(put(&narinfo, archive::narinfo("unsigned", &nar).as_bytes()), 200);
    let stranger = "stranger-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=";
    let settings = format!("default,upstream={}#{stranger}", url(&far));
    let near = Server::start(&["--nix-cache", &settings]);
    assert_eq!(get(&near, &narinfo).code, 404);
}

#[test]
fn several_caches_are_apart_and_each_has_its_settings() {
    let server = Server::start(&["--nix-cache", "one,priority=7,transfer=plain", "--nix-cache", "two,sign=never"]);
    let ask = |path: &str| http::exchange(server.listener(), &http::request(&format!("GET /nix/{path}"), &[], b""));
    let text = |path: &str| String::from_utf8(ask(path).body).expect("text");
    assert!(text("one/nix-cache-info").contains("Priority: 7\n"));
    assert!(text("two/nix-cache-info").contains("Priority: 30\n"));
    assert_eq!(ask("default/nix-cache-info").code, 404);
    assert_eq!((ask("one/pubkey").code, ask("two/pubkey").code), (200, 404));
    let nar = archive::nar(&[("file", b"data")]);
    let put = |path: &str, body: &[u8]| http::ask(server.listener(), &format!("PUT /nix/{path}"), &[], body).code;
    assert_eq!(put(&format!("one/nar/{}.nar", archive::hash(&nar)), &nar), 200);
    let narinfo = format!("{}.narinfo", archive::path_hash("here"));
    let body = archive::narinfo("here", &nar);
    assert_eq!(put(&format!("two/{narinfo}"), body.as_bytes()), 400, "its NAR was put into another cache");
    assert_eq!(put(&format!("one/{narinfo}"), body.as_bytes()), 200);
    assert!(text(&format!("one/{narinfo}")).contains("Sig: twofold-one-"));
    assert_eq!(ask(&format!("two/{narinfo}")).code, 404);
    assert!(matches!(server.listener(), Listener::Tcp(_)));
}

#[test]
fn a_pinned_path_outlives_what_fills_the_store() {
    let server = Server::start(&["--max-size", "64MiB", "--lease", "1s"]);
    let mut random = Random::new(9);
    let put = |line: &str, body: &[u8]| http::exchange(server.listener(), &http::request(line, &[], body)).code;
    // What was just pushed is leased, so a full store refuses for a moment.
    let insist = |line: &str, body: &[u8]| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
        while put(line, body) == 507 {
            assert!(std::time::Instant::now() < deadline, "{line}: the store stays full");
        }
    };
    let narinfo = |name: &str| format!("{}.narinfo", archive::path_hash(name));
    let mut push = |name: &str| {
        let nar = archive::nar(&[("file", &random.bytes(3_000_000))]);
        insist(&format!("PUT /nix/default/nar/{}.nar", archive::hash(&nar)), &nar);
        insist(&format!("PUT /nix/default/{}", narinfo(name)), archive::narinfo(name, &nar).as_bytes());
    };
    push("pinned");
    push("other");
    assert_eq!(put(&format!("PUT /nix/default/pins/{}", archive::path_hash("pinned")), b""), 204);
    for number in 0..40 {
        push(&format!("filler-{number}"));
    }
    assert_eq!(get(&server, &narinfo("pinned")).code, 200);
    assert_eq!(get(&server, &narinfo("other")).code, 404, "40 times 3 MB went through 64 MiB");
}
