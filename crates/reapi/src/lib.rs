//! The cache half of the Remote Execution API: protobuf, conversions, services, and the client, which is itself a
//! [`store::BlobStore`]. The only crate that names protobuf.

pub mod client;
pub mod proto;
