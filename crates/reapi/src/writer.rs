use http::Extensions;

/// The name under which what a request writes is kept.
pub(crate) fn of(_extensions: &Extensions) -> &str {
    "anonymous"
}
