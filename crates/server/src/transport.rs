//! The transport: HTTP/1.1 and HTTP/2 on each listener, told apart by the first bytes.
//!
//! | module | owns |
//! |---|---|
//! | `accept` | new connections: how many, and what happens when there are no descriptors left |
//! | `arriving` | the body of a request, and what is left of it when nobody wants it |
//! | `connection` | one connection from its first byte to its last |
//! | `socket` | reads and writes of one connection; small writes leave together |
//! | `calls` | on which task a call runs |
//! | `deadline` | `grpc-timeout` |
//! | `drain` | the order to end, spread over the connections |
//! | `peer` | who is at the other end |
//! | `limits` | what a peer may use |

mod accept;
mod arriving;
mod calls;
mod connection;
mod deadline;
mod drain;
mod limits;
mod peer;
mod socket;

use std::convert::Infallible;
use std::io;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::{Request, Response};
use parking_lot::RwLock;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;
use tonic::body::Body;

pub(crate) use self::accept::serve;
pub(crate) use self::arriving::Arriving;
pub(crate) use self::drain::{Drain, Draining};
pub use self::limits::TransportLimits;
pub use self::peer::{Peer, PeerAddress};

/// A byte stream that HTTP is spoken on.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// A connection that was accepted and on which nothing was said yet.
pub(crate) struct Accepted {
    pub(crate) stream: Box<dyn Stream>,
    pub(crate) peer: Peer,
}

/// What is done to an accepted stream before HTTP is spoken on it, such as a TLS handshake.
pub(crate) type Wrap = Arc<dyn Fn(Accepted) -> BoxFuture<'static, io::Result<Accepted>> + Send + Sync>;

/// What all listeners share.
pub(crate) struct Transport {
    limits: RwLock<Arc<TransportLimits>>,
    wrap: Option<Wrap>,
    free: Arc<Semaphore>,
    /// As it was at the start.
    max_connections: usize,
}

impl Transport {
    /// A transport with these limits; `wrap` is applied to each accepted stream.
    pub(crate) fn new(limits: TransportLimits, wrap: Option<Wrap>) -> Self {
        let free = Arc::new(Semaphore::new(limits.max_connections));
        let max_connections = limits.max_connections;
        Self { limits: RwLock::new(Arc::new(limits)), max_connections, wrap, free }
    }

    /// What holds for connections that begin now.
    pub(crate) fn limits(&self) -> Arc<TransportLimits> {
        self.limits.read().clone()
    }

    /// Replaces the limits of connections to come. How many there may be stays.
    pub(crate) fn set_limits(&self, limits: TransportLimits) {
        *self.limits.write() = Arc::new(limits);
    }

    /// Connections that are open now.
    pub(crate) fn open_connections(&self) -> usize {
        self.max_connections.saturating_sub(self.free.available_permits())
    }
}

/// What answers the requests of all connections.
pub(crate) trait App:
    tower::Service<Request<Arriving>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
    + Clone
    + Send
    + 'static
{
}

impl<T> App for T where
    T: tower::Service<Request<Arriving>, Response = Response<Body>, Error = Infallible, Future: Send + 'static>
        + Clone
        + Send
        + 'static
{
}

#[cfg(test)]
mod tests;
