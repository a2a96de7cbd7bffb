use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use reapi::LiveLimits;
use tokio::signal::unix::Signal;
use tokio::time::{MissedTickBehavior, interval};

use crate::identity::{Identify, Identity};
use crate::logs::Log;
use crate::tls::{Tls, TlsSettings};
use crate::transport::Transport;
use crate::{Config, ConfigError};

/// How often it is looked whether a file has changed.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// How the settings are read again.
pub struct Reload {
    /// Reads the file and lays the flags over it, as at the start.
    pub read: Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>,
    /// The log, which the settings have a say in.
    pub log: Log,
}

/// What can be replaced while clients are connected.
pub(crate) struct Reloader {
    pub(crate) config: Config,
    pub(crate) source: Reload,
    pub(crate) identify: Identify,
    pub(crate) tls: Option<Tls>,
    pub(crate) transport: Arc<Transport>,
    pub(crate) limits: LiveLimits,
}

impl Reloader {
    /// Reads everything again at each SIGHUP, and the files of credentials and certificates when they change. Never ends.
    pub(crate) async fn run(mut self, mut hangup: Signal) {
        let mut seen = stamps(&self.config);
        let mut look = interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = hangup.recv() => {
                    let (before, named) = (stamps(&self.config), watched(&self.config));
                    self.all();
                    seen = if watched(&self.config) == named { before } else { stamps(&self.config) };
                }
                _ = look.tick() => {
                    let now = stamps(&self.config);
                    if now == seen {
                        continue;
                    }
                    self.files();
                    // A file that changed while it was read is read again.
                    seen = now;
                }
            }
        }
    }

    fn all(&mut self) {
        match (self.source.read)() {
            Ok(config) => {
                if self.apply(&config) {
                    self.say_what_stays(&config);
                    self.config = config;
                    tracing::info!("SIGHUP: the settings were read again");
                }
            }
            Err(error) => tracing::error!(%error, "SIGHUP: the new settings are faulty; the old ones stay"),
        }
    }

    fn files(&mut self) {
        let config = self.config.clone();
        if self.apply(&config) {
            tracing::info!("files of credentials or certificates have changed and were read again");
        }
    }

    /// Takes over what can be; nothing when anything is faulty.
    fn apply(&self, config: &Config) -> bool {
        match self.try_apply(config) {
            Ok(()) => true,
            Err(error) => {
                tracing::error!(error = format!("{error:#}"), "what was read again is faulty; the old settings stay");
                false
            }
        }
    }

    fn try_apply(&self, config: &Config) -> anyhow::Result<()> {
        let certificates = config.tls.as_ref().map(TlsSettings::load).transpose()?;
        let files = config.auth.read().map_err(|faults| {
            let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
            anyhow::Error::msg(lines.join("\n"))
        })?;
        let identity = Identity::new(&config.auth, files, Some(&self.identify.now()))?;
        self.source.log.set(&config.log)?;
        if let (Some(tls), Some(certificates)) = (&self.tls, certificates) {
            tls.replace(certificates);
        }
        self.identify.replace(identity);
        self.transport.set_limits(config.transport.clone());
        self.limits.replace(config.limits.clone());
        Ok(())
    }

    /// Names the settings that only a start takes over.
    fn say_what_stays(&self, new: &Config) {
        let old = &self.config;
        let changes = [
            ("listen", old.listen != new.listen),
            ("data", old.data != new.data),
            ("max_size", old.max_size_bytes != new.max_size_bytes),
            ("lease", old.lease != new.lease),
            ("durability", old.durability != new.durability),
            ("nix_caches", old.nix_cache_texts != new.nix_cache_texts),
            ("tls", old.tls.is_some() != new.tls.is_some()),
            ("limits.connections", old.transport.max_connections != new.transport.max_connections),
            ("instances", old.instances != new.instances),
            ("default_digest_function", old.default_digest_function != new.default_digest_function),
        ];
        for (key, _) in changes.iter().filter(|(_, is_changed)| *is_changed) {
            tracing::warn!(key, "has changed; it takes effect at the next start");
        }
    }
}

/// What tells that a file is another one than before.
type Stamp = (PathBuf, Option<(SystemTime, u64, u64)>);

fn watched(config: &Config) -> Vec<PathBuf> {
    let certificates = config.tls.as_ref().map_or(Vec::new(), TlsSettings::files);
    config.auth.files().into_iter().chain(certificates).collect()
}

fn stamps(config: &Config) -> Vec<Stamp> {
    watched(config).into_iter().map(|path| (path.clone(), stamp(&path))).collect()
}

fn stamp(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = std::fs::metadata(path).ok()?;
    Some((file.modified().ok()?, file.len(), file.ino()))
}
