//! The cache half of the Remote Execution API: protobuf, conversions, services, and the client, which is itself a
//! [`store::BlobStore`]. The only crate that names protobuf.

pub mod access;
pub mod action;
mod action_cache;
pub mod action_json;
mod bounded;
mod budget;
mod bytestream;
mod capabilities;
mod cas;
pub mod chunk_list;
pub mod client;
mod convert;
mod core;
mod cut;
pub mod digest_list;
mod direct;
mod directories;
mod health;
pub mod http;
mod inbound;
mod limits;
pub mod observer;
mod origin;
mod oversize;
pub mod proto;
mod request_metadata;
mod service;
mod settings;
mod status;
pub mod tree;
mod upstream;
pub mod validate;
mod wire;
mod writer;
pub mod zstd_stream;

pub use direct::Direct;
pub use limits::{Limits, LiveLimits, MemoryLimits, ZstdLimits};
pub use origin::Origin;
pub use service::{Others, Service};
pub use settings::{CommittedSize, InstanceRule, Settings};
pub use upstream::{Upstream, UpstreamSettings, UpstreamStats, UpstreamWrite};
