use std::sync::Arc;
use std::time::Instant;

use backends::Embedded;
use prompt_cache::PromptCache;
use reapi::{Service, Upstream};
use store::StoreMeters;

use crate::metrics::Sources;
use crate::pages::Pages;
use crate::spans::follow;
use crate::status_page::Status;

/// Puts what operators look at beside the services: metrics, status page, readiness, and spans that follow their callers.
///
/// The status keeps its history while [`Status::keep_history`] runs.
pub(crate) fn operate(
    service: Service,
    store: &Arc<Embedded>,
    meters: Arc<StoreMeters>,
    prompts: PromptCache,
    upstream: Option<Arc<Upstream>>,
    connections: impl Fn() -> usize + Send + Sync + 'static,
) -> (Service, Status) {
    let sources = Sources {
        observer: service.observer().clone(),
        meters,
        prompts,
        upstream,
        store: store.clone(),
        connections: Arc::new(move || connections() as u64),
        since: Instant::now(),
    };
    let status = Status::new(sources.clone());
    let pages = Pages::new(sources, status.clone(), service.draining());
    (service.with_followed_spans(follow).with_pages(pages.router()), status)
}
