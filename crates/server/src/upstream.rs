use std::path::{Path, PathBuf};
use std::time::Duration;

use cache_types::InstanceName;
use reapi::client::{Address, Compression, Headers, Settings, Tls};
use reapi::{UpstreamSettings, UpstreamWrite};
use serde::{Deserialize, Deserializer};

use crate::Endpoint;
use crate::config::time;

/// The variable that holds the token for the upstream.
const TOKEN: &str = "TWOFOLD_UPSTREAM_TOKEN";

/// How long a connection to the upstream may take to come about when nothing is said.
const DEFAULT_CONNECT: Duration = Duration::from_millis(500);

/// How long the upstream may take to answer a call when nothing is said.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long the upstream's word that a blob is there holds when nothing is said.
const DEFAULT_REMEMBER: Duration = Duration::from_secs(60);

/// What may wait to be sent to the upstream when nothing is said.
const DEFAULT_QUEUE: usize = 65_536;

/// Connections to the upstream: one is bound by its window and by one core.
const CONNECTIONS: usize = 4;

/// A call is sent again once, when its connection broke; the time for it stays the same.
const ATTEMPTS: u32 = 2;

/// The file in the data folder that keeps what could not be sent before a stop.
const UNSENT: &str = "upstream-queue";

/// The settings of the far server as a person gives them; `None` where nothing was said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawUpstream {
    /// `grpc://HOST:PORT`, `grpcs://HOST` or `unix:PATH`.
    pub address: Option<String>,
    /// When it is written to.
    #[serde(deserialize_with = "write")]
    pub write: Option<UpstreamWrite>,
    /// The instance of blobs, which stands before that of each action result.
    pub instance: Option<String>,
    /// Headers for each call, `NAME=VALUE`.
    pub headers: Vec<String>,
    /// A file with the token.
    pub token_file: Option<PathBuf>,
    /// The user whose password the token is.
    pub user: Option<String>,
    /// PEM files: the authorities to trust, the own certificate, its key.
    pub tls_ca: Option<PathBuf>,
    /// See above.
    pub tls_cert: Option<PathBuf>,
    /// See above.
    pub tls_key: Option<PathBuf>,
    /// Whether blobs travel as zstd.
    #[serde(rename = "compress", deserialize_with = "compress")]
    pub compression: Option<Compression>,
    /// How long a connection may take to come about.
    #[serde(deserialize_with = "time")]
    pub connect_timeout: Option<Duration>,
    /// How long a call may take to be answered.
    #[serde(deserialize_with = "time")]
    pub timeout: Option<Duration>,
    /// How long "it is there" holds.
    #[serde(deserialize_with = "time")]
    pub remember: Option<Duration>,
    /// What may wait to be sent.
    pub queue: Option<usize>,
}

/// Checks the settings; `None` when there is no upstream. Each fault is a line.
pub(crate) fn check(raw: &RawUpstream, listen: &[Endpoint], faults: &mut Vec<String>) -> Option<UpstreamSettings> {
    let Some(text) = &raw.address else {
        if raw.is_about_one() {
            faults.push("the settings of an upstream need its address: --upstream grpc://HOST:PORT".to_owned());
        }
        return None;
    };
    let before = faults.len();
    let address = keep(text.parse::<Address>().map_err(|error| format!("--upstream {text}: {error}")), faults);
    if address.as_ref().is_some_and(|address| listen.iter().any(|own| is_own(address, own))) {
        faults.push(format!("--upstream {text}: a server cannot be its own upstream"));
    }
    let client = client(raw, faults);
    let address = address.filter(|_| faults.len() == before)?;
    Some(UpstreamSettings {
        address,
        client,
        write: raw.write.unwrap_or(UpstreamWrite::Async),
        remember: raw.remember.unwrap_or(DEFAULT_REMEMBER),
        queue: raw.queue.unwrap_or(DEFAULT_QUEUE),
        unsent: PathBuf::new(),
    })
}

/// The file of what is unsent, in a data folder.
pub(crate) fn unsent(data: &Path) -> PathBuf {
    data.join(UNSENT)
}

/// `async`, `sync` or `off`.
fn write<'de, D: Deserializer<'de>>(from: D) -> Result<Option<UpstreamWrite>, D::Error> {
    match String::deserialize(from)?.as_str() {
        "async" => Ok(Some(UpstreamWrite::Async)),
        "sync" => Ok(Some(UpstreamWrite::Sync)),
        "off" => Ok(Some(UpstreamWrite::Off)),
        other => Err(serde::de::Error::custom(format!("{other:?} is none of async, sync and off"))),
    }
}

/// Whether blobs travel as zstd.
fn compress<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Compression>, D::Error> {
    Ok(Some(if bool::deserialize(from)? { Compression::ZstdWhenOffered } else { Compression::Off }))
}

impl RawUpstream {
    /// These settings where they say something, and those of `file` elsewhere.
    pub(crate) fn over(self, file: Self) -> Self {
        Self {
            address: self.address.or(file.address),
            write: self.write.or(file.write),
            instance: self.instance.or(file.instance),
            headers: if self.headers.is_empty() { file.headers } else { self.headers },
            token_file: self.token_file.or(file.token_file),
            user: self.user.or(file.user),
            tls_ca: self.tls_ca.or(file.tls_ca),
            tls_cert: self.tls_cert.or(file.tls_cert),
            tls_key: self.tls_key.or(file.tls_key),
            compression: self.compression.or(file.compression),
            connect_timeout: self.connect_timeout.or(file.connect_timeout),
            timeout: self.timeout.or(file.timeout),
            remember: self.remember.or(file.remember),
            queue: self.queue.or(file.queue),
        }
    }

    /// Whether anything is said that only makes sense with an upstream.
    fn is_about_one(&self) -> bool {
        self.instance.is_some()
            || !self.headers.is_empty()
            || self.token_file.is_some()
            || self.user.is_some()
            || self.tls_ca.is_some()
            || self.tls_cert.is_some()
            || self.tls_key.is_some()
    }
}

fn client(raw: &RawUpstream, faults: &mut Vec<String>) -> Settings {
    let instance = raw.instance.as_deref().unwrap_or_default();
    let instance = InstanceName::parse(instance).map_err(|error| format!("--upstream-instance {instance}: {error}"));
    let (connect_timeout, timeout) =
        (raw.connect_timeout.unwrap_or(DEFAULT_CONNECT), raw.timeout.unwrap_or(DEFAULT_TIMEOUT));
    if connect_timeout.is_zero() || timeout.is_zero() {
        faults.push("--upstream-connect-timeout and --upstream-timeout must be above zero".to_owned());
    }
    Settings {
        instance: keep(instance, faults).unwrap_or_default(),
        compression: raw.compression.unwrap_or(Compression::Off),
        headers: keep(headers(raw), faults).unwrap_or_default(),
        tls: keep(tls(raw), faults).unwrap_or_default(),
        connect_timeout,
        connections: CONNECTIONS,
        no_progress: timeout,
        attempts: ATTEMPTS,
        ..Settings::default()
    }
}

fn keep<T>(checked: Result<T, String>, faults: &mut Vec<String>) -> Option<T> {
    checked.map_err(|fault| faults.push(fault)).ok()
}

fn headers(raw: &RawUpstream) -> Result<Headers, String> {
    let mut headers = Headers::default();
    for text in &raw.headers {
        let name = text.split('=').next().unwrap_or_default().to_owned();
        headers = headers.with(text).map_err(|error| format!("--upstream-header {name}: {error}"))?;
    }
    let token = match &raw.token_file {
        Some(file) => Some(read(file, "--upstream-token-file")?),
        None => std::env::var_os(TOKEN).map(|token| token.into_encoded_bytes()),
    };
    let token = token.map(String::from_utf8).transpose();
    let token = token.map_err(|_| "the token for the upstream is not text".to_owned())?;
    let token = token.as_deref().map(str::trim).filter(|token| !token.is_empty());
    let added = match (&raw.user, token) {
        (Some(user), Some(token)) => headers.basic(user, token),
        (None, Some(token)) => headers.bearer(token),
        (Some(_), None) => return Err(format!("--upstream-user needs a password: --upstream-token-file or {TOKEN}")),
        (None, None) => Ok(headers),
    };
    added.map_err(|error| format!("the token for the upstream: {error}"))
}

fn tls(raw: &RawUpstream) -> Result<Tls, String> {
    let ca = raw.tls_ca.as_deref().map(|file| read(file, "--upstream-tls-ca")).transpose()?;
    let identity = match (&raw.tls_cert, &raw.tls_key) {
        (Some(cert), Some(key)) => Some((read(cert, "--upstream-tls-cert")?, read(key, "--upstream-tls-key")?)),
        (None, None) => None,
        _ => return Err("--upstream-tls-cert and --upstream-tls-key belong together".to_owned()),
    };
    Ok(Tls { ca, identity })
}

fn read(file: &Path, flag: &str) -> Result<Vec<u8>, String> {
    std::fs::read(file).map_err(|error| format!("{flag} {}: {error}", file.display()))
}

/// Whether the address is one that this server listens on, as far as that shows.
fn is_own(address: &Address, own: &Endpoint) -> bool {
    match (address, own) {
        (Address::Tcp { host, port } | Address::Tls { host, port }, Endpoint::Tcp(own)) => {
            let is_loopback = matches!(host.as_str(), "localhost" | "127.0.0.1" | "[::1]");
            is_loopback && own.port() == *port
        }
        (Address::Unix(path), Endpoint::Unix(own)) => Path::new(path) == own,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(raw: &RawUpstream) -> Vec<String> {
        let mut faults = Vec::new();
        let checked = check(raw, &[Endpoint::default()], &mut faults);
        assert_eq!(checked.is_none(), !faults.is_empty() || raw.address.is_none());
        faults
    }

    #[test]
    fn every_fault_of_an_upstream_is_reported() {
        let good = RawUpstream { address: Some("grpcs://cache.example".to_owned()), ..RawUpstream::default() };
        assert_eq!(faults(&good), Vec::<String>::new());
        assert_eq!(faults(&RawUpstream::default()), Vec::<String>::new());
        let bad = RawUpstream {
            instance: Some("a//b".to_owned()),
            headers: vec!["no-value".to_owned()],
            tls_ca: Some("/nowhere/ca.pem".into()),
            timeout: Some(Duration::ZERO),
            ..good.clone()
        };
        assert_eq!(faults(&bad).len(), 4, "{:?}", faults(&bad));
        let half = RawUpstream { tls_key: Some("/k".into()), ..good.clone() };
        assert!(faults(&half)[0].contains("belong together"));
        let itself = RawUpstream { address: Some("grpc://localhost:8980".to_owned()), ..good };
        assert!(faults(&itself)[0].contains("its own upstream"));
        let nobody = RawUpstream { user: Some("ci".to_owned()), ..RawUpstream::default() };
        assert!(faults(&nobody)[0].contains("--upstream grpc"));
    }
}
