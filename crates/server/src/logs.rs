use std::io::IsTerminal;

use opentelemetry::trace::TracerProvider;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer, Registry, reload};

use crate::spans::{self, SpanExport, Spans};

/// The crate whose spans are those of requests.
const REQUESTS: &str = "reapi";

/// The log of this process, whose filter can be replaced.
#[derive(Clone, Debug)]
pub struct Log(reload::Handle<EnvFilter, Registry>);

impl Log {
    /// Logs what this filter says from now on.
    ///
    /// # Errors
    /// The filter cannot be read.
    pub(crate) fn set(&self, filter: &str) -> anyhow::Result<()> {
        Ok(self.0.reload(parse(filter).map_err(anyhow::Error::msg)?)?)
    }
}

/// Starts the log on standard error, coloured on a terminal only, and the export of spans where it is asked for.
///
/// `filter` is a level such as `info`, or one for each target: `info,reapi=debug`. It has no say in what is exported.
///
/// # Errors
/// The filter or the endpoint cannot be read.
pub fn start(filter: &str, export: Option<&SpanExport>) -> anyhow::Result<(Log, Spans)> {
    let (filter, handle) = reload::Layer::new(parse(filter).map_err(anyhow::Error::msg)?);
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_ansi(colour).with_filter(filter);
    let provider = export.map(spans::provider).transpose()?;
    let exported = provider.as_ref().map(|provider| {
        // Questions whether a level is enabled pass too: whoever answers calls in shorter ways asks whether spans are wanted.
        let requests = FilterFn::new(|metadata| !metadata.is_event() && metadata.target().starts_with(REQUESTS));
        let layer = tracing_opentelemetry::layer().with_tracer(provider.tracer("twofold")).with_location(false);
        layer.with_threads(false).with_filter(requests.with_max_level_hint(LevelFilter::DEBUG))
    });
    tracing_subscriber::registry().with(lines).with(exported).init();
    Ok((Log(handle), Spans(provider)))
}

/// Reads a filter.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn parse(filter: &str) -> Result<EnvFilter, String> {
    EnvFilter::builder().parse(filter).map_err(|error| format!("{filter:?}: {error}"))
}
