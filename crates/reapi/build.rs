//! Compiles `proto/` with protox, in pure Rust, and keeps the descriptor set for reflection. Spec: proto-source, "build.rs in words".

use std::path::{Path, PathBuf};

use prost::Message;
use tonic_build::manual::{Builder, Method, Service};

const PROST: &str = "crate::wire::CountingCodec";
const RAW: &str = "crate::wire::RawCodec";

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
    let raw = out.join("raw");
    std::fs::create_dir_all(&raw)?;
    Builder::new().build_client(false).out_dir(&raw).compile(&[action_cache(), content_addressable_storage()]);
    Ok(())
}

/// A service of the Remote Execution API whose code comes from here and not from the descriptors, so that single
/// messages can pass as the bytes they are stored as. Spec.
fn service(name: &str, methods: Vec<Method>) -> Service {
    let service = Service::builder().name(name).package("build.bazel.remote.execution.v2");
    methods.into_iter().fold(service, |service, method| service.method(method)).build()
}

/// A unary method; `types` are the Rust types of request and response.
fn unary(name: &str, route: &str, types: (&str, &str), codec: &str) -> Method {
    let method = Method::builder().name(name).route_name(route).input_type(types.0).output_type(types.1);
    method.codec_path(codec).build()
}

fn server_streaming(name: &str, route: &str, types: (&str, &str)) -> Method {
    let method = Method::builder().name(name).route_name(route).input_type(types.0).output_type(types.1);
    method.codec_path(PROST).server_streaming().build()
}

fn client_streaming(name: &str, route: &str, types: (&str, &str)) -> Method {
    let method = Method::builder().name(name).route_name(route).input_type(types.0).output_type(types.1);
    method.codec_path(PROST).client_streaming().build()
}

fn action_cache() -> Service {
    service(
        "ActionCache",
        vec![
            unary(
                "get_action_result",
                "GetActionResult",
                ("crate::proto::re::GetActionResultRequest", "bytes::Bytes"),
                RAW,
            ),
            unary(
                "update_action_result",
                "UpdateActionResult",
                ("crate::wire::UpdateActionResultRequest", "bytes::Bytes"),
                RAW,
            ),
        ],
    )
}

fn content_addressable_storage() -> Service {
    let plain = |name: &str, route: &str| {
        let (request, response) =
            (format!("crate::proto::re::{route}Request"), format!("crate::proto::re::{route}Response"));
        unary(name, route, (&request, &response), PROST)
    };
    service(
        "ContentAddressableStorage",
        vec![
            plain("find_missing_blobs", "FindMissingBlobs"),
            plain("batch_update_blobs", "BatchUpdateBlobs"),
            plain("batch_read_blobs", "BatchReadBlobs"),
            server_streaming(
                "get_tree",
                "GetTree",
                ("crate::proto::re::GetTreeRequest", "crate::wire::GetTreeResponse"),
            ),
            plain("split_blob", "SplitBlob"),
            plain("splice_blob", "SpliceBlob"),
            server_streaming(
                "get_chunk_mapping",
                "GetChunkMapping",
                ("crate::proto::re::GetChunkMappingRequest", "crate::proto::re::GetChunkMappingResponse"),
            ),
            client_streaming(
                "register_chunk_mapping",
                "RegisterChunkMapping",
                ("crate::proto::re::RegisterChunkMappingRequest", "crate::proto::re::RegisterChunkMappingResponse"),
            ),
        ],
    )
}
