use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::str::FromStr;

use anyhow::Context;

/// The port of the default address.
const DEFAULT_PORT: u16 = 8980;

/// Where the server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A TCP address; port 0 picks a free one.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl Default for Endpoint {
    fn default() -> Self {
        Self::Tcp(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), DEFAULT_PORT))
    }
}

impl Endpoint {
    /// Whether other machines could reach it.
    pub fn is_beyond_loopback(&self) -> bool {
        matches!(self, Self::Tcp(address) if !address.ip().is_loopback())
    }
}

impl FromStr for Endpoint {
    type Err = EndpointError;

    /// Reads `HOST:PORT` or `unix:PATH`.
    fn from_str(text: &str) -> Result<Self, EndpointError> {
        if let Some(path) = text.strip_prefix("unix:") {
            if path.is_empty() {
                return Err(EndpointError::NoPath);
            }
            return Ok(Self::Unix(path.into()));
        }
        let mut addresses = text.to_socket_addrs().map_err(EndpointError::Address)?;
        addresses.next().map(Self::Tcp).ok_or(EndpointError::NoAddress)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => write!(f, "{address}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Why an address was refused.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Neither form.
    #[error("write HOST:PORT or unix:PATH ({0})")]
    Address(std::io::Error),
    /// The host name has no address.
    #[error("the host has no address")]
    NoAddress,
    /// `unix:` and nothing after it.
    #[error("a path follows unix:")]
    NoPath,
}

/// A socket that is bound and not yet served.
pub(crate) enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, SocketFile),
}

impl Bound {
    /// Binds the address. A Unix socket file that nobody answers any more is replaced.
    pub(crate) fn bind(endpoint: &Endpoint) -> anyhow::Result<Self> {
        let context = || format!("cannot listen on {endpoint}");
        match endpoint {
            Endpoint::Tcp(address) => {
                let listener = TcpListener::bind(address).with_context(context)?;
                listener.set_nonblocking(true).with_context(context)?;
                Ok(Self::Tcp(listener))
            }
            Endpoint::Unix(path) => {
                remove_abandoned(path).with_context(context)?;
                let listener = UnixListener::bind(path).with_context(context)?;
                listener.set_nonblocking(true).with_context(context)?;
                Ok(Self::Unix(listener, SocketFile(path.clone())))
            }
        }
    }

    /// The same socket for the runtime.
    pub(crate) fn listener(self) -> std::io::Result<Listener> {
        match self {
            Self::Tcp(listener) => Ok(Listener::Tcp(tokio::net::TcpListener::from_std(listener)?)),
            Self::Unix(listener, file) => Ok(Listener::Unix(tokio::net::UnixListener::from_std(listener)?, file)),
        }
    }

    /// The address in use, the port that was picked included.
    pub(crate) fn endpoint(&self) -> anyhow::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => Ok(Endpoint::Tcp(listener.local_addr()?)),
            Self::Unix(_, file) => Ok(Endpoint::Unix(file.0.clone())),
        }
    }
}

/// A socket that accepts connections.
pub(crate) enum Listener {
    Tcp(tokio::net::TcpListener),
    Unix(tokio::net::UnixListener, SocketFile),
}

/// Removes a socket file left behind by a server that is gone.
fn remove_abandoned(path: &Path) -> std::io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket());
    if !is_socket {
        return Ok(());
    }
    match UnixStream::connect(path) {
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Ok(()),
    }
}

/// The file of a Unix socket; it goes when the listener does.
pub(crate) struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.0) {
            tracing::debug!(path = %self.0.display(), %error, "the socket file was gone already");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read_and_written() {
        for text in ["127.0.0.1:8980", "[::1]:1", "unix:/run/twofold.sock"] {
            assert_eq!(text.parse::<Endpoint>().expect(text).to_string(), text);
        }
        for text in ["", "8980", "unix:", "127.0.0.1", "127.0.0.1:99999"] {
            assert!(text.parse::<Endpoint>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_abandoned_socket_is_replaced_and_a_live_one_is_not() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let endpoint = Endpoint::Unix(dir.path().join("s"));
        let live = Bound::bind(&endpoint).expect("the first");
        assert!(Bound::bind(&endpoint).is_err());
        if let Bound::Unix(listener, file) = live {
            std::mem::forget(file);
            drop(listener);
        }
        assert!(Bound::bind(&endpoint).is_ok());
    }
}
