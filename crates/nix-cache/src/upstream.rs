//! Other caches that are asked for what is not here.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use cache_types::Hash;
use cache_types::nix::{MAX_NAR_INFO_BYTES, NarInfo, SelfReference, StoreDir, StorePath, StorePathHash};
use parking_lot::Mutex;
use store::StoreError;

use crate::caches::Inner;
use crate::compression::Compression;
use crate::records::{Origin, PathRecord, decode, encode, path_key};
use crate::response::Refusal;
use crate::settings::{CacheSettings, Upstream};
use crate::unpack::{self, Bench, UnpackError, UnpackedNar};

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the headers of an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(20);
/// How long a NAR may take.
const NAR_TIMEOUT: Duration = Duration::from_secs(60 * 60);
/// A cache that cannot be reached is not asked again for so long.
const SET_ASIDE: Duration = Duration::from_secs(30);

/// The client, and what is under way.
pub(crate) struct Upstreams {
    agent: ureq::Agent,
    /// Caches that cannot be reached, and since when.
    away: Mutex<HashMap<String, Instant>>,
    /// One fetch of a NAR at a time.
    fetching: Mutex<HashMap<Vec<u8>, Weak<tokio::sync::Mutex<()>>>>,
}

impl Default for Upstreams {
    fn default() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_recv_response(Some(ANSWER_TIMEOUT))
            .timeout_recv_body(Some(NAR_TIMEOUT))
            .http_status_as_error(false)
            .user_agent(concat!("twofold/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.into(), away: Mutex::default(), fetching: Mutex::default() }
    }
}

/// Why another cache did not give what it said it has.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("cannot be asked")]
    Http(#[from] ureq::Error),
    #[error("answers {0}")]
    Status(u16),
    #[error("{0}")]
    Invalid(String),
    #[error(transparent)]
    Unpack(#[from] UnpackError),
}

impl Upstreams {
    fn set_aside(&self, url: &str) {
        self.away.lock().insert(url.to_owned(), Instant::now());
    }

    /// Whether the NAR at this URL may be had: it is that of a cache that is still asked, and can be reached.
    pub(crate) fn may_have(&self, cache: &CacheSettings, nar_url: &str) -> bool {
        owner(cache, nar_url).is_some_and(|upstream| !self.is_away(&upstream.url))
    }

    fn is_away(&self, url: &str) -> bool {
        self.away.lock().get(url).is_some_and(|since| since.elapsed() < SET_ASIDE)
    }

    fn turn(&self, key: Vec<u8>) -> Arc<tokio::sync::Mutex<()>> {
        let mut fetching = self.fetching.lock();
        fetching.retain(|_, turn| turn.strong_count() > 0);
        if let Some(turn) = fetching.get(&key).and_then(Weak::upgrade) {
            return turn;
        }
        let turn = Arc::new(tokio::sync::Mutex::new(()));
        fetching.insert(key, Arc::downgrade(&turn));
        turn
    }
}

impl Inner {
    /// Asks the other caches for a path, in their order. What one has, and has signed, is kept; that none has it is not.
    pub(crate) async fn ask_upstreams(
        self: &Arc<Self>,
        cache: &CacheSettings,
        path: StorePathHash,
    ) -> Result<Option<PathRecord>, Refusal> {
        for upstream in &cache.upstreams {
            if self.upstreams.is_away(&upstream.url) {
                continue;
            }
            let (agent, dir, asked) = (self.upstreams.agent.clone(), cache.store_dir.clone(), upstream.clone());
            let answer = blocking(move || narinfo(&agent, &asked, &dir, path)).await?;
            match answer {
                Ok(None) => {}
                Ok(Some((info, nar))) => {
                    let record = PathRecord { narinfo: info.print(&cache.store_dir), origin: Origin::Upstream { nar } };
                    let index = nar_source_key(cache, &info.nar_hash);
                    self.records.put(index, encode(&path.to_string(), "")).await?;
                    self.records.put(path_key(cache.name.as_str(), path), encode(&record, "")).await?;
                    return Ok(Some(record));
                }
                Err(error) => {
                    if matches!(error, FetchError::Http(_)) {
                        self.upstreams.set_aside(&upstream.url);
                    }
                    let cause = std::error::Error::source(&error).map(ToString::to_string);
                    tracing::warn!(upstream = upstream.url, %path, %error, cause, "another cache was passed over");
                }
            }
        }
        Ok(None)
    }

    /// Fetches a NAR whose narinfo came from another cache; whether it is here then. One fetch serves all who wait.
    pub(crate) async fn fetch_nar(self: &Arc<Self>, cache: &CacheSettings, nar: &Hash) -> Result<bool, Refusal> {
        if cache.upstreams.is_empty() {
            return Ok(false);
        }
        let index = nar_source_key(cache, nar);
        let Some(path) = self.records.get(&index).await?.and_then(|encoded| decode::<String>(&encoded)) else {
            return Ok(false);
        };
        let Some(record) = self.path_record(cache, StorePathHash::parse(&path).map_err(|_| Refusal::Missing)?).await?
        else {
            return Ok(false);
        };
        let (Origin::Upstream { nar: url }, Some(info)) = (&record.origin, record.info(&cache.store_dir)) else {
            return Ok(false);
        };
        let turn = self.upstreams.turn(index.key.to_vec());
        let _turn = turn.lock().await;
        if self.complete(cache, nar).await?.is_some() {
            return Ok(true);
        }
        let (agent, bench, from) = (self.upstreams.agent.clone(), self.bench(), url.clone());
        match blocking(move || fetch(&agent, &from, &info, &bench)).await? {
            Ok(unpacked) => {
                self.keep_nar(cache, &unpacked, "").await?;
                Ok(true)
            }
            Err(FetchError::Unpack(UnpackError::Store(error))) => Err(error.into()),
            Err(error) => {
                if let (FetchError::Http(_), Some(upstream)) = (&error, owner(cache, url)) {
                    self.upstreams.set_aside(&upstream.url);
                }
                let cause = std::error::Error::source(&error).map(ToString::to_string);
                tracing::warn!(url, %error, cause, "a NAR of another cache is a miss");
                Ok(false)
            }
        }
    }
}

/// The cache that said where a NAR is: that of the URL, or, where the URL leads elsewhere, the first.
fn owner<'a>(cache: &'a CacheSettings, nar_url: &str) -> Option<&'a Upstream> {
    let within = |upstream: &&Upstream| nar_url.strip_prefix(&upstream.url).is_some_and(|rest| rest.starts_with('/'));
    cache.upstreams.iter().find(within).or(cache.upstreams.first())
}

/// The path whose narinfo says where a NAR is.
fn nar_source_key(cache: &CacheSettings, nar: &Hash) -> store::RecordKey {
    crate::records::text_key(cache.name.as_str(), &format!("upstream/{nar}"))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, StoreError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| StoreError::Internal { level: "another cache", source: error.into() })
}

/// A narinfo that one of the keys has signed, and the full URL of its NAR. Blocks.
fn narinfo(
    agent: &ureq::Agent,
    upstream: &Upstream,
    dir: &StoreDir,
    path: StorePathHash,
) -> Result<Option<(NarInfo, String)>, FetchError> {
    let mut answer = agent.get(format!("{}/{path}.narinfo", upstream.url)).call()?;
    match answer.status().as_u16() {
        200 => {}
        // As clients do. Spec: N-02.
        403 | 404 | 410 => return Ok(None),
        status => return Err(FetchError::Status(status)),
    }
    let text = answer.body_mut().with_config().limit(MAX_NAR_INFO_BYTES as u64).read_to_string()?;
    let info = NarInfo::parse(&text, dir).map_err(|error| FetchError::Invalid(error.to_string()))?;
    if info.path.hash() != path {
        return Err(FetchError::Invalid("its narinfo is of another path".to_owned()));
    }
    if !is_trusted(&info, upstream, dir) {
        return Err(FetchError::Invalid("its narinfo has no signature by a key that is trusted".to_owned()));
    }
    let is_full = info.file.url.starts_with("http://") || info.file.url.starts_with("https://");
    let nar = if is_full { info.file.url.clone() } else { format!("{}/{}", upstream.url, info.file.url) };
    Ok(Some((info, nar)))
}

/// Whether a key has signed it, or the path follows from the content. Spec: N-28, N-41.
fn is_trusted(info: &NarInfo, upstream: &Upstream, dir: &StoreDir) -> bool {
    let fingerprint = info.fingerprint(dir);
    let signed = |key: &cache_types::nix::PublicKey| info.signatures.iter().any(|sig| key.verifies(&fingerprint, sig));
    if upstream.keys.iter().any(signed) {
        return true;
    }
    let own = if info.refers_to_itself() { SelfReference::Yes } else { SelfReference::No };
    let others: Vec<StorePath> = info.other_references().cloned().collect();
    let address = info.content_address.as_ref();
    address.is_some_and(|address| address.path(dir, info.path.name(), &others, own).is_ok_and(|path| path == info.path))
}

/// A NAR that is what its narinfo says. Blocks.
fn fetch(agent: &ureq::Agent, url: &str, info: &NarInfo, bench: &Bench) -> Result<UnpackedNar, FetchError> {
    let compression = Compression::from_name(&info.file.compression)
        .ok_or_else(|| FetchError::Invalid(format!("packed with {}, which is not read", info.file.compression)))?;
    let answer = agent.get(url).call()?;
    if answer.status().as_u16() != 200 {
        return Err(FetchError::Status(answer.status().as_u16()));
    }
    let unpacked = unpack::unpack_nar(answer.into_body().into_reader(), compression, bench)?;
    if *unpacked.nar.hash() != info.nar_hash || unpacked.nar.size_bytes() != info.nar_size {
        return Err(FetchError::Invalid("the NAR is not the one that its narinfo names".to_owned()));
    }
    Ok(unpacked)
}
