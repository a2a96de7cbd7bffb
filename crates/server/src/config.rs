//! The configuration: [`RawConfig`] as people give it, turned once into [`Config`].

mod auth;
mod fault;
mod instances;
mod limits;
mod prompt;
mod raw;
mod show;

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;
use cache_types::DigestFunction;
use reapi::{InstanceRule, Limits};

pub use self::fault::{ConfigError, Fault};
pub(crate) use self::prompt::PromptSettings;
pub(crate) use self::raw::time;
pub use self::raw::{RawAuth, RawConfig, RawInstance, RawIssuer, RawLimits, RawPrompt, RawRights, RawRule, RawTls};
use crate::identity::AuthSettings;
use crate::tls::TlsSettings;
use crate::{Endpoint, NixCache, RawUpstream, SpanExport, TransportLimits, upstream};

/// The log that is written when nothing is said.
pub const DEFAULT_LOG: &str = "info";

/// How long a stream of a client may stand still when nothing is said. Spec: R-077.
const DEFAULT_NO_PROGRESS: Duration = Duration::from_secs(60);

/// The share of the file system that holds the data folder which the store may fill when no size is given.
pub const DEFAULT_DISK_SHARE: f64 = 0.2;

/// How long what was promised is kept when no time is given. Spec: R-045.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(3 * 60 * 60);

/// How long what was written stays at least when no time is given, or a sixteenth of the lease where that is less: the
/// lease says how short-lived a store is meant to be. Spec: R-162.
pub const DEFAULT_EVICT_FLOOR: Duration = Duration::from_secs(5 * 60);

/// The least a store works with: below it the index alone would fill it.
const LEAST_SIZE: u64 = 64 * 1024 * 1024;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Durability {
    /// A power cut: each group of writes is synced to the disk.
    PowerLoss,
    /// The end of the process, however sudden; a power cut may lose the last seconds.
    Process,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; at least one.
    pub listen: Vec<Endpoint>,
    /// Serve everyone beyond loopback too, without authentication.
    pub allow_anonymous: bool,
    /// The data folder.
    pub data: PathBuf,
    /// The store's bound in bytes.
    pub max_size_bytes: u64,
    /// How long promises are kept.
    pub lease: Duration,
    /// How long what was written stays at least, though nobody was promised it.
    pub evict_floor: Duration,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// How long a drain waits for calls in flight.
    pub drain: Duration,
    /// How long nobody is connected before the server ends by itself.
    pub idle_exit: Option<Duration>,
    /// The Nix caches; at least one, each name once.
    pub nix_caches: Vec<NixCache>,
    /// The same as they were given; none for the default one.
    pub nix_cache_texts: Vec<String>,
    /// What to log.
    pub log: String,
    /// Where spans go, if anywhere.
    pub spans: Option<SpanExport>,
    /// What the transport lets its peers use.
    pub transport: TransportLimits,
    /// What the services let them use.
    pub limits: Limits,
    /// The function of hashes of 64 digits that no request names one for; SHA-256 where none is given.
    pub default_digest_function: Option<DigestFunction>,
    /// Rules for instances.
    pub instances: Vec<InstanceRule>,
    /// The certificates, where there are any.
    pub tls: Option<TlsSettings>,
    /// Who may do what.
    pub auth: AuthSettings,
    /// The far server, if there is one.
    pub upstream: Option<reapi::UpstreamSettings>,
    /// The prompt cache.
    pub prompt: PromptSettings,
}

impl Config {
    /// Checks the settings and fills in the defaults. Files that they name are not read yet.
    ///
    /// # Errors
    /// [`ConfigError`] holds every fault that was found.
    pub fn check(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let listen = check_listen(&raw.listen, &mut faults);
        let auth = auth::check(&raw.auth, &mut faults);
        let allow_anonymous = raw.allow_anonymous.unwrap_or(false);
        check_reach(&listen, &auth, allow_anonymous, &mut faults);
        let tls = check_tls(&raw.tls, &mut faults);
        if tls.as_ref().is_none_or(|tls| tls.client_ca.is_none()) && !auth.certificates.is_empty() {
            faults.push(Fault::new(
                "auth.certificates",
                "no client certificate is asked for; name their authority by tls.client_ca",
            ));
        }
        let transport = check_transport(&raw.limits, &mut faults);
        let data = check_data(raw.data, &mut faults);
        let max_size_bytes = check_size(raw.max_size, data.as_deref(), &mut faults);
        let nix_caches = check_nix_caches(&raw.nix_caches, &mut faults);
        let log = raw.log.unwrap_or_else(|| DEFAULT_LOG.to_owned());
        if let Err(error) = crate::logs::parse(&log) {
            faults.push(Fault::new("log", error));
        }
        let spans = check_spans(raw.otlp_endpoint, raw.otlp_sample, &mut faults);
        let lease = raw.lease.unwrap_or(DEFAULT_LEASE);
        let upstream = check_upstream(&raw.upstream, &listen, &mut faults);
        let instances = instances::check(&raw.instances, &mut faults);
        let default_digest_function =
            instances::function("default_digest_function", raw.default_digest_function.as_deref(), &mut faults);
        let prompt = prompt::check(raw.prompt, &mut faults);
        let limits = limits::check(&raw.limits, &transport, max_size_bytes.unwrap_or(0), &mut faults);
        match (data, max_size_bytes, faults.is_empty()) {
            (Some(data), Some(max_size_bytes), true) => Ok(Self {
                listen,
                allow_anonymous,
                data,
                max_size_bytes,
                lease,
                evict_floor: raw.evict_floor.unwrap_or(DEFAULT_EVICT_FLOOR.min(lease / 16)),
                durability: raw.durability.unwrap_or(Durability::PowerLoss),
                drain: raw.drain.unwrap_or(Duration::from_secs(30)),
                idle_exit: raw.idle_exit,
                nix_caches,
                nix_cache_texts: raw.nix_caches,
                log,
                spans,
                transport,
                limits,
                default_digest_function,
                instances,
                tls,
                auth,
                upstream,
                prompt,
            }),
            _ => Err(ConfigError { faults }),
        }
    }

    /// Reads the files that the settings name, and says every fault in them.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn check_files(&self) -> Result<(), ConfigError> {
        let mut faults = Vec::new();
        let keyed = |error: crate::identity::LoadError| {
            Fault::new(error.key, format!("{}: {}", error.path.display(), error.reason))
        };
        if let Err(errors) = self.auth.read() {
            faults.extend(errors.into_iter().map(keyed));
        }
        if let Some(Err(error)) = self.tls.as_ref().map(TlsSettings::load) {
            faults.push(keyed(error));
        }
        if faults.is_empty() { Ok(()) } else { Err(ConfigError { faults }) }
    }
}

fn check_listen(raw: &[String], faults: &mut Vec<Fault>) -> Vec<Endpoint> {
    if raw.is_empty() {
        return vec![Endpoint::default()];
    }
    let mut endpoints = Vec::new();
    for text in raw {
        match text.parse::<Endpoint>() {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(source) => faults.push(Fault::new("listen", format!("{text:?}: {source}"))),
        }
    }
    endpoints
}

/// Refuses to be reached by other machines without knowing who they are, unless that is wanted.
fn check_reach(listen: &[Endpoint], auth: &AuthSettings, allow_anonymous: bool, faults: &mut Vec<Fault>) {
    if auth.is_configured() {
        if allow_anonymous {
            let message = "callers are told apart, so it has no effect; say by auth.anonymous_roles what those without a \
                           credential may do";
            faults.push(Fault::new("allow_anonymous", message));
        }
        return;
    }
    for endpoint in listen.iter().filter(|endpoint| endpoint.is_beyond_loopback() && !allow_anonymous) {
        let message = format!(
            "{endpoint} is beyond loopback: other machines can reach it, and nothing says who may do what: everyone could read all and \
             write what others then build from. Configure tokens (`twofold token new`), --htpasswd, certificates or OIDC, \
             or accept that with --allow-anonymous"
        );
        faults.push(Fault::new("listen", message));
    }
}

fn check_tls(raw: &RawTls, faults: &mut Vec<Fault>) -> Option<TlsSettings> {
    match (&raw.cert, &raw.key) {
        (Some(cert), Some(key)) => {
            Some(TlsSettings { cert: cert.clone(), key: key.clone(), client_ca: raw.client_ca.clone() })
        }
        (None, None) => {
            if raw.client_ca.is_some() {
                faults.push(Fault::new("tls.client_ca", "it needs tls.cert and tls.key"));
            }
            None
        }
        (Some(_), None) => {
            faults.push(Fault::new("tls.key", "tls.cert needs its key"));
            None
        }
        (None, Some(_)) => {
            faults.push(Fault::new("tls.cert", "tls.key needs its certificate"));
            None
        }
    }
}

fn check_spans(endpoint: Option<String>, share: Option<f64>, faults: &mut Vec<Fault>) -> Option<SpanExport> {
    let share = share.unwrap_or(1.0);
    if !(0.0..=1.0).contains(&share) {
        faults.push(Fault::new("otlp_sample", format!("{share} is no share from 0 to 1")));
    }
    let endpoint = endpoint?;
    let uri = endpoint.parse::<http::Uri>().ok();
    if !uri.is_some_and(|uri| uri.scheme_str() == Some("http") && uri.authority().is_some()) {
        let text = format!("{endpoint}: write http://HOST:PORT of a collector that takes OTLP over gRPC without TLS");
        faults.push(Fault::new("otlp_endpoint", text));
        return None;
    }
    Some(SpanExport { endpoint, share })
}

fn check_transport(raw: &RawLimits, faults: &mut Vec<Fault>) -> TransportLimits {
    let mut limits = TransportLimits::default();
    if raw.connections == Some(0) {
        faults.push(Fault::new("limits.connections", "at least 1"));
    }
    if raw.streams_per_connection == Some(0) {
        faults.push(Fault::new("limits.streams_per_connection", "at least 1"));
    }
    limits.max_connections = raw.connections.unwrap_or(limits.max_connections);
    limits.max_streams = raw.streams_per_connection.unwrap_or(limits.max_streams);
    if let Some(size) = raw.headers {
        match u32::try_from(size.as_u64()) {
            Ok(bytes) if bytes >= 4096 => limits.max_header_list_bytes = bytes,
            _ => faults.push(Fault::new("limits.headers", "between 4KiB and 4GiB")),
        }
    }
    limits.no_progress = raw.no_progress.unwrap_or(DEFAULT_NO_PROGRESS);
    if limits.no_progress.is_zero() {
        faults.push(Fault::new("limits.no_progress", "longer than nothing"));
    }
    limits
}

fn check_nix_caches(raw: &[String], faults: &mut Vec<Fault>) -> Vec<NixCache> {
    if raw.is_empty() {
        return vec![NixCache::default()];
    }
    let mut caches: Vec<NixCache> = Vec::new();
    for text in raw {
        match NixCache::parse(text) {
            Ok(cache) if caches.iter().any(|known| known.settings.name == cache.settings.name) => {
                faults.push(Fault::new("nix_caches", format!("{text:?}: there is a cache of this name already")));
            }
            Ok(cache) => caches.push(cache),
            Err(reason) => faults.push(Fault::new("nix_caches", format!("{text:?}: {reason}"))),
        }
    }
    caches
}

fn check_data(raw: Option<PathBuf>, faults: &mut Vec<Fault>) -> Option<PathBuf> {
    let data = raw.or_else(|| Some(dirs::data_dir()?.join("twofold")));
    if data.is_none() {
        faults.push(Fault::new("data", "this user has no home, so there is no data folder; name one"));
    }
    data
}

fn check_size(raw: Option<ByteSize>, data: Option<&Path>, faults: &mut Vec<Fault>) -> Option<u64> {
    if let Some(size) = raw {
        if size.as_u64() < LEAST_SIZE {
            let least = ByteSize(LEAST_SIZE);
            faults.push(Fault::new(
                "max_size",
                format!("{size} is too small: the index needs its share, give at least {least}"),
            ));
            return None;
        }
        return Some(size.as_u64());
    }
    // The folder may not be there yet.
    let there = std::path::absolute(data?).ok()?.ancestors().find(|folder| folder.exists())?.to_owned();
    match rustix::fs::statvfs(&there) {
        // A share of a size: the fraction lost does not matter.
        Ok(disk) => {
            Some(((disk.f_blocks * disk.f_frsize) as f64 * DEFAULT_DISK_SHARE) as u64).map(|size| size.max(LEAST_SIZE))
        }
        Err(error) => {
            faults.push(Fault::new("data", format!("{}: {error}", there.display())));
            None
        }
    }
}

fn check_upstream(raw: &RawUpstream, listen: &[Endpoint], faults: &mut Vec<Fault>) -> Option<reapi::UpstreamSettings> {
    let mut lines = Vec::new();
    let checked = upstream::check(raw, listen, &mut lines);
    faults.extend(lines.into_iter().map(|line| Fault::new("upstream", line)));
    checked
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(listen: &str) -> RawConfig {
        let data = tempfile::tempdir().expect("a temporary folder").keep();
        RawConfig { listen: vec![listen.to_owned()], data: Some(data), ..RawConfig::default() }
    }

    fn faults(raw: RawConfig) -> Vec<String> {
        Config::check(raw).err().map_or(Vec::new(), |error| error.faults.into_iter().map(|fault| fault.key).collect())
    }

    #[test]
    fn addresses_beyond_loopback_need_authentication_or_leave() {
        for listen in ["0.0.0.0:8980", "[::]:8980", "192.0.2.1:1"] {
            let error = Config::check(raw(listen)).expect_err(listen).to_string();
            assert!(error.contains("--allow-anonymous") && error.contains(listen), "{error}");
            assert!(faults(RawConfig { allow_anonymous: Some(true), ..raw(listen) }).is_empty());
            let auth = RawAuth { anonymous_roles: vec!["read".to_owned()], ..RawAuth::default() };
            assert!(faults(RawConfig { auth, ..raw(listen) }).is_empty());
        }
        for listen in ["127.0.0.1:0", "[::1]:0", "localhost:0", "unix:/tmp/s"] {
            assert!(faults(raw(listen)).is_empty(), "{listen}");
        }
        let auth = RawAuth { anonymous_roles: vec!["read".to_owned()], ..RawAuth::default() };
        assert_eq!(faults(RawConfig { auth, allow_anonymous: Some(true), ..raw("127.0.0.1:0") }), ["allow_anonymous"]);
    }

    #[test]
    fn every_fault_is_reported_by_its_key() {
        let mut raw = raw("nowhere");
        raw.max_size = Some(ByteSize::kib(1));
        raw.tls.cert = Some("cert.pem".into());
        raw.limits.connections = Some(0);
        raw.limits.headers = Some(ByteSize(1));
        raw.log = Some("reapi=loud".to_owned());
        raw.auth.certificates.insert("ci".to_owned(), RawRights { roles: vec!["read".to_owned()], tenant: None });
        let found = faults(raw);
        let expected =
            ["listen", "tls.key", "auth.certificates", "limits.connections", "limits.headers", "max_size", "log"];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_collector_that_is_none_is_refused() {
        for endpoint in ["", "localhost:4317", "https://collector:4317", "http://", "/x"] {
            let raw = RawConfig { otlp_endpoint: Some(endpoint.to_owned()), ..raw("127.0.0.1:0") };
            assert_eq!(faults(raw), ["otlp_endpoint"], "{endpoint}");
        }
        let many = RawConfig { otlp_sample: Some(2.0), ..raw("127.0.0.1:0") };
        assert_eq!(faults(many), ["otlp_sample"]);
    }

    #[test]
    fn the_default_bound_is_the_stated_share_of_the_disk() {
        let config = Config::check(raw("127.0.0.1:0")).expect("a good configuration");
        let disk = rustix::fs::statvfs(&config.data).expect("the folder exists");
        let share = config.max_size_bytes as f64 / (disk.f_blocks * disk.f_frsize) as f64;
        assert!((share - DEFAULT_DISK_SHARE).abs() < 0.001 || config.max_size_bytes == LEAST_SIZE);
    }

    #[test]
    fn what_is_shown_is_a_configuration_that_says_the_same() {
        let mut raw = raw("127.0.0.1:0");
        raw.auth.anonymous_roles = vec!["read@public".to_owned()];
        let config = Config::check(raw).expect("a good configuration");
        let shown = config.show();
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), &shown).expect("written");
        let again = Config::check(RawConfig::read(file.path()).expect("readable")).expect("good");
        assert_eq!(again.show(), shown);
        assert!(shown.contains("read@public") && shown.contains("[limits]"), "{shown}");
    }
}
