use std::path::{Path, PathBuf};
use std::time::Duration;

use bytesize::ByteSize;

use crate::{Endpoint, EndpointError, NixCache, TransportLimits};

/// The share of the file system that holds the data folder which the store may fill when no size is given.
pub const DEFAULT_DISK_SHARE: f64 = 0.2;

/// How long what was promised is kept when no time is given. Spec: R-045.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(3 * 60 * 60);

/// The least a store works with: below it the index alone would fill it.
const LEAST_SIZE: u64 = 64 * 1024 * 1024;

/// What an acknowledged write survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// A power cut: each group of writes is synced to the disk.
    PowerLoss,
    /// The end of the process, however sudden; a power cut may lose the last seconds.
    Process,
}

/// Settings as a person gives them; `None` where nothing was said.
#[derive(Clone, Debug, Default)]
pub struct RawConfig {
    /// Addresses, `HOST:PORT` or `unix:PATH`.
    pub listen: Vec<String>,
    /// The data folder.
    pub data: Option<PathBuf>,
    /// The store's bound.
    pub max_size: Option<ByteSize>,
    /// How long promises are kept.
    pub lease: Option<Duration>,
    /// What an acknowledged write survives.
    pub durability: Option<Durability>,
    /// How long a drain waits for calls in flight.
    pub drain: Option<Duration>,
    /// How long nobody is connected before the server ends by itself; never when nothing is said.
    pub idle_exit: Option<Duration>,
    /// Nix caches, as [`NixCache::parse`] reads them.
    pub nix_caches: Vec<String>,
}

/// Settings that were checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where to listen; at least one.
    pub listen: Vec<Endpoint>,
    /// The data folder; it exists.
    pub data: PathBuf,
    /// The store's bound in bytes.
    pub max_size_bytes: u64,
    /// How long promises are kept.
    pub lease: Duration,
    /// What an acknowledged write survives.
    pub durability: Durability,
    /// How long a drain waits for calls in flight.
    pub drain: Duration,
    /// How long nobody is connected before the server ends by itself.
    pub idle_exit: Option<Duration>,
    /// What the transport lets its peers use.
    pub transport: TransportLimits,
    /// The Nix caches; at least one, each name once.
    pub nix_caches: Vec<NixCache>,
}

impl Config {
    /// Checks the settings, fills in the defaults, and makes the data folder.
    ///
    /// # Errors
    /// [`ConfigError`] holds every fault that was found.
    pub fn check(raw: RawConfig) -> Result<Self, ConfigError> {
        let mut faults = Vec::new();
        let listen = check_listen(&raw.listen, &mut faults);
        let data = check_data(raw.data, &mut faults);
        let max_size_bytes = check_size(raw.max_size, data.as_deref(), &mut faults);
        let nix_caches = check_nix_caches(&raw.nix_caches, &mut faults);
        match (data, max_size_bytes, faults.is_empty()) {
            (Some(data), Some(max_size_bytes), true) => Ok(Self {
                listen,
                data,
                max_size_bytes,
                lease: raw.lease.unwrap_or(DEFAULT_LEASE),
                durability: raw.durability.unwrap_or(Durability::PowerLoss),
                drain: raw.drain.unwrap_or(Duration::from_secs(30)),
                idle_exit: raw.idle_exit,
                transport: TransportLimits::default(),
                nix_caches,
            }),
            _ => Err(ConfigError { faults }),
        }
    }
}

fn check_listen(raw: &[String], faults: &mut Vec<Fault>) -> Vec<Endpoint> {
    if raw.is_empty() {
        return vec![Endpoint::default()];
    }
    let mut endpoints = Vec::new();
    for text in raw {
        match text.parse::<Endpoint>().and_then(Endpoint::only_loopback) {
            Ok(endpoint) => endpoints.push(endpoint),
            Err(source) => faults.push(Fault::Listen { text: text.clone(), source }),
        }
    }
    endpoints
}

fn check_nix_caches(raw: &[String], faults: &mut Vec<Fault>) -> Vec<NixCache> {
    if raw.is_empty() {
        return vec![NixCache::default()];
    }
    let mut caches: Vec<NixCache> = Vec::new();
    for text in raw {
        match NixCache::parse(text) {
            Ok(cache) if caches.iter().any(|known| known.settings.name == cache.settings.name) => {
                let reason = "there is a cache of this name already".to_owned();
                faults.push(Fault::NixCache { text: text.clone(), reason });
            }
            Ok(cache) => caches.push(cache),
            Err(reason) => faults.push(Fault::NixCache { text: text.clone(), reason }),
        }
    }
    caches
}

fn check_data(raw: Option<PathBuf>, faults: &mut Vec<Fault>) -> Option<PathBuf> {
    let Some(data) = raw.or_else(|| Some(dirs::data_dir()?.join("twofold"))) else {
        faults.push(Fault::NoDataDir);
        return None;
    };
    if let Err(source) = std::fs::create_dir_all(&data) {
        faults.push(Fault::DataDir { data, source });
        return None;
    }
    Some(data)
}

fn check_size(raw: Option<ByteSize>, data: Option<&Path>, faults: &mut Vec<Fault>) -> Option<u64> {
    if let Some(size) = raw {
        if size.as_u64() < LEAST_SIZE {
            faults.push(Fault::TooSmall { given: size });
            return None;
        }
        return Some(size.as_u64());
    }
    let data = data?;
    match rustix::fs::statvfs(data) {
        // A share of a size: the fraction lost does not matter.
        Ok(disk) => {
            Some(((disk.f_blocks * disk.f_frsize) as f64 * DEFAULT_DISK_SHARE) as u64).map(|size| size.max(LEAST_SIZE))
        }
        Err(source) => {
            faults.push(Fault::DataDir { data: data.to_owned(), source: source.into() });
            None
        }
    }
}

/// Every fault of a configuration.
#[derive(Debug)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

impl std::fmt::Display for ConfigError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            let separator = if n == 0 { "" } else { "\n" };
            write!(f, "{separator}{fault}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("--listen {text}: {source}")]
    Listen { text: String, source: EndpointError },
    #[error("--nix-cache {text}: {reason}")]
    NixCache { text: String, reason: String },
    #[error("no data folder: this user has no home; give one with --data")]
    NoDataDir,
    #[error("data folder {}: {source}; choose another with --data", data.display())]
    DataDir { data: PathBuf, source: std::io::Error },
    #[error("--max-size {given} is too small: the index needs its share, give at least {}", ByteSize(LEAST_SIZE))]
    TooSmall { given: ByteSize },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(listen: &str) -> RawConfig {
        let data = tempfile::tempdir().expect("a temporary folder").keep();
        RawConfig { listen: vec![listen.to_owned()], data: Some(data), ..RawConfig::default() }
    }

    #[test]
    fn addresses_beyond_loopback_are_refused() {
        for listen in ["0.0.0.0:8980", "[::]:8980", "192.0.2.1:1"] {
            let error = Config::check(raw(listen)).expect_err(listen).to_string();
            assert!(error.contains("loopback"), "{error}");
        }
        assert!(Config::check(raw("127.0.0.1:0")).is_ok());
        assert!(Config::check(raw("[::1]:0")).is_ok());
        assert!(Config::check(raw("localhost:0")).is_ok());
    }

    #[test]
    fn every_fault_is_reported() {
        let mut raw = raw("nowhere");
        raw.max_size = Some(ByteSize::kib(1));
        let error = Config::check(raw).expect_err("two faults").to_string();
        assert!(error.contains("--listen nowhere") && error.contains("--max-size"), "{error}");
    }

    #[test]
    fn the_default_bound_is_the_stated_share_of_the_disk() {
        let config = Config::check(raw("127.0.0.1:0")).expect("a good configuration");
        let disk = rustix::fs::statvfs(&config.data).expect("the folder exists");
        let share = config.max_size_bytes as f64 / (disk.f_blocks * disk.f_frsize) as f64;
        assert!((share - DEFAULT_DISK_SHARE).abs() < 0.001 || config.max_size_bytes == LEAST_SIZE);
    }
}
