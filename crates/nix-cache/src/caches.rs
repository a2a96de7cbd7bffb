use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::Request;
use axum::response::{IntoResponse, Response};
use axum::routing::any;
use cache_types::Hash;
use cache_types::nix::StorePathHash;
use store::{BlobStore, Inspect, LongPromise, RecordKey, RecordStore};
use tokio::sync::{Mutex, Semaphore};

use crate::recent::Recent;
use crate::records::{NarRecord, PathRecord, decode, nar_key, path_key};
use crate::render::{self, Plan, PlanError};
use crate::response::Refusal;
use crate::route::{self, Route};
use crate::served::ServedPath;
use crate::settings::{CacheSettings, Settings, Uploads};
use crate::spool::Room;
use crate::unpack::Bench;
use crate::upstream::Upstreams;

/// Uploads that are unpacked at once; each takes a thread and its decoder's memory.
const UNPACKED_AT_ONCE: usize = 32;
/// A NAR all of whose parts were read and found as they were stored is not read again for this long before it is promised
/// once more.
const SOUND_FOR: Duration = Duration::from_secs(60);
/// Plans that are kept take about this much memory at most: their folders are not read again.
const PLANS_BYTES: usize = 64 * 1024 * 1024;
/// As much is kept of narinfo files as they were served.
const SERVED_BYTES: usize = 32 * 1024 * 1024;
/// Locks for writers of one path.
const PATH_LOCKS: usize = 64;

/// The Nix caches of a server: routes below `/nix/`. Cheap to clone.
#[derive(Clone)]
pub struct NixCaches(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) long: Arc<dyn LongPromise>,
    pub(crate) inspect: Arc<dyn Inspect>,
    pub(crate) caches: BTreeMap<String, CacheSettings>,
    pub(crate) uploads: Uploads,
    room: Arc<Room>,
    folder: Arc<Path>,
    pub(crate) touch_every: Duration,
    pub(crate) plans: Recent<Hash, Plan>,
    pub(crate) served: Recent<RecordKey, ServedPath>,
    pub(crate) unpacking: Semaphore,
    pub(crate) path_locks: [Mutex<()>; PATH_LOCKS],
    pub(crate) pins_lock: Mutex<()>,
    pub(crate) upstreams: Upstreams,
}

impl NixCaches {
    /// The caches over a store.
    pub fn new<S: BlobStore + RecordStore + LongPromise + Inspect + 'static>(
        store: Arc<S>,
        settings: Settings,
    ) -> Self {
        let caches = settings.caches.into_iter().map(|cache| (cache.name.as_str().to_owned(), cache)).collect();
        Self(Arc::new(Inner {
            blobs: store.clone(),
            records: store.clone(),
            long: store.clone(),
            inspect: store,
            caches,
            room: Room::new(),
            folder: settings.uploads.into(),
            uploads: settings.limits,
            touch_every: settings.touch_every,
            plans: Recent::new(PLANS_BYTES),
            served: Recent::new(SERVED_BYTES),
            unpacking: Semaphore::new(UNPACKED_AT_ONCE),
            path_locks: std::array::from_fn(|_| Mutex::default()),
            pins_lock: Mutex::default(),
            upstreams: Upstreams::default(),
        }))
    }

    /// The routes, all of them below `/nix/`.
    pub fn router(&self) -> Router {
        let inner = self.0.clone();
        Router::new().route("/nix/{*path}", any(move |request: Request| async move { inner.serve(request).await }))
    }

    /// Keeps what is pinned from being evicted; runs until it is dropped.
    pub async fn keep_pinned(self) {
        loop {
            tokio::time::sleep(self.0.touch_every).await;
            self.0.touch_pinned().await;
        }
    }
}

impl Inner {
    async fn serve(self: Arc<Self>, request: Request) -> Response {
        let (head, body) = request.into_parts();
        let answer = async {
            let (name, route) = route::parse(head.uri.path())?;
            let cache = self.caches.get(&name).ok_or(Refusal::Missing)?;
            match route {
                Route::CacheInfo => self.cache_info(cache, &head),
                Route::PublicKey => self.public_key(cache, &head),
                Route::NarInfo(path) => self.narinfo(cache, &head, body, path).await,
                Route::Listing(path) => self.listing(cache, &head, body, path).await,
                Route::Nar(nar) => self.nar(cache, &head, body, nar).await,
                Route::Text { kind, name } => self.text(cache, &head, body, (kind, &name)).await,
                Route::Pins => self.pins(cache, &head).await,
                Route::Pin(path) => self.pin(cache, &head, path).await,
            }
        };
        answer.await.unwrap_or_else(IntoResponse::into_response)
    }

    /// Where an upload is set aside that begins now.
    pub(crate) fn bench(&self) -> Bench {
        Bench { room: self.room.clone(), folder: self.folder.clone(), limits: (self.uploads.now)() }
    }

    /// What is known of a path.
    pub(crate) async fn path_record(
        &self,
        cache: &CacheSettings,
        path: StorePathHash,
    ) -> Result<Option<PathRecord>, Refusal> {
        let encoded = self.records.get(&path_key(cache.name.as_str(), path)).await?;
        Ok(encoded.and_then(|encoded| decode(&encoded)))
    }

    /// The plan of a NAR of this cache whose parts are all here, and kept for the lease from now on.
    pub(crate) async fn complete(&self, cache: &CacheSettings, nar: &Hash) -> Result<Option<Arc<Plan>>, Refusal> {
        let Some(encoded) = self.records.get(&nar_key(cache.name.as_str(), nar)).await? else {
            return Ok(None);
        };
        let Some(record) = decode::<NarRecord>(&encoded) else {
            return Ok(None);
        };
        let plan = match self.plans.get(nar) {
            Some(plan) => plan,
            None => match render::load(&*self.blobs, *nar, &record).await {
                Ok(plan) => self.plans.insert_first(*nar, plan),
                Err(PlanError::Gone) => return Ok(None),
                Err(PlanError::Store(error)) => return Err(error.into()),
            },
        };
        let missing = self.blobs.find_missing(&plan.parts).await?;
        Ok(missing.is_empty().then_some(plan))
    }

    /// As [`Inner::complete`], and every stored byte of it was read and checked lately: what is damaged on disk is a miss
    /// before anything is promised. That its parts give the NAR was seen when it was stored, and each part is named by its
    /// hash; so what is left to ask is whether the parts are still as they were stored.
    pub(crate) async fn sound(&self, cache: &CacheSettings, nar: &Hash) -> Result<Option<Arc<Plan>>, Refusal> {
        let Some(plan) = self.complete(cache, nar).await? else {
            return Ok(None);
        };
        let mut verified = plan.verified.lock().await;
        if verified.is_none_or(|at| at.elapsed() >= SOUND_FOR) {
            *verified = None;
            if let Some(part) = self.inspect.damaged(&plan.parts).await?.first() {
                tracing::warn!(%nar, %part, "a NAR is damaged and is a miss");
                self.plans.remove(nar);
                return Ok(None);
            }
            *verified = Some(Instant::now());
        }
        drop(verified);
        Ok(Some(plan))
    }

    /// The lock that writers of this path take in turn.
    pub(crate) fn path_lock(&self, path: StorePathHash) -> &Mutex<()> {
        let at = usize::from(path.as_bytes()[0]) % PATH_LOCKS;
        &self.path_locks[at]
    }
}
