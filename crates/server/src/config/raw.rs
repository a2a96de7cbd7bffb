use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use serde::{Deserialize, Deserializer};
use toml::{Table, Value};

use super::{ConfigError, Durability, Fault};
use crate::RawUpstream;

/// Settings as a person gives them, in a file or by flags; `None` where nothing was said.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawConfig {
    /// Addresses, `HOST:PORT` or `unix:PATH`.
    pub listen: Vec<String>,
    /// Serve everyone beyond loopback too, without authentication.
    pub allow_anonymous: Option<bool>,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The store's bound.
    #[serde(deserialize_with = "size")]
    pub max_size: Option<ByteSize>,
    /// How long promises are kept.
    #[serde(deserialize_with = "time")]
    pub lease: Option<Duration>,
    /// How long what was written stays at least.
    #[serde(deserialize_with = "time")]
    pub evict_floor: Option<Duration>,
    /// What an acknowledged write survives.
    pub durability: Option<Durability>,
    /// How long a drain waits for calls in flight.
    #[serde(deserialize_with = "time")]
    pub drain: Option<Duration>,
    /// How long nobody is connected before the server ends by itself; never when nothing is said.
    #[serde(deserialize_with = "time")]
    pub idle_exit: Option<Duration>,
    /// Nix caches, as `--nix-cache` takes them.
    pub nix_caches: Vec<String>,
    /// What to log.
    pub log: Option<String>,
    /// The collector of spans.
    pub otlp_endpoint: Option<String>,
    /// The share of traces that is sent there.
    pub otlp_sample: Option<f64>,
    /// The function of hashes of 64 digits that no request names one for.
    pub default_digest_function: Option<String>,
    /// Rules for instances and those below them; the empty name is all.
    pub instances: BTreeMap<String, RawInstance>,
    /// The far server.
    pub upstream: RawUpstream,
    /// What peers may use.
    pub limits: RawLimits,
    /// Certificates.
    pub tls: RawTls,
    /// Who may do what.
    pub auth: RawAuth,
    /// The prompt cache.
    pub prompt: RawPrompt,
}

/// The prompt cache.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawPrompt {
    /// A price table in place of the one that is built in.
    pub prices: Option<PathBuf>,
    /// Whose signatures count: name → Ed25519 public key in hexadecimal.
    pub signers: BTreeMap<String, String>,
}

/// What holds over HTTP for an instance and those below it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawInstance {
    /// Take nothing but action results under `/ac/`.
    pub strict_ac: bool,
    /// What a hash of 64 digits is taken for first.
    pub default_digest_function: Option<String>,
}

/// What peers may use.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawLimits {
    /// Connections open at once.
    pub connections: Option<usize>,
    /// Calls open at once on one HTTP/2 connection.
    pub streams_per_connection: Option<u32>,
    /// The headers of one request.
    #[serde(deserialize_with = "size")]
    pub headers: Option<ByteSize>,
    /// How long a stream may stand still.
    #[serde(deserialize_with = "time")]
    pub no_progress: Option<Duration>,
    /// The largest blob.
    #[serde(deserialize_with = "size")]
    pub blob: Option<ByteSize>,
    /// Uploads of unknown hash together.
    #[serde(deserialize_with = "size")]
    pub uploads: Option<ByteSize>,
    /// Uploads whose bytes are coming in, of all peers.
    pub concurrent_uploads: Option<usize>,
    /// The largest gRPC message.
    #[serde(deserialize_with = "size")]
    pub message: Option<ByteSize>,
    /// The largest window of a compressed upload.
    #[serde(deserialize_with = "size")]
    pub zstd_window: Option<ByteSize>,
    /// The most bytes that may come out of a compressed upload for each that goes in; 0 is no limit.
    pub zstd_ratio: Option<u64>,
    /// How long one who finds no memory or no place for an upload waits.
    #[serde(deserialize_with = "time")]
    pub patience: Option<Duration>,
    /// Memory for messages of all peers.
    #[serde(deserialize_with = "size")]
    pub message_memory: Option<ByteSize>,
    /// Memory for blobs on their way out.
    #[serde(deserialize_with = "size")]
    pub download_memory: Option<ByteSize>,
    /// Memory for blobs on their way in.
    #[serde(deserialize_with = "size")]
    pub upload_memory: Option<ByteSize>,
}

/// Certificates.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawTls {
    /// The server's certificate.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The authorities of client certificates.
    pub client_ca: Option<PathBuf>,
}

/// Who may do what. Roles are written `ROLE` or `ROLE@INSTANCE`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RawAuth {
    /// Roles of callers without a credential.
    pub anonymous_roles: Vec<String>,
    /// Tokens, a line each as `twofold token new` prints it.
    pub tokens: Vec<String>,
    /// A file of such lines.
    pub token_file: Option<PathBuf>,
    /// An htpasswd file.
    pub htpasswd: Option<PathBuf>,
    /// Roles of its users, those named in `users` apart.
    pub user_roles: Option<Vec<String>>,
    /// Users of their own rights.
    pub users: BTreeMap<String, RawRights>,
    /// Client certificates by a name in them.
    pub certificates: BTreeMap<String, RawRights>,
    /// Issuers of OIDC tokens.
    pub oidc: Vec<RawIssuer>,
}

/// What someone may do.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRights {
    /// Roles.
    pub roles: Vec<String>,
    /// The tenant.
    #[serde(default)]
    pub tenant: Option<String>,
}

/// An issuer of OIDC tokens.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawIssuer {
    /// Its name, as in `iss`.
    pub issuer: String,
    /// Audiences.
    pub audience: Vec<String>,
    /// A file, or an address of HTTPS.
    pub jwks: String,
    /// The claim with the caller's name; `sub` when not given.
    #[serde(default)]
    pub name_claim: Option<String>,
    /// The claim with the tenant.
    #[serde(default)]
    pub tenant_claim: Option<String>,
    /// What which tokens allow.
    pub rules: Vec<RawRule>,
}

/// What tokens with these claims allow.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawRule {
    /// Claim → value, or its beginning and `*`.
    pub claims: BTreeMap<String, String>,
    /// Roles.
    pub roles: Vec<String>,
}

/// A size as people write it, or a number of bytes.
pub(crate) fn size<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ByteSize>, D::Error> {
    match Value::deserialize(from)? {
        Value::Integer(bytes) => {
            let bytes = u64::try_from(bytes).map_err(|_| serde::de::Error::custom("a size is not negative"))?;
            Ok(Some(ByteSize(bytes)))
        }
        Value::String(text) => match text.parse() {
            Ok(size) => Ok(Some(size)),
            Err(_) => Err(serde::de::Error::custom(format!("{text:?} is no size such as 200GiB"))),
        },
        other => Err(serde::de::Error::custom(format!("{other} is no size such as \"200GiB\""))),
    }
}

/// A time as people write it.
pub(crate) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    let text = String::deserialize(from)?;
    let time = humantime::parse_duration(&text);
    time.map(Some).map_err(|_| serde::de::Error::custom(format!("{text:?} is no time such as 30s or 3h")))
}

impl RawConfig {
    /// Reads a TOML file.
    ///
    /// # Errors
    /// Every key that is not known or has a value of another kind.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let fault = |message: String| ConfigError { faults: vec![Fault::new(path.display().to_string(), message)] };
        let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
        Self::parse(&text).map_err(|error| match error {
            Unread::Syntax(message) => fault(message),
            Unread::Keys(error) => error,
        })
    }

    fn parse(text: &str) -> Result<Self, Unread> {
        let table: Table = text.parse().map_err(|error: toml::de::Error| Unread::Syntax(error.to_string()))?;
        match Self::deserialize(Value::Table(table.clone())) {
            Ok(raw) => Ok(raw),
            Err(first) => {
                let mut faults = faults_by_key(table);
                if faults.is_empty() {
                    faults.push(Fault::new("", first.message()));
                }
                Err(Unread::Keys(ConfigError { faults }))
            }
        }
    }

    /// These settings where they say something, and those of `file` elsewhere.
    pub fn over(self, file: Self) -> Self {
        let list = |flags: Vec<String>, file: Vec<String>| if flags.is_empty() { file } else { flags };
        Self {
            listen: list(self.listen, file.listen),
            allow_anonymous: self.allow_anonymous.or(file.allow_anonymous),
            data: self.data.or(file.data),
            max_size: self.max_size.or(file.max_size),
            lease: self.lease.or(file.lease),
            evict_floor: self.evict_floor.or(file.evict_floor),
            durability: self.durability.or(file.durability),
            drain: self.drain.or(file.drain),
            nix_caches: list(self.nix_caches, file.nix_caches),
            idle_exit: self.idle_exit.or(file.idle_exit),
            log: self.log.or(file.log),
            otlp_endpoint: self.otlp_endpoint.or(file.otlp_endpoint),
            otlp_sample: self.otlp_sample.or(file.otlp_sample),
            default_digest_function: self.default_digest_function.or(file.default_digest_function),
            instances: file.instances,
            upstream: self.upstream.over(file.upstream),
            limits: self.limits.over(file.limits),
            prompt: file.prompt,
            tls: RawTls {
                cert: self.tls.cert.or(file.tls.cert),
                key: self.tls.key.or(file.tls.key),
                client_ca: self.tls.client_ca.or(file.tls.client_ca),
            },
            auth: RawAuth {
                anonymous_roles: list(self.auth.anonymous_roles, file.auth.anonymous_roles),
                tokens: list(self.auth.tokens, file.auth.tokens),
                token_file: self.auth.token_file.or(file.auth.token_file),
                htpasswd: self.auth.htpasswd.or(file.auth.htpasswd),
                user_roles: self.auth.user_roles.or(file.auth.user_roles),
                ..file.auth
            },
        }
    }
}

impl RawLimits {
    /// Reads settings of the form `KEY=VALUE`, the keys those of the section `limits`.
    ///
    /// # Errors
    /// Every key that is not known or has a value of another kind.
    pub fn parse(texts: &[String]) -> Result<Self, ConfigError> {
        let mut section = Table::new();
        let mut faults = Vec::new();
        for text in texts {
            match text.split_once('=') {
                Some((key, value)) => {
                    let number = value.trim().parse::<i64>().map(Value::Integer);
                    section.insert(key.trim().to_owned(), number.unwrap_or_else(|_| value.trim().into()));
                }
                None => faults.push(Fault::new("limits", format!("{text:?} is no KEY=VALUE"))),
            }
        }
        let table = Table::from_iter([("limits".to_owned(), Value::Table(section))]);
        match RawConfig::deserialize(Value::Table(table.clone())) {
            Ok(raw) if faults.is_empty() => return Ok(raw.limits),
            Ok(_) => {}
            Err(_) => faults.extend(faults_by_key(table)),
        }
        Err(ConfigError { faults })
    }

    fn over(self, file: Self) -> Self {
        Self {
            connections: self.connections.or(file.connections),
            streams_per_connection: self.streams_per_connection.or(file.streams_per_connection),
            headers: self.headers.or(file.headers),
            no_progress: self.no_progress.or(file.no_progress),
            blob: self.blob.or(file.blob),
            uploads: self.uploads.or(file.uploads),
            concurrent_uploads: self.concurrent_uploads.or(file.concurrent_uploads),
            message: self.message.or(file.message),
            zstd_window: self.zstd_window.or(file.zstd_window),
            zstd_ratio: self.zstd_ratio.or(file.zstd_ratio),
            patience: self.patience.or(file.patience),
            message_memory: self.message_memory.or(file.message_memory),
            download_memory: self.download_memory.or(file.download_memory),
            upload_memory: self.upload_memory.or(file.upload_memory),
        }
    }
}

enum Unread {
    Syntax(String),
    Keys(ConfigError),
}

/// Reads each key by itself, so that one fault does not hide the next.
fn faults_by_key(table: Table) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (key, value) in table {
        match value {
            Value::Table(section) if matches!(key.as_str(), "instances" | "upstream" | "limits" | "tls" | "auth") => {
                for (inner, value) in section {
                    let alone = Table::from_iter([(inner.clone(), value)]);
                    check_alone(
                        format!("{key}.{inner}"),
                        Table::from_iter([(key.clone(), Value::Table(alone))]),
                        &mut faults,
                    );
                }
            }
            value => check_alone(key.clone(), Table::from_iter([(key, value)]), &mut faults),
        }
    }
    faults
}

fn check_alone(key: String, table: Table, faults: &mut Vec<Fault>) {
    if let Err(error) = RawConfig::deserialize(Value::Table(table)) {
        faults.push(Fault::new(key, error.message().trim()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<String> {
        match RawConfig::parse(text) {
            Err(Unread::Keys(error)) => error.faults.into_iter().map(|fault| fault.key).collect(),
            Err(Unread::Syntax(message)) => vec![message],
            Ok(_) => Vec::new(),
        }
    }

    #[test]
    fn every_key_that_is_wrong_is_named() {
        let text =
            "listem = 1\nmax_size = \"many\"\nlease = 3\n[limits]\nno_progress = \"x\"\nblob = -1\n[auth]\nroot = 1\n";
        let mut found = faults(text);
        found.sort();
        assert_eq!(found, ["auth.root", "lease", "limits.blob", "limits.no_progress", "listem", "max_size"]);
        assert!(faults("listen = [").first().is_some_and(|message| message.contains("line 1")));
    }

    #[test]
    fn flags_count_for_more_than_the_file() {
        let text = "listen = ['127.0.0.1:1']\nlease = '1h'\nmax_size = 1000\n[auth]\nanonymous_roles = ['read']\n";
        let Ok(file) = RawConfig::parse(text) else { panic!("a good file") };
        assert_eq!(file.max_size, Some(ByteSize(1000)));
        let flags = RawConfig { lease: Some(Duration::from_secs(1)), ..RawConfig::default() };
        let both = flags.over(file);
        assert_eq!((both.lease, both.max_size), (Some(Duration::from_secs(1)), Some(ByteSize(1000))));
        assert_eq!((both.listen, both.auth.anonymous_roles), (vec!["127.0.0.1:1".to_owned()], vec!["read".to_owned()]));
    }
}
