//! TLS by rustls with ring: certificates that can be replaced while clients are connected.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::future::FutureExt;
use parking_lot::RwLock;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::ring::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::WebPkiClientVerifier;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, ServerConfig};

use crate::identity::LoadError;
use crate::transport::{Accepted, PeerAddress, Wrap};

/// The files of TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSettings {
    /// The server's certificate and those between it and the authority, as PEM.
    pub cert: PathBuf,
    /// Its key, as PEM.
    pub key: PathBuf,
    /// The authorities whose client certificates are taken, as PEM; without it none is asked for.
    pub client_ca: Option<PathBuf>,
}

impl TlsSettings {
    /// The files, which are read again when they change.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        [&self.cert, &self.key].into_iter().chain(&self.client_ca).cloned().collect()
    }

    /// Reads the files.
    ///
    /// # Errors
    /// A file that cannot be read, or a key that is not the certificate's.
    pub(crate) fn load(&self) -> Result<Arc<ServerConfig>, LoadError> {
        let chain = certificates("tls.cert", &self.cert)?;
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(|error| fault("tls.key", &self.key, error))?;
        let provider = Arc::new(default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|error| fault("tls.cert", &self.cert, error))?;
        let builder = match &self.client_ca {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in certificates("tls.client_ca", path)? {
                    roots.add(certificate).map_err(|error| fault("tls.client_ca", path, error))?;
                }
                // Callers without a certificate may have another credential.
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .allow_unauthenticated()
                    .build()
                    .map_err(|error| fault("tls.client_ca", path, error))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let mut config = builder.with_single_cert(chain, key).map_err(|error| fault("tls.key", &self.key, error))?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Arc::new(config))
    }
}

fn certificates(key: &'static str, path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let read = read.map_err(|error| fault(key, path, error))?;
    if read.is_empty() {
        return Err(fault(key, path, "no certificate is in it"));
    }
    Ok(read)
}

fn fault(key: &'static str, path: &Path, reason: impl std::fmt::Display) -> LoadError {
    LoadError { key, path: path.to_owned(), reason: reason.to_string() }
}

/// The TLS of the listeners; clones share the certificates, which can be replaced.
#[derive(Clone)]
pub(crate) struct Tls(Arc<RwLock<Arc<ServerConfig>>>);

impl Tls {
    pub(crate) fn new(config: Arc<ServerConfig>) -> Self {
        Self(Arc::new(RwLock::new(config)))
    }

    /// Shows these certificates from the next connection on.
    pub(crate) fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write() = config;
    }

    /// The handshake of each connection over TCP. Unix sockets stay as they are: nobody is in between.
    pub(crate) fn wrap(&self) -> Wrap {
        let tls = self.clone();
        Arc::new(move |accepted: Accepted| {
            let config = tls.0.read().clone();
            async move {
                match accepted.peer.address {
                    PeerAddress::Unix => Ok(accepted),
                    PeerAddress::Tcp(_) => handshake(config, accepted).await,
                }
            }
            .boxed()
        })
    }
}

async fn handshake(config: Arc<ServerConfig>, accepted: Accepted) -> io::Result<Accepted> {
    let Accepted { stream, mut peer } = accepted;
    let stream = TlsAcceptor::from(config).accept(stream).await?;
    let (_, connection) = stream.get_ref();
    let chain = connection.peer_certificates().unwrap_or_default();
    peer.certificates = chain.iter().map(|certificate| certificate.to_vec()).collect();
    Ok(Accepted { stream: Box::new(stream), peer })
}

/// TLS of a client to servers on the internet, which the system's authorities vouch for.
///
/// # Errors
/// The system has no authorities.
pub(crate) fn client_of_public_servers() -> io::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    let system = rustls_native_certs::load_native_certs();
    roots.add_parsable_certificates(system.certs);
    if roots.is_empty() {
        return Err(io::Error::other("this system has no certificate authorities"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}
