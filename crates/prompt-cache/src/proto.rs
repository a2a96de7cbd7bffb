//! Rust types of `proto/twofold/prompt/v1/`, made by the build script.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/twofold.prompt.v1.rs"));

/// The encoded descriptor set, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/prompt_descriptors.bin"));
