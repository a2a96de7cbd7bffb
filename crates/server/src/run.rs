use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use bytesize::ByteSize;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tower::Layer;

use crate::admin;
use crate::assemble::{Assembly, assemble};
use crate::identity::{Identify, Identity};
use crate::idle::idle;
use crate::listen::Bound;
use crate::operation::operate;
use crate::reload::{Reload, Reloader};
use crate::tls::Tls;
use crate::transport::{Drain, Transport, TransportLimits, serve};
use crate::{Config, Endpoint};

/// How long those whose uploads are cut have to be told so.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// Serves until SIGTERM or SIGINT, then drains: new connections are refused, calls in flight are finished.
///
/// Prints `listening on ADDRESS` on standard output, a line for each listener, once it accepts connections.
///
/// # Errors
/// The store cannot be opened or an address cannot be bound.
pub async fn run(config: Config, reload: Reload) -> anyhow::Result<()> {
    config.check_files()?;
    let opened = config.clone();
    let Assembly { store, service, meters, prompts, nix, upstream, limits } =
        tokio::task::spawn_blocking(move || assemble(&opened)).await??;
    let bound = config.listen.iter().map(Bound::bind).collect::<anyhow::Result<Vec<Bound>>>()?;
    // Before anyone is told that this server listens: from then on it may be told to end.
    let mut end = EndSignals::listen()?;
    let hangup = signal(SignalKind::hangup())?;
    announce(&config, &bound)?;

    let pins = tokio::spawn(nix.keep_pinned());
    let tls = config.tls.as_ref().map(|tls| tls.load().map(Tls::new)).transpose()?;
    let wrap = tls.as_ref().map(Tls::wrap);
    let transport = Arc::new(Transport::new(transport_limits(&config), wrap));
    let open = transport.clone();
    let (service, status) =
        operate(service, &store, meters, prompts, upstream.clone(), move || open.open_connections());
    let keeping = tokio::spawn(status.keep_history());
    let identify = identify(&config)?;
    let reloader = Reloader {
        config: config.clone(),
        source: reload,
        identify: identify.clone(),
        tls,
        transport: transport.clone(),
        limits,
    };
    let reloading = tokio::spawn(reloader.run(hangup));
    let (drain, draining) = Drain::new();
    let mut listeners = JoinSet::new();
    let service = service.with_pages(admin::routes(store.clone()));
    let routes = identify.layer(service.routes());
    for bound in bound {
        listeners.spawn(serve(bound.listener()?, transport.clone(), routes.clone(), draining.clone()));
    }

    let name = tokio::select! {
        name = end.next() => name,
        () = idle(&transport, config.idle_exit) => "none, nobody was connected",
        () = all_ended(&mut listeners) => anyhow::bail!("no listener is left"),
    };
    tracing::info!(signal = name, connections = transport.open_connections(), "draining");
    service.drain();
    drain.begin(transport.open_connections(), config.drain);
    let deadline = Instant::now() + config.drain;
    tokio::select! {
        () = all_ended(&mut listeners) => {}
        () = tokio::time::sleep(config.drain) => tracing::warn!(after = ?config.drain, "calls still in flight were cut"),
        name = end.next() => tracing::warn!(signal = name, "a second signal: calls in flight were cut"),
    }
    service.cut();
    tokio::time::timeout(LAST_WORDS, all_ended(&mut listeners)).await.ok();
    listeners.shutdown().await;
    keeping.abort();
    pins.abort();
    reloading.abort();
    if let Some(upstream) = upstream {
        upstream.drain(deadline.saturating_duration_since(Instant::now())).await;
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    tracing::info!("stopped");
    Ok(())
}

fn identify(config: &Config) -> anyhow::Result<Identify> {
    let files = config.auth.read().map_err(|faults| {
        anyhow::anyhow!("{}", faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))
    })?;
    Ok(Identify::new(Identity::new(&config.auth, files, None)?))
}

/// Says what may surprise.
fn warn(config: &Config) {
    let is_beyond = config.listen.iter().any(Endpoint::is_beyond_loopback);
    if config.allow_anonymous && is_beyond {
        tracing::warn!(
            "--allow-anonymous: whoever reaches this server may read everything and write what others build from"
        );
    }
    if config.auth.is_configured() && is_beyond && config.tls.is_none() {
        tracing::warn!(
            "credentials travel in the clear: give --tls-cert and --tls-key, or put a proxy that speaks TLS in front"
        );
    }
}

fn announce(config: &Config, bound: &[Bound]) -> anyhow::Result<()> {
    tracing::info!(
        data = %config.data.display(),
        max_size = %ByteSize(config.max_size_bytes),
        lease = ?config.lease,
        durability = ?config.durability,
        "serving"
    );
    warn(config);
    let mut out = std::io::stdout().lock();
    for bound in bound {
        writeln!(out, "listening on {}", bound.endpoint()?)?;
    }
    out.flush().context("standard output")
}

/// The limits, with no more connections than half of the files that this process may open.
fn transport_limits(config: &Config) -> TransportLimits {
    let mut limits = config.transport.clone();
    let files = usize::try_from(raise_open_files()).unwrap_or(usize::MAX);
    if limits.max_connections > files / 2 {
        limits.max_connections = (files / 2).max(1);
        tracing::warn!(
            files,
            connections = limits.max_connections,
            "few open files are allowed (ulimit -n): fewer connections"
        );
    }
    limits
}

/// Raises the number of files this process may open to what its user may have, and returns it.
fn raise_open_files() -> u64 {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, ..limit };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => raised.current.unwrap_or(u64::MAX),
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays");
            limit.current.unwrap_or(u64::MAX)
        }
    }
}

async fn all_ended(listeners: &mut JoinSet<()>) {
    while let Some(ended) = listeners.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "a listener failed");
        }
    }
}

/// The signals that ask this process to end.
struct EndSignals {
    terminate: Signal,
    interrupt: Signal,
}

impl EndSignals {
    /// Takes the signals from now on; none is lost.
    fn listen() -> std::io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next one, and names it.
    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
