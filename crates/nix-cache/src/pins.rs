use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use axum::response::{IntoResponse, Response};
use cache_types::nix::StorePathHash;
use http::request::Parts;
use http::{Method, StatusCode, header};
use serde::{Deserialize, Serialize};

use crate::access;
use crate::caches::Inner;
use crate::push::now_seconds;
use crate::read::only_reading;
use crate::records::{decode, encode, pins_key};
use crate::response::Refusal;
use crate::settings::CacheSettings;

/// The most pins of one cache: they are in one record.
const MAX_PINS: usize = 10_000;
/// The most paths that are touched for the pins of one cache.
const MAX_TOUCHED: usize = 1_000_000;

/// The pins of a cache: path → pin.
#[derive(Default, Serialize, Deserialize)]
struct Pins(BTreeMap<String, Pin>);

#[derive(Serialize, Deserialize)]
struct Pin {
    /// The full path.
    path: String,
    /// Who pinned it.
    by: String,
    /// When, in seconds since 1970.
    at: u64,
}

/// Paths that are kept, with all that they refer to, until they are unpinned.
impl Inner {
    pub(crate) async fn pins(&self, cache: &CacheSettings, head: &Parts) -> Result<Response, Refusal> {
        only_reading(head)?;
        access::reading(head, cache)?;
        let pins = self.read_pins(cache).await?;
        let list: Vec<&Pin> = pins.0.values().collect();
        let headers = [(header::CONTENT_TYPE, "application/json"), (header::CACHE_CONTROL, "no-store")];
        Ok((headers, format!("{}\n", serde_json::json!({ "pins": list }))).into_response())
    }

    pub(crate) async fn pin(
        self: &Arc<Self>,
        cache: &CacheSettings,
        head: &Parts,
        path: StorePathHash,
    ) -> Result<Response, Refusal> {
        let by = match head.method {
            Method::PUT | Method::DELETE => access::pushing(head, cache)?,
            _ => return Err(Refusal::Method("PUT, DELETE")),
        };
        // One lock for the pins of all caches: they are few.
        let _turn = self.pins_lock.lock().await;
        let mut pins = self.read_pins(cache).await?;
        if head.method == Method::DELETE {
            pins.0.remove(&path.to_string());
        } else {
            let record = self.path_record(cache, path).await?.ok_or(Refusal::Missing)?;
            let info = record.info(&cache.store_dir).ok_or(Refusal::Missing)?;
            if pins.0.len() >= MAX_PINS {
                return Err(Refusal::Conflict(format!("{MAX_PINS} paths are pinned already: unpin some")));
            }
            let pin = Pin { path: cache.store_dir.join(&info.path), by: by.clone(), at: now_seconds() };
            pins.0.insert(path.to_string(), pin);
            self.touch(cache, vec![path], &mut HashSet::new()).await?;
        }
        self.records.put(pins_key(cache.name.as_str()), encode(&pins, &by)).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }

    async fn read_pins(&self, cache: &CacheSettings) -> Result<Pins, Refusal> {
        let encoded = self.records.get(&pins_key(cache.name.as_str())).await?;
        Ok(encoded.and_then(|encoded| decode(&encoded)).unwrap_or_default())
    }

    /// Extends the lives of all that is pinned.
    pub(crate) async fn touch_pinned(&self) {
        for cache in self.caches.values() {
            let touched = async {
                let pins = self.read_pins(cache).await?;
                let paths = pins.0.keys().filter_map(|path| StorePathHash::parse(path).ok());
                self.touch(cache, paths.collect(), &mut HashSet::new()).await
            };
            if let Err(refusal) = touched.await {
                tracing::warn!(cache = %cache.name, ?refusal, "what is pinned could not be touched");
            }
        }
    }

    /// Extends the lives of these paths and of all that they refer to.
    async fn touch(
        &self,
        cache: &CacheSettings,
        mut wanted: Vec<StorePathHash>,
        seen: &mut HashSet<StorePathHash>,
    ) -> Result<(), Refusal> {
        while let Some(path) = wanted.pop() {
            if seen.len() >= MAX_TOUCHED || !seen.insert(path) {
                continue;
            }
            let Some(record) = self.path_record(cache, path).await? else { continue };
            let Some(info) = record.info(&cache.store_dir) else { continue };
            self.complete(cache, &info.nar_hash).await?;
            wanted.extend(info.other_references().map(|path| path.hash()));
        }
        Ok(())
    }
}
