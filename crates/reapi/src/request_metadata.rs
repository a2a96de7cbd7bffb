use std::borrow::Cow;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use cache_types::InstanceName;
use data_encoding::BASE64_NOPAD;
use http::{HeaderMap, Request, header};
use prost::Message;
use tower::{Layer, Service};
use tracing::instrument::{Instrument, Instrumented};
use tracing::{Level, Span, field};

use crate::observer::{Asker, Endpoint, Rpc};
use crate::proto::re::RequestMetadata;

/// The keys that carry the metadata, today's and an old one. Spec.
const KEYS: [&str; 2] = [
    "build.bazel.remote.execution.v2.requestmetadata-bin",
    "google.devtools.remoteexecution.v1test.requestmetadata-bin",
];

/// Gives each request one span, which says who asks where a client tells it. For logs only, never for access.
#[derive(Clone, Default)]
pub(crate) struct RequestSpans(Option<Arc<Follow>>);

/// Makes a span part of the trace that headers name.
type Follow = dyn Fn(&Span, &HeaderMap) + Send + Sync;

impl RequestSpans {
    /// Has `follow` see each span before it begins.
    pub(crate) fn following(follow: impl Fn(&Span, &HeaderMap) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(follow)))
    }
}

impl<S> Layer<S> for RequestSpans {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Spanned<S> {
        Spanned { inner, follow: self.0.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Spanned<S> {
    inner: S,
    follow: Option<Arc<Follow>>,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Spanned<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = Instrumented<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let span = match tracing::span_enabled!(Level::DEBUG) {
            true => span(&request, self.follow.as_deref()),
            false => Span::none(),
        };
        self.inner.call(request).instrument(span)
    }
}

fn span<B>(request: &Request<B>, follow: Option<&Follow>) -> Span {
    let (path, headers) = (request.uri().path(), request.headers());
    let span = tracing::debug_span!(
        "rpc",
        otel.name = &*name(request),
        otel.kind = "server",
        path,
        tool = field::Empty,
        invocation = field::Empty,
        action = field::Empty,
        mnemonic = field::Empty,
        target_id = field::Empty
    );
    if let Some(follow) = follow {
        follow(&span, headers);
    }
    if let Some(metadata) = read::<RequestMetadata>(headers) {
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

/// What the requests of one kind are called in traces: no digest is part of it.
fn name<B>(request: &Request<B>) -> Cow<'_, str> {
    let path = request.uri().path();
    match Endpoint::of(request) {
        Endpoint::Rpc(Rpc::Other) => Rpc::Other.name().into(),
        Endpoint::Rpc(_) => path.trim_start_matches('/').into(),
        Endpoint::Http(route, method) => format!("{} {}", method.name(), route.name()).into(),
    }
}

/// The metadata of a request; `None` when there is none or it is broken, which must not fail the call. Spec: R-155.
fn read<M: Message + Default>(headers: &HeaderMap) -> Option<M> {
    sent(headers).and_then(decode)
}

fn sent(headers: &HeaderMap) -> Option<&[u8]> {
    KEYS.into_iter().find_map(|key| headers.get(key)).map(|value| value.as_bytes())
}

fn decode<M: Message + Default>(sent: &[u8]) -> Option<M> {
    let unpadded = sent.strip_suffix(b"==").or_else(|| sent.strip_suffix(b"=")).unwrap_or(sent);
    M::decode(Bytes::from(BASE64_NOPAD.decode(unpadded).ok()?)).ok()
}

/// The parts of the metadata that are counted by. What is not read costs no copy.
#[derive(Clone, PartialEq, Message)]
struct Counted {
    #[prost(message, optional, tag = "1")]
    tool_details: Option<Tool>,
    #[prost(bytes = "bytes", tag = "5")]
    action_mnemonic: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Tool {
    #[prost(bytes = "bytes", tag = "1")]
    tool_name: Bytes,
}

/// The program behind a request and what it is about, as far as it says so. For counting only, never for access.
#[derive(Debug, Default)]
pub struct Requester {
    tool: Bytes,
    mnemonic: Bytes,
}

impl Requester {
    /// Reads the metadata; a request of HTTP without any has the product that its `User-Agent` names.
    pub fn of(headers: &HeaderMap) -> Self {
        if let Some(requester) = sent(headers).and_then(Self::parse) {
            return requester;
        }
        let agent = headers.get(header::USER_AGENT).map(|agent| agent.as_bytes()).unwrap_or_default();
        let product = agent.split(|byte| matches!(byte, b'/' | b' ')).next().unwrap_or_default();
        Self { tool: Bytes::copy_from_slice(product), mnemonic: Bytes::new() }
    }

    /// Reads the metadata as it travels, in base 64; `None` when it is broken.
    pub fn parse(sent: &[u8]) -> Option<Self> {
        let Counted { tool_details, action_mnemonic } = decode(sent)?;
        Some(Self { tool: tool_details.unwrap_or_default().tool_name, mnemonic: action_mnemonic })
    }

    /// The same with the instance that was asked.
    pub fn asker<'a>(&'a self, instance: &'a InstanceName) -> Asker<'a> {
        let text = |bytes: &'a Bytes| std::str::from_utf8(bytes).unwrap_or_default();
        Asker { instance: instance.as_str(), tool: text(&self.tool), mnemonic: text(&self.mnemonic) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tonic::metadata::{MetadataMap, MetadataValue};

    use crate::proto::re::ToolDetails;

    use super::*;

    proptest! {
        #[test]
        fn any_metadata_is_read_or_ignored(bytes in proptest::collection::vec(any::<u8>(), 0..60), padding in "={0,3}") {
            let sent = BASE64_NOPAD.encode(&bytes) + &padding;
            for sent in [sent.as_bytes(), bytes.as_slice()] {
                if let Some(requester) = Requester::parse(sent) {
                    let instance = InstanceName::default();
                    let asker = requester.asker(&instance);
                    prop_assert!(asker.tool.len() + asker.mnemonic.len() <= bytes.len());
                }
            }
        }
    }

    #[test]
    fn both_keys_are_read_and_broken_values_ignored() {
        let sent = RequestMetadata { action_id: "a".to_owned(), ..Default::default() };
        for key in KEYS {
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(key, MetadataValue::from_bytes(&sent.encode_to_vec()));
            assert_eq!(read(&metadata.clone().into_headers()), Some(sent.clone()));
            for broken in ["!!", "AAAA", "/////w=="] {
                let mut headers = HeaderMap::new();
                headers.insert(key, broken.parse().expect("a header"));
                assert_eq!(read::<RequestMetadata>(&headers), None, "{broken}");
            }
        }
        assert_eq!(read::<RequestMetadata>(&HeaderMap::new()), None);
    }

    #[test]
    fn a_requester_is_read_from_the_metadata_or_the_user_agent() {
        let team = InstanceName::parse("team").expect("a name");
        for length in 0..4 {
            let tool = ToolDetails { tool_name: "bazel".to_owned(), tool_version: "9.1".to_owned() };
            let sent = RequestMetadata {
                tool_details: Some(tool),
                action_id: "a".repeat(length),
                action_mnemonic: "Javac".to_owned(),
                ..Default::default()
            };
            let mut metadata = MetadataMap::new();
            metadata.insert_bin(KEYS[0], MetadataValue::from_bytes(&sent.encode_to_vec()));
            let requester = Requester::of(&metadata.into_headers());
            let expected = Asker { instance: "team", tool: "bazel", mnemonic: "Javac" };
            assert_eq!(requester.asker(&team), expected);
        }
        let mut headers = HeaderMap::new();
        assert_eq!(Requester::of(&headers).asker(&team).tool, "");
        headers.insert(header::USER_AGENT, "sccache/0.16 (x)".parse().expect("a header"));
        assert_eq!(Requester::of(&headers).asker(&team).tool, "sccache");
    }
}
