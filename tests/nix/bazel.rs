//! What real Bazel uploaded and real Nix pushes is stored once.

use crate::harness::bazel::Sample;
use crate::harness::metrics::Metrics;
use crate::harness::{Blob, Server, say};
use crate::machine::Machine;
use crate::{disk_bytes, public_key, url};

#[tokio::test(flavor = "multi_thread")]
async fn a_program_that_bazel_built_and_nix_pushes_is_one_blob() {
    let server = Server::start(&[]);
    let sample = Sample::new();
    sample.build(&server.url(), &[]);
    let program = sample.workspace().join("bazel-bin/greeting/greet");
    let bytes = std::fs::read(&program).expect("the program that Bazel built");
    assert!(server.client().has(&Blob::new(bytes.clone()).digest).await, "Bazel did not upload it");
    let blobs = || Metrics::of(&server).value("twofold_store_blobs");
    let (before, disk_before) = (blobs(), disk_bytes(server.folder()));

    // The path is the program itself, so its NAR brings nothing but records.
    let cache = url(&server);
    let push = format!(
        "cp {} greet; path=$(nix-store --add greet); echo $path; nix copy --to '{cache}?compression=none' $path",
        program.display()
    );
    let pushed = Machine::default().run(&push).expect_success();
    let grown = disk_bytes(server.folder()).saturating_sub(disk_before);
    say(format!(
        "a program of {} bytes, uploaded by Bazel, then pushed by Nix: {} more blobs, {grown} more bytes on disk",
        bytes.len(),
        blobs() - before
    ));
    assert_eq!(blobs(), before);
    let path = pushed.line_with("/nix/store/");
    let fetch = format!("nix copy --from {cache} {path}; cmp {path} {} && echo the same", program.display());
    let fetched = Machine::trusting("", &public_key(&server)).run(&fetch).expect_success();
    fetched.line_with("the same");
}
