use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context;
use backends::Embedded;
use futures::future::BoxFuture;
use nix_cache::NixCaches;
use reapi::{LiveLimits, Upstream, UpstreamSettings};
use store::{Metered, StoreError, StoreMeters};

use crate::config::PromptSettings;
use crate::nix::touch_every;
use crate::{Config, Durability, upstream};

/// The store and the services over it.
pub(crate) struct Assembly {
    pub(crate) store: Arc<Embedded>,
    pub(crate) service: reapi::Service,
    /// What is counted of the store.
    pub(crate) meters: Arc<StoreMeters>,
    pub(crate) prompts: prompt_cache::PromptCache,
    pub(crate) nix: NixCaches,
    pub(crate) upstream: Option<Arc<Upstream>>,
    /// What peers may use, to be replaced.
    pub(crate) limits: LiveLimits,
}

/// Opens the store and puts the services over it. The only place that picks backends. Runs under a tokio runtime.
pub(crate) fn assemble(config: &Config) -> anyhow::Result<Assembly> {
    std::fs::create_dir_all(&config.data).with_context(|| {
        format!("cannot make the data folder {}; choose another with --data", config.data.display())
    })?;
    let settings = backends::Settings {
        data: config.data.clone(),
        max_size_bytes: config.max_size_bytes,
        lease: config.lease,
        evict_floor: config.evict_floor,
        eviction: backends::Eviction::Bounded,
        durability: match config.durability {
            Durability::PowerLoss => backends::Durability::PowerLoss,
            Durability::Process => backends::Durability::Process,
        },
    };
    let store =
        Embedded::open(settings).with_context(|| format!("cannot open the store in {}", config.data.display()))?;
    let store = Arc::new(store);
    let limits = LiveLimits::from(config.limits.clone());
    let settings = reapi::Settings {
        uploads: config.data.clone(),
        limits: limits.clone(),
        default_digest_function: config.default_digest_function,
        instances: config.instances.clone(),
        ..reapi::Settings::default()
    };
    let meters = Arc::new(StoreMeters::default());
    let metered = Arc::new(Metered::new(Embedded::clone(&store), meters.clone()));
    let upstream = config.upstream.clone().map(|upstream| {
        let upstream = UpstreamSettings { unsent: upstream::unsent(&config.data), ..upstream };
        Upstream::start(upstream, metered.clone(), metered.clone())
    });
    let service = match &upstream {
        Some(upstream) => reapi::Service::with_upstream(upstream.clone(), metered.clone(), settings),
        None => reapi::Service::new(metered.clone(), metered.clone(), settings),
    };
    let service = service.with_memory(metered.clone()).with_http(metered.clone());
    let secret = prompt_secret(&config.data).context("cannot keep the secret of the prompt cache")?;
    let settings = prompt_settings(&config.prompt)?;
    let prompts = prompt_cache::PromptCache::new(metered.clone(), metered.clone(), secret, settings);
    let service = service.with_services(reapi::Others {
        router: prompt_cache::Service::new(prompts.clone()).router(),
        descriptors: prompt_cache::proto::DESCRIPTORS,
    });
    let engine = store.clone();
    service.observer().ask_whether_evicted(move |key| engine.was_evicted(key));
    let uploads = nix_uploads(limits.clone(), service.upload_places());
    let nix = nix_caches(config, uploads, &metered)?;
    let service = service.with_pages(nix.router());
    Ok(Assembly { store, service, meters, prompts, nix, upstream, limits })
}

/// Uploads of NARs count among those of all layers, and follow the same limits.
fn nix_uploads(
    limits: LiveLimits,
    place: impl Fn() -> BoxFuture<'static, Result<nix_cache::Place, StoreError>> + Send + Sync + 'static,
) -> nix_cache::Uploads {
    let now = move || {
        let limits = limits.now();
        nix_cache::UploadLimits {
            max_bytes: limits.unknown_uploads_bytes,
            no_progress: limits.no_progress,
            zstd_window_log: limits.zstd.window_log,
            ratio: limits.zstd.ratio,
        }
    };
    nix_cache::Uploads { now: Arc::new(now), place: Arc::new(place) }
}

fn nix_caches(
    config: &Config,
    limits: nix_cache::Uploads,
    store: &Arc<Metered<Embedded>>,
) -> anyhow::Result<NixCaches> {
    let caches = config.nix_caches.iter().map(|cache| cache.with_key(&config.data));
    let settings = nix_cache::Settings {
        caches: caches.collect::<Result<_, _>>()?,
        uploads: config.data.clone(),
        limits,
        touch_every: touch_every(config.lease),
    };
    Ok(NixCaches::new(store.clone(), settings))
}

fn prompt_settings(config: &PromptSettings) -> anyhow::Result<prompt_cache::Settings> {
    let prices = match &config.prices {
        None => prompt_cache::PriceTable::default(),
        Some(file) => {
            let read = || format!("prompt.prices: cannot use {}", file.display());
            prompt_cache::PriceTable::parse(&fs::read_to_string(file).with_context(read)?).with_context(read)?
        }
    };
    Ok(prompt_cache::Settings { prices, signers: config.signers.clone() })
}

/// The secret that names of prompt records are made with: made once, kept beside the store, for its owner's eyes only.
///
/// Without it the records are there and nobody finds them.
fn prompt_secret(data: &Path) -> io::Result<prompt_cache::Secret> {
    let path = data.join("prompt.secret");
    let mut secret = [0; 32];
    match File::open(&path) {
        Ok(mut file) => {
            file.read_exact(&mut secret)?;
            return Ok(prompt_cache::Secret(secret));
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    File::open("/dev/urandom")?.read_exact(&mut secret)?;
    let aside = data.join("prompt.secret.new");
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(&aside)?;
    file.write_all(&secret)?;
    file.sync_all()?;
    fs::rename(&aside, &path)?;
    Ok(prompt_cache::Secret(secret))
}
