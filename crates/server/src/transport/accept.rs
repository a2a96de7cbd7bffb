use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;
use tokio::task::{JoinError, JoinSet};

use super::{Accepted, App, Draining, Peer, PeerAddress, Transport, connection};
use crate::listen::Listener;

/// The pause after an accept that failed because the machine had no more to give, such as descriptors.
const BREATH: Duration = Duration::from_millis(100);

const NEVER_CLOSED: &str = "the semaphore is never closed";

/// Accepts and serves connections until a drain begins, and then until those that are open have ended.
///
/// Dropping the future ends all of them at once.
pub(crate) async fn serve<A: App>(listener: Listener, transport: Arc<Transport>, app: A, mut draining: Draining) {
    let mut connections = JoinSet::new();
    let for_connections = draining.clone();
    loop {
        tokio::select! {
            () = draining.begun() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => report(ended),
            accepted = next(&listener, &transport) => {
                let place = place(&transport);
                let serving = connection::serve(accepted, transport.clone(), app.clone(), for_connections.clone());
                connections.spawn(async move {
                    let _place = place.await;
                    serving.await;
                });
            }
        }
    }
    drop(listener);
    while let Some(ended) = connections.join_next().await {
        report(ended);
    }
}

fn report(ended: Result<(), JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "a connection failed");
    }
}

/// The place of a connection that was accepted: at once, unless another listener took the last one just now.
fn place(transport: &Transport) -> impl Future<Output = OwnedSemaphorePermit> + use<> {
    let free = transport.free.clone();
    let place = free.clone().try_acquire_owned();
    async move {
        match place {
            Ok(place) => place,
            Err(_) => free.acquire_owned().await.expect(NEVER_CLOSED),
        }
    }
}

/// The next connection, once there is a place for it. Can be dropped without losing one.
async fn next(listener: &Listener, transport: &Transport) -> Accepted {
    if transport.free.available_permits() == 0 {
        tracing::warn!(limit = transport.max_connections, "as many connections as may be; more have to wait");
        drop(transport.free.acquire().await.expect(NEVER_CLOSED));
    }
    loop {
        match accept(listener).await {
            Ok(accepted) => return accepted,
            Err(error) if is_of_one_connection(&error) => tracing::debug!(%error, "a connection ended in the queue"),
            Err(error) => {
                tracing::warn!(%error, "cannot accept connections; trying again");
                tokio::time::sleep(BREATH).await;
            }
        }
    }
}

async fn accept(listener: &Listener) -> io::Result<Accepted> {
    match listener {
        Listener::Tcp(listener) => {
            let (stream, address) = listener.accept().await?;
            // Without it a small answer waits for the peer's delayed acknowledgement.
            stream.set_nodelay(true)?;
            Ok(Accepted { stream: Box::new(stream), peer: Peer::new(PeerAddress::Tcp(address)) })
        }
        Listener::Unix(listener, _file) => {
            let (stream, _) = listener.accept().await?;
            Ok(Accepted { stream: Box::new(stream), peer: Peer::new(PeerAddress::Unix) })
        }
    }
}

/// Whether an error says something about the connection that was to be accepted, and nothing about the next.
fn is_of_one_connection(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, Interrupted, InvalidInput,
        NetworkUnreachable, NotConnected, PermissionDenied, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionRefused
            | ConnectionReset
            | HostUnreachable
            | Interrupted
            | InvalidInput
            | NetworkUnreachable
            | NotConnected
            | PermissionDenied
            | TimedOut
    )
}
