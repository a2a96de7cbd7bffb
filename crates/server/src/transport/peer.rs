use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

/// Who is at the other end of a connection. Each request on it has this among its extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Where it connected from.
    pub address: PeerAddress,
    /// The certificates it proved to hold, each as DER, its own first; none without TLS.
    pub certificates: Arc<[Vec<u8>]>,
}

impl Peer {
    /// A peer without certificates.
    pub(crate) fn new(address: PeerAddress) -> Self {
        Self { address, certificates: Arc::new([]) }
    }
}

/// Where a peer connected from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerAddress {
    /// Over TCP.
    Tcp(SocketAddr),
    /// Over a Unix socket of ours.
    Unix,
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix => f.write_str("unix"),
        }
    }
}
