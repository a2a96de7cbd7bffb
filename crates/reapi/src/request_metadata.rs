use std::task::{Context, Poll};

use http::{HeaderMap, Request};
use prost::Message;
use tonic::metadata::MetadataMap;
use tower::{Layer, Service};
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Level, Span, field};

use crate::proto::re::RequestMetadata;

/// The keys that carry the metadata, today's and an old one. Spec.
const KEYS: [&str; 2] = [
    "build.bazel.remote.execution.v2.requestmetadata-bin",
    "google.devtools.remoteexecution.v1test.requestmetadata-bin",
];

/// Gives each request one span, which says who asks where a client tells it. For logs only, never for access.
#[derive(Clone, Copy)]
pub(crate) struct RequestSpans;

impl<S> Layer<S> for RequestSpans {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Spanned<S> {
        Spanned(inner)
    }
}

#[derive(Clone)]
pub(crate) struct Spanned<S>(S);

impl<S: Service<Request<B>>, B> Service<Request<B>> for Spanned<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = span(request.uri().path(), request.headers());
        self.0.call(request).instrument(span)
    }
}

fn span(path: &str, headers: &HeaderMap) -> Span {
    if !tracing::enabled!(Level::DEBUG) {
        return Span::none();
    }
    let span = tracing::debug_span!(
        "rpc",
        path,
        tool = field::Empty,
        invocation = field::Empty,
        action = field::Empty,
        mnemonic = field::Empty,
        target_id = field::Empty
    );
    if let Some(metadata) = read(headers) {
        if let Some(tool) = &metadata.tool_details {
            span.record("tool", format!("{} {}", tool.tool_name, tool.tool_version));
        }
        span.record("invocation", metadata.tool_invocation_id);
        span.record("action", metadata.action_id);
        span.record("mnemonic", metadata.action_mnemonic);
        span.record("target_id", metadata.target_id);
    }
    span
}

/// The metadata of a request; `None` when there is none or it is broken, which must not fail the call. Spec: R-155.
fn read(headers: &HeaderMap) -> Option<RequestMetadata> {
    let key = KEYS.into_iter().find(|key| headers.contains_key(*key))?;
    let metadata = MetadataMap::from_headers(headers.clone());
    let bytes = metadata.get_bin(key)?.to_bytes().ok()?;
    RequestMetadata::decode(bytes).ok()
}

#[cfg(test)]
mod tests {
    use tonic::metadata::MetadataValue;

    use super::*;

    #[test]
    fn both_keys_are_read_and_broken_values_ignored() {
        let sent = RequestMetadata { action_id: "a".to_owned(), ..Default::default() };
        for key in KEYS {
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(key, MetadataValue::from_bytes(&sent.encode_to_vec()));
            assert_eq!(read(&metadata.into_headers()), Some(sent.clone()));
            for broken in ["!!", "AAAA", "/////w=="] {
                let mut headers = HeaderMap::new();
                headers.insert(key, broken.parse().expect("a header"));
                assert_eq!(read(&headers), None, "{broken}");
            }
        }
        assert_eq!(read(&HeaderMap::new()), None);
    }
}
