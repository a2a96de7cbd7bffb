use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use cache_types::nix::{PublicKey, SecretKey, StoreDir};
use futures::future::BoxFuture;
use store::StoreError;

/// The name of the cache that is there without configuration.
pub const DEFAULT_CACHE: &str = "default";
/// The priority of a cache near by; the public one has 40, and lower is asked first. Spec: nix-binary-cache §2.
pub const DEFAULT_PRIORITY: u32 = 30;

/// What all caches of a server share, and the caches.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The caches, each name once.
    pub caches: Vec<CacheSettings>,
    /// The folder for uploads, in files without names.
    pub uploads: PathBuf,
    /// What uploads may use.
    pub limits: Uploads,
    /// How often what is pinned is touched; less than the lease of the store.
    pub touch_every: Duration,
}

/// What uploads may use; asked for anew by each, so that it can be replaced while clients are served.
#[derive(Clone)]
pub struct Uploads {
    /// What one upload may use, as of now.
    pub now: Arc<dyn Fn() -> UploadLimits + Send + Sync>,
    /// Waits for a place among the uploads of all layers of the server; an error is what the client is told.
    pub place: Arc<dyn Fn() -> BoxFuture<'static, Result<Place, StoreError>> + Send + Sync>,
}

/// A place among uploads, given back when it is dropped.
pub type Place = Box<dyn Send + Sync>;

impl fmt::Debug for Uploads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Uploads").field("now", &(self.now)()).finish_non_exhaustive()
    }
}

/// What an upload may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UploadLimits {
    /// The most bytes in files at any time, and of one NAR.
    pub max_bytes: u64,
    /// How long a client may stand still while it sends.
    pub no_progress: Duration,
    /// The binary logarithm of the largest window of zstd.
    pub zstd_window_log: u32,
    /// The most bytes that may come out of a packed file for each that goes in, once 256 MiB came out; 0 is no limit.
    pub ratio: u64,
}

/// One cache, at `/nix/NAME/`.
#[derive(Clone, Debug)]
pub struct CacheSettings {
    /// Its name in URLs.
    pub name: CacheName,
    /// Who may read it.
    pub audience: Audience,
    /// What clients are told; lower is asked first.
    pub priority: u32,
    /// The store folder of its paths.
    pub store_dir: StoreDir,
    /// When the key signs.
    pub sign: Sign,
    /// The key of this cache alone.
    pub key: Option<SecretKey>,
    /// How NARs travel.
    pub transfer: Transfer,
    /// What has to be here for a narinfo to be served.
    pub completeness: Completeness,
    /// Caches that are asked for what is not here, in this order.
    pub upstreams: Vec<Upstream>,
}

impl CacheSettings {
    /// A cache with the defaults, and no key.
    pub fn new(name: CacheName) -> Self {
        Self {
            name,
            audience: Audience::Readers,
            priority: DEFAULT_PRIORITY,
            store_dir: StoreDir::default(),
            sign: Sign::Always,
            key: None,
            transfer: Transfer::Zstd,
            completeness: Completeness::Nar,
            upstreams: Vec::new(),
        }
    }
}

/// The name of a cache: 1 to 64 of `a-z 0-9 . _ -`, a letter or digit first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CacheName(String);

impl CacheName {
    /// Reads a name; `None` when it is none.
    pub fn parse(text: &str) -> Option<Self> {
        let known = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let starts = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        (starts && text.len() <= 64 && text.bytes().all(known)).then(|| Self(text.to_owned()))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for CacheName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Who may read a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Audience {
    /// Those who may read at `nix/NAME`.
    Readers,
    /// Everyone.
    Public,
}

/// When a cache signs what is pushed. What comes from other caches is never signed. Spec: nix-binary-cache §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// Never.
    Never,
    /// Always.
    Always,
    /// Where the pusher has not signed.
    OnlyIfUnsigned,
}

/// How the narinfo files of a cache tell clients to fetch NARs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// Packed with zstd: fewer bytes; a broken download starts over.
    Zstd,
    /// Plain: a broken download goes on where it broke.
    Plain,
}

/// What has to be here for a narinfo to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Its NAR.
    Nar,
    /// Its NAR and those of all paths that it refers to, however far.
    Closure,
}

/// Another cache.
#[derive(Clone, Debug)]
pub struct Upstream {
    /// `http://` or `https://`, without a slash at its end.
    pub url: String,
    /// The keys of which one must have signed what it gives.
    pub keys: Vec<PublicKey>,
}
