use anyhow::Context;
use http::HeaderMap;
use opentelemetry::KeyValue;
use opentelemetry::propagation::{Extractor, TextMapPropagator};
use opentelemetry::trace::TraceContextExt;
use opentelemetry_otlp::{SpanExporter, WithExportConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::propagation::TraceContextPropagator;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use tracing::Span;
use tracing_opentelemetry::OpenTelemetrySpanExt;

/// Where spans go, and how many.
#[derive(Clone, Debug, PartialEq)]
pub struct SpanExport {
    /// The collector, as `http://HOST:PORT`; OTLP over gRPC is spoken there.
    pub endpoint: String,
    /// The share of traces begun here that is sent, from 0 to 1. A caller that sends `traceparent` decides itself.
    pub share: f64,
}

/// The spans that are on their way to a collector.
#[must_use = "the last spans are sent by `finish`"]
pub struct Spans(pub(crate) Option<SdkTracerProvider>);

impl Spans {
    /// Sends what is left, for a few seconds at most. Blocks.
    pub fn finish(self) {
        if let Some(Err(error)) = self.0.map(|provider| provider.shutdown()) {
            tracing::warn!(%error, "the last spans could not be sent");
        }
    }
}

/// Sends spans in batches, from a thread of its own; a collector that is away costs spans, never a call.
pub(crate) fn provider(export: &SpanExport) -> anyhow::Result<SdkTracerProvider> {
    let SpanExport { endpoint, share } = export;
    let context = || format!("the collector {endpoint}");
    let exporter = SpanExporter::builder().with_tonic().with_endpoint(endpoint).build().with_context(context)?;
    let version = KeyValue::new("service.version", env!("CARGO_PKG_VERSION"));
    let resource = Resource::builder_empty().with_service_name("twofold").with_attribute(version).build();
    let sampler = Sampler::ParentBased(Box::new(Sampler::TraceIdRatioBased(*share)));
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).with_sampler(sampler).build())
}

/// Makes a request's span part of the trace that its `traceparent` names. Spec: W3C Trace Context.
pub(crate) fn follow(span: &Span, headers: &HeaderMap) {
    let parent = TraceContextPropagator::new().extract(&Headers(headers));
    if parent.span().span_context().is_valid() {
        // An error says that no spans are exported.
        span.set_parent(parent).ok();
    }
}

struct Headers<'a>(&'a HeaderMap);

impl Extractor for Headers<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        self.0.get(key)?.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        self.0.keys().map(|key| key.as_str()).collect()
    }
}
