use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use super::{Address, ConnectError, Settings};

/// Flow-control windows: what may be on its way on one stream, and on the connection.
const STREAM_WINDOW_BYTES: u32 = 4 * 1024 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;
/// A server that answers no ping while calls are under way is gone.
const PING_EVERY: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client of `grpcs://` trusts and shows.
#[derive(Clone, Default)]
pub struct Tls {
    /// The certificates of the authorities to trust, as PEM; `None` trusts those of the system.
    pub ca: Option<Vec<u8>>,
    /// The client's own certificate chain and its key, as PEM.
    pub identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    /// Says what there is, and not the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ca, identity) = (self.ca.is_some(), self.identity.is_some());
        f.debug_struct("Tls").field("ca", &ca).field("identity", &identity).finish()
    }
}

impl Tls {
    fn config(&self) -> ClientTlsConfig {
        let mut config = ClientTlsConfig::new();
        config = match &self.ca {
            Some(ca) => config.ca_certificate(Certificate::from_pem(ca)),
            None => config.with_native_roots(),
        };
        if let Some((certificate, key)) = &self.identity {
            config = config.identity(Identity::from_pem(certificate, key));
        }
        config
    }
}

/// The connections to a server: the first is made now, the others when their turn comes.
pub(super) async fn channels(address: &Address, settings: &Settings) -> Result<Arc<[Channel]>, ConnectError> {
    let unreachable = |source| ConnectError::Unreachable { address: address.clone(), source };
    let mut endpoint = Endpoint::from_shared(address.to_uri())
        .map_err(unreachable)?
        .connect_timeout(settings.connect_timeout)
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .http2_keep_alive_interval(PING_EVERY)
        .keep_alive_timeout(PING_TIMEOUT);
    if matches!(address, Address::Tls { .. }) {
        endpoint = endpoint.tls_config(settings.tls.config()).map_err(ConnectError::Tls)?;
    }
    let first = endpoint.connect().await.map_err(unreachable)?;
    let others = (1..settings.connections).map(|_| endpoint.connect_lazy());
    Ok(std::iter::once(first).chain(others).collect())
}
