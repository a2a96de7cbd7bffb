use std::sync::Arc;

use anyhow::Context;
use backends::Embedded;
use store::{Metered, StoreMeters};

use crate::{Config, Durability};

/// Uploads over HTTP whose digest is not known yet may take this share of the size of the store beside it.
const UPLOADS_SHARE: u64 = 8;

/// The store and the services over it.
pub(crate) struct Assembly {
    pub(crate) store: Arc<Embedded>,
    pub(crate) service: reapi::Service,
    /// What is counted of the store.
    pub(crate) meters: Arc<StoreMeters>,
}

/// Opens the store and puts the services over it. The only place that picks backends.
pub(crate) fn assemble(config: &Config) -> anyhow::Result<Assembly> {
    let settings = backends::Settings {
        data: config.data.clone(),
        max_size_bytes: config.max_size_bytes,
        lease: config.lease,
        durability: match config.durability {
            Durability::PowerLoss => backends::Durability::PowerLoss,
            Durability::Process => backends::Durability::Process,
        },
    };
    let store =
        Embedded::open(settings).with_context(|| format!("cannot open the store in {}", config.data.display()))?;
    let store = Arc::new(store);
    let settings = reapi::Settings {
        uploads: config.data.clone(),
        max_uploads_bytes: config.max_size_bytes / UPLOADS_SHARE,
        ..reapi::Settings::default()
    };
    let meters = Arc::new(StoreMeters::default());
    let metered = Arc::new(Metered::new(Embedded::clone(&store), meters.clone()));
    let service = reapi::Service::new(metered.clone(), metered.clone(), settings).with_http(metered);
    let engine = store.clone();
    service.observer().ask_whether_evicted(move |key| engine.was_evicted(key));
    Ok(Assembly { store, service, meters })
}
