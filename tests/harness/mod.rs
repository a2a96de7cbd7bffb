//! What the black-box tests share: a server started from the built program, clients to it, and test data.
#![allow(dead_code, unused_imports)] // each test program uses its own part of this

pub mod bazel;
mod client;
mod data;
pub mod frames;
pub mod http;
pub mod identity;
pub mod metrics;
mod server;
pub mod tmpfs;
pub mod tool;

pub use bazel_remote_apis::build::bazel::remote::execution::v2 as re;
pub use bazel_remote_apis::google::bytestream;
pub use client::{Client, pieces};
pub use data::{Blob, Random, digest_of, hex, sha256};
pub use server::{Listener, Server, resident_bytes};

/// Shows a line of a report. The test runner captures `println!` of a test that passes, and this not.
pub fn say(line: impl std::fmt::Display) {
    use std::io::Write;
    // A reader that has gone is no fault of the test.
    writeln!(std::io::stdout().lock(), "{line}").ok();
}
