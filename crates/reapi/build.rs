//! Compiles `proto/` with protox, in pure Rust, and keeps the descriptor set for reflection. Spec: proto-source, "build.rs in words".

use std::path::{Path, PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let descriptors = protox::compile(
        [
            "build/bazel/remote/execution/v2/remote_execution.proto",
            "build/bazel/semver/semver.proto",
            "google/bytestream/bytestream.proto",
            "google/rpc/status.proto",
        ],
        [&root],
    )?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".google.rpc", "::tonic_types::pb")
        .include_file("proto.rs")
        .compile_fds(descriptors)?;
    Ok(())
}
