//! Compiles the prompt cache's part of `proto/` with protox, with serde beside prost for the JSON mirror.

use std::path::{Path, PathBuf};

use prost::Message;

const PACKAGE: &str = ".twofold.prompt.v1";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto");
    println!("cargo:rerun-if-changed={}", root.join("twofold").display());
    let descriptors = protox::compile(["twofold/prompt/v1/prompt_cache.proto"], [&root])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("prompt_descriptors.bin"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .message_attribute(PACKAGE, "#[derive(serde::Serialize, serde::Deserialize)]")
        .message_attribute(PACKAGE, "#[serde(default, deny_unknown_fields)]");
    for (field, codec) in [
        ("Invocation.request", "crate::json::nested"),
        ("RecordRequest.response", "crate::json::nested"),
        ("AttestResponse.envelope", "crate::json::nested"),
        ("LookupResponse.response", "crate::json::nested"),
        ("ExplainResponse.nearest_request", "crate::json::nested"),
        ("Producer.envelope", "crate::json::nested"),
        ("Chain.links", "crate::json::hex_list"),
        ("Entry.components", "crate::json::hex_list"),
        ("Entry.system", "crate::json::hex_list"),
        ("StoredTool.digest", "crate::json::hex"),
        ("StoredField.digest", "crate::json::hex"),
        ("Alternate.key", "crate::json::hex"),
        ("LookupResponse.outcome", "crate::json::outcome"),
        ("FileOp.op", "crate::json::op"),
        ("Read.kind", "crate::json::read_kind"),
        ("Result.completeness", "crate::json::completeness"),
    ] {
        config = config.field_attribute(format!("{PACKAGE}.{field}"), format!("#[serde(with = \"{codec}\")]"));
    }
    config.compile_fds(descriptors)?;
    Ok(())
}
