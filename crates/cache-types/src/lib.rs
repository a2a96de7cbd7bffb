//! The types every crate shares. No I/O, no async, no protobuf.
//!
//! Bytes from a socket, a disk or a command line become one of these once, at the door; past it nobody checks again.

mod byte_range;
mod caller;
mod compressor;
mod digest;
mod digest_function;
pub mod directory;
mod hasher;
mod instance_name;
pub mod nix;
mod resource_name;
mod role;
mod tree_hash;

pub use byte_range::{ByteRange, RangeError};
pub use caller::{Caller, Denied, Grant};
pub use compressor::Compressor;
pub use digest::{Digest, DigestError, Hash};
pub use digest_function::DigestFunction;
pub use hasher::Hasher;
pub use instance_name::{InstanceName, InstanceNameError};
pub use resource_name::{ReadResource, ResourceNameError, WriteResource};
pub use role::{Role, Roles};
