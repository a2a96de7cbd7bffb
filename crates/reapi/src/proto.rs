//! Rust types of `proto/`, made by the build script.
#![allow(missing_docs, clippy::all, clippy::pedantic)]

include!(concat!(env!("OUT_DIR"), "/proto.rs"));

pub use build::bazel::remote::execution::v2 as re;
pub use google::bytestream;

/// The encoded descriptor set of all of `proto/`, imports included, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));
