//! The numbers of a server as Prometheus reads them.
//!
//! What is counted lives where it happens, in plain atomics; nothing here is on the path of a call. Each scrape reads them.
//!
//! | module | shows |
//! |---|---|
//! | `calls` | gRPC methods and HTTP routes |
//! | `actions` | hits and misses of the action cache |
//! | `storage` | the engine and the calls to it |
//! | `prompts` | the prompt cache and what it spared |
//! | `upstream` | the far server |
//! | `process` | memory, CPU time, files |
//! | `families` | the notation |

mod actions;
mod calls;
mod families;
mod process;
mod prompts;
mod storage;
mod upstream;

use std::sync::Arc;
use std::time::Instant;

use backends::{Embedded, Stats};
use prometheus_client::encoding::prometheus_text;
use prometheus_client::registry::Registry;
use prompt_cache::PromptCache;
use reapi::Upstream;
use reapi::observer::Observer;
use store::StoreMeters;

pub(crate) use process::Process;

/// The type of the text. Spec: Prometheus exposition formats.
pub(crate) const CONTENT_TYPE: &str = prometheus_text::CONTENT_TYPE;

/// Where the numbers come from.
#[derive(Clone)]
pub(crate) struct Sources {
    /// Calls and the action cache.
    pub(crate) observer: Arc<Observer>,
    /// Calls to the store.
    pub(crate) meters: Arc<StoreMeters>,
    /// The prompt cache.
    pub(crate) prompts: PromptCache,
    /// The far server, where there is one.
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// The engine.
    pub(crate) store: Arc<Embedded>,
    /// How many connections are open.
    pub(crate) connections: Arc<dyn Fn() -> u64 + Send + Sync>,
    /// When the server began.
    pub(crate) since: Instant,
}

impl Sources {
    pub(crate) fn stats(&self) -> Stats {
        self.store.stats()
    }
}

impl std::fmt::Debug for Sources {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// Registers everything that is shown.
pub(crate) fn register(registry: &mut Registry, sources: &Sources) {
    registry.register_collector(Box::new(calls::Calls(sources.clone())));
    registry.register_collector(Box::new(actions::Actions(sources.clone())));
    registry.register_collector(Box::new(storage::Storage(sources.clone())));
    registry.register_collector(Box::new(prompts::Prompts(sources.clone())));
    registry.register_collector(Box::new(upstream::Far(sources.clone())));
    registry.register_collector(Box::new(process::Processes(sources.clone())));
}

/// The text of all that is registered.
pub(crate) fn text(registry: &Registry) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    prometheus_text::encode(&mut text, registry)?;
    Ok(text)
}
