//! What the routes make of what a peer sends, without serving it: for fuzzing and for tests from outside.

use std::ops::Range;

use super::range::Asked;
use super::route::Route;
use crate::Settings;

/// The route and the key within it that the path of a URL names; `None` when it is refused.
pub fn path(path: &str) -> Option<(String, String)> {
    let named = match Route::parse(path, &Settings::default()).ok()? {
        Route::Cas { instance, hash } => ("cas", format!("{instance}/{hash}")),
        Route::Action { instance, hash } => ("ac", format!("{instance}/{hash}")),
        Route::Value(key) => ("value", key.path),
        Route::WebDav { key, .. } => ("webdav", key.path),
        Route::Artifact { hash } => ("artifact", hash),
        Route::Artifacts | Route::ArtifactEvents | Route::ArtifactStatus => ("artifacts", String::new()),
        Route::Status | Route::Health => ("status", String::new()),
    };
    Some((named.0.to_owned(), named.1))
}

/// The bytes of a blob of `size_bytes` that a `Range` header asks for; all of them for a header that is not understood,
/// `None` for one that asks for nothing that is there.
pub fn range(header: &str, size_bytes: u64) -> Option<Range<u64>> {
    match Asked::parse(Some(header), size_bytes) {
        Asked::All => Some(0..size_bytes),
        Asked::Part { start, end } => Some(start..end),
        Asked::Nothing => None,
    }
}
