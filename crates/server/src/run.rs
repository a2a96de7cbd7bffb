use std::io::Write;
use std::time::Duration;

use anyhow::Context;
use bytesize::ByteSize;
use futures::future::{BoxFuture, FutureExt, Shared, try_join_all};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::oneshot;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;

use crate::Config;
use crate::assemble::{Assembly, assemble};
use crate::listen::Bound;

/// Streams that one connection may have open. Spec: R-182.
const MAX_STREAMS: u32 = 1000;
/// HTTP/2 windows, large enough for one stream to fill a fast network. Spec: performance, R-182.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A peer that answers no ping for this long is gone.
const PING_EVERY: Duration = Duration::from_secs(60);

type Stop = Shared<BoxFuture<'static, ()>>;

/// Serves until SIGTERM or SIGINT, then drains: new connections are refused, calls in flight are finished.
///
/// Prints `listening on ADDRESS` on standard output, a line for each listener, once it accepts connections.
///
/// # Errors
/// The store cannot be opened or an address cannot be bound.
pub async fn run(config: Config) -> anyhow::Result<()> {
    let opened = config.clone();
    let Assembly { store, service } = tokio::task::spawn_blocking(move || assemble(&opened)).await??;
    let bound = config.listen.iter().map(Bound::bind).collect::<anyhow::Result<Vec<Bound>>>()?;
    announce(&config, &bound)?;

    let (stop, stopped) = oneshot::channel::<()>();
    let stopped: Stop = stopped.map(|_| ()).boxed().shared();
    let routes = service.routes();
    let serving = try_join_all(bound.into_iter().map(|bound| serve(bound, routes.clone(), stopped.clone())));
    tokio::pin!(serving);

    tokio::select! {
        ended = &mut serving => {
            ended?;
        }
        name = ended_by_signal() => {
            tracing::info!(signal = name?, "draining");
            service.drain();
            // The receiver is held by the listeners; with none left there is nothing to stop.
            let _: Result<(), ()> = stop.send(());
            tokio::select! {
                ended = &mut serving => { ended?; }
                () = tokio::time::sleep(config.drain) => tracing::warn!(after = ?config.drain, "calls still in flight were cut"),
                name = ended_by_signal() => tracing::warn!(signal = name?, "a second signal: calls in flight were cut"),
            }
        }
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    tracing::info!("stopped");
    Ok(())
}

fn announce(config: &Config, bound: &[Bound]) -> anyhow::Result<()> {
    tracing::info!(
        data = %config.data.display(),
        max_size = %ByteSize(config.max_size_bytes),
        lease = ?config.lease,
        durability = ?config.durability,
        "serving"
    );
    let mut out = std::io::stdout().lock();
    for bound in bound {
        writeln!(out, "listening on {}", bound.endpoint()?)?;
    }
    out.flush().context("standard output")
}

async fn serve(bound: Bound, routes: Routes, stop: Stop) -> anyhow::Result<()> {
    let router = Server::builder()
        .accept_http1(true)
        .max_concurrent_streams(MAX_STREAMS)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keepalive_interval(Some(PING_EVERY))
        .add_routes(routes);
    match bound {
        Bound::Tcp(listener) => {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            // Without it a small answer waits for the peer's delayed acknowledgement.
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            router.serve_with_incoming_shutdown(incoming, stop).await?;
        }
        Bound::Unix(listener, _file) => {
            let incoming =
                tokio_stream::wrappers::UnixListenerStream::new(tokio::net::UnixListener::from_std(listener)?);
            router.serve_with_incoming_shutdown(incoming, stop).await?;
        }
    }
    Ok(())
}

/// Waits for a signal that asks to end, and names it.
async fn ended_by_signal() -> anyhow::Result<&'static str> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::select! {
        _ = terminate.recv() => Ok("SIGTERM"),
        _ = interrupt.recv() => Ok("SIGINT"),
    }
}
