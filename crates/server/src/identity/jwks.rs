use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use jsonwebtoken::jwk::JwkSet;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;

use super::oidc::Trusted;
use crate::tls;

/// The most bytes of a key set.
const MAX_BYTES: usize = 1024 * 1024;
/// How long fetching one may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often keys are fetched without need.
const FRESH: Duration = Duration::from_secs(60 * 60);
/// How long the issuer is left alone after each time, whatever tokens name.
const PAUSE: Duration = Duration::from_secs(30);

/// Reads a JWKS.
pub(super) fn parse(text: &str) -> Result<JwkSet, String> {
    serde_json::from_str(text).map_err(|error| format!("no JWKS: {error}"))
}

/// No keys.
pub(super) fn none() -> JwkSet {
    JwkSet { keys: Vec::new() }
}

/// Fetches the keys now, once an hour, and when a token names one that is not there. Never ends.
pub(super) async fn keep_fresh(url: Uri, trusted: Arc<Trusted>) {
    loop {
        match timeout(PATIENCE, fetch(&url)).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(keys) => {
                tracing::info!(%url, keys = keys.keys.len(), "the issuer's keys were fetched");
                trusted.set_keys(keys);
            }
            Err(error) => tracing::warn!(%url, %error, "the issuer's keys cannot be fetched; the old ones stay"),
        }
        let next = Instant::now() + FRESH;
        sleep(PAUSE).await;
        tokio::select! {
            () = sleep_until(next) => {}
            () = trusted.unknown_key.notified() => {}
        }
    }
}

async fn fetch(url: &Uri) -> io::Result<JwkSet> {
    let host = url.host().ok_or_else(|| io::Error::other("no host"))?;
    let is_tls = url.scheme_str() == Some("https");
    let stream = TcpStream::connect((host, url.port_u16().unwrap_or(if is_tls { 443 } else { 80 }))).await?;
    let body = if is_tls {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let connector = TlsConnector::from(tls::client_of_public_servers()?);
        get(connector.connect(name, stream).await?, url, host).await?
    } else {
        get(stream, url, host).await?
    };
    let text = std::str::from_utf8(&body).map_err(io::Error::other)?;
    parse(text).map_err(io::Error::other)
}

async fn get(stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static, url: &Uri, host: &str) -> io::Result<Bytes> {
    let (mut send, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::ACCEPT, HeaderValue::from_static("application/json"))
        .body(Empty::<Bytes>::new())
        .map_err(io::Error::other)?;
    let exchange = async {
        let response = send.send_request(request).await.map_err(io::Error::other)?;
        if !response.status().is_success() {
            return Err(io::Error::other(format!("status {}", response.status())));
        }
        Ok(Limited::new(response.into_body(), MAX_BYTES).collect().await.map_err(io::Error::other)?.to_bytes())
    };
    tokio::pin!(exchange, connection);
    tokio::select! {
        body = &mut exchange => body,
        ended = &mut connection => { ended.map_err(io::Error::other)?; exchange.await }
    }
}
