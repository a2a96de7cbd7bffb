use std::collections::HashSet;
use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cache_types::Hash;
use cache_types::nix::{StorePathHash, base32_encode};
use futures::{StreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::{BlobBody, StoreError};

use crate::access::{self, Intent};
use crate::caches::Inner;
use crate::compression::Compression;
use crate::range;
use crate::records::{NarRecord, Origin, UploadRecord, decode, encode, nar_key, path_key, upload_key};
use crate::render::{self, Plan};
use crate::response::{Refusal, streamed};
use crate::route::NarName;
use crate::served::ServedPath;
use crate::settings::{Audience, CacheSettings, Completeness};

/// A year: a NAR is named by its hash.
const NAR_MAX_AGE: u32 = 365 * 24 * 60 * 60;
/// An hour: signatures may be added. Spec: N-47.
const NARINFO_MAX_AGE: u32 = 60 * 60;
/// Paths of a closure that are looked at before it is given up.
const MAX_CLOSURE: usize = 100_000;

impl Inner {
    pub(crate) fn cache_info(&self, cache: &CacheSettings, head: &Parts) -> Result<Response, Refusal> {
        if access::intent(head, cache)? != Intent::Read {
            // Old clients write it where they did not find it. Spec: nix-binary-cache §2.
            return Ok(StatusCode::OK.into_response());
        }
        let text = format!("StoreDir: {}\nWantMassQuery: 1\nPriority: {}\n", cache.store_dir, cache.priority);
        Ok(([(header::CONTENT_TYPE, "text/x-nix-cache-info")], text).into_response())
    }

    pub(crate) fn public_key(&self, cache: &CacheSettings, head: &Parts) -> Result<Response, Refusal> {
        only_reading(head)?;
        access::reading(head, cache)?;
        let key = cache.key.as_ref().ok_or(Refusal::Missing)?;
        Ok(([(header::CONTENT_TYPE, "text/plain")], format!("{}\n", key.public())).into_response())
    }

    pub(crate) async fn narinfo(
        self: &Arc<Self>,
        cache: &CacheSettings,
        head: &Parts,
        body: Body,
        path: StorePathHash,
    ) -> Result<Response, Refusal> {
        if let Intent::Push(writer) = access::intent(head, cache)? {
            return self.put_narinfo(cache, head, body, (path, writer)).await;
        }
        let narinfo = self.find_narinfo(cache, path).await?.ok_or(Refusal::Missing)?;
        Ok((described(cache, "text/x-nix-narinfo", NARINFO_MAX_AGE), narinfo).into_response())
    }

    /// The narinfo as it is served: its NAR is here, or can be fetched from the cache that it came from. Clients remember for
    /// weeks that it is here. Spec: N-45.
    async fn find_narinfo(
        self: &Arc<Self>,
        cache: &CacheSettings,
        path: StorePathHash,
    ) -> Result<Option<Bytes>, Refusal> {
        if let Some(served) = self.served_path(cache, path).await?
            && let plan = self.sound(cache, &served.nar).await?
            && (plan.is_some() || self.may_fetch(cache, &served.origin))
        {
            if cache.completeness == Completeness::Closure && !self.has_closure(cache, path, &served).await? {
                return Ok(None);
            }
            if let Some(plan) = plan.filter(|_| served.is_due()) {
                let records = [path_key(cache.name.as_str(), path), nar_key(cache.name.as_str(), &served.nar)];
                self.long.promise_long(&records, &plan.parts).await?;
            }
            return Ok(Some(served.text.clone()));
        }
        let Some(record) = self.ask_upstreams(cache, path).await? else {
            return Ok(None);
        };
        Ok(ServedPath::make(cache, encode(&record, "")).map(|served| served.text))
    }

    /// The narinfo of a path, signed anew only where its record is another one than it was.
    async fn served_path(
        &self,
        cache: &CacheSettings,
        path: StorePathHash,
    ) -> Result<Option<Arc<ServedPath>>, Refusal> {
        let key = path_key(cache.name.as_str(), path);
        let Some(record) = self.records.get(&key).await? else {
            return Ok(None);
        };
        match self.served.get(&key).filter(|served| served.record == record) {
            Some(served) => Ok(Some(served)),
            None => Ok(ServedPath::make(cache, record).map(|served| self.served.insert(key, served))),
        }
    }

    /// Whether the NAR can be had from the cache that the path came from.
    fn may_fetch(&self, cache: &CacheSettings, origin: &Origin) -> bool {
        match origin {
            Origin::Pushed => false,
            Origin::Upstream { nar } => self.upstreams.may_have(cache, nar),
        }
    }

    /// Whether all that the path refers to, however far, is here or in a cache that is asked for what is not.
    async fn has_closure(
        self: &Arc<Self>,
        cache: &CacheSettings,
        root: StorePathHash,
        served: &ServedPath,
    ) -> Result<bool, Refusal> {
        let mut seen = HashSet::from([root]);
        let mut wanted = served.references.clone();
        while let Some(path) = wanted.pop() {
            if !seen.insert(path) {
                continue;
            }
            let below = self.served_path(cache, path).await?;
            let Some(below) = below.filter(|_| seen.len() < MAX_CLOSURE) else {
                return Ok(false);
            };
            if below.origin == Origin::Pushed && self.complete(cache, &below.nar).await?.is_none() {
                return Ok(false);
            }
            wanted.extend_from_slice(&below.references);
        }
        Ok(true)
    }

    pub(crate) async fn listing(
        &self,
        cache: &CacheSettings,
        head: &Parts,
        body: Body,
        path: StorePathHash,
    ) -> Result<Response, Refusal> {
        if access::intent(head, cache)? != Intent::Read {
            // It comes before the path that it is of, and is made from the NAR itself when asked for.
            self.discard(body).await?;
            return Ok(StatusCode::OK.into_response());
        }
        let record = self.path_record(cache, path).await?.ok_or(Refusal::Missing)?;
        let info = record.info(&cache.store_dir).ok_or(Refusal::Missing)?;
        let nar = self.records.get(&nar_key(cache.name.as_str(), &info.nar_hash)).await?;
        let nar: NarRecord = nar.and_then(|encoded| decode(&encoded)).ok_or(Refusal::Missing)?;
        match render::listing(&*self.blobs, &nar).await {
            Ok(Some(listing)) => {
                Ok((described(cache, "application/json", NARINFO_MAX_AGE), listing.to_string()).into_response())
            }
            Ok(None) | Err(render::PlanError::Gone) => Err(Refusal::Missing),
            Err(render::PlanError::Store(error)) => Err(error.into()),
        }
    }

    pub(crate) async fn nar(
        self: &Arc<Self>,
        cache: &CacheSettings,
        head: &Parts,
        body: Body,
        name: NarName,
    ) -> Result<Response, Refusal> {
        if let Intent::Push(writer) = access::intent(head, cache)? {
            return self.put_nar(cache, head, body, (name, writer)).await;
        }
        let (plan, compression) = self.find_nar(cache, name).await?.ok_or(Refusal::Missing)?;
        let mut response = match compression {
            Compression::None => self.plain(head, plan).await?,
            compression => self.packed(head, plan, compression)?,
        };
        response.headers_mut().extend(described(cache, "application/x-nix-nar", NAR_MAX_AGE));
        Ok(response)
    }

    /// The NAR of this name, be it that of the NAR or of the file that was uploaded, and how it is to be packed.
    async fn find_nar(
        self: &Arc<Self>,
        cache: &CacheSettings,
        name: NarName,
    ) -> Result<Option<(Arc<Plan>, Compression)>, Refusal> {
        let upload = self.upload(cache, name).await?;
        let (nar, compression) = match upload {
            Some(upload) => (upload.nar.0, upload.compression),
            None => (name.hash, name.compression),
        };
        if let Some(plan) = self.sound(cache, &nar).await? {
            return Ok(Some((plan, compression)));
        }
        if !self.fetch_nar(cache, &nar).await? {
            return Ok(None);
        }
        Ok(self.sound(cache, &nar).await?.map(|plan| (plan, compression)))
    }

    /// The NAR that was uploaded under this name.
    pub(crate) async fn upload(&self, cache: &CacheSettings, name: NarName) -> Result<Option<UploadRecord>, Refusal> {
        let key = upload_key(cache.name.as_str(), &name.hash, name.compression.suffix());
        Ok(self.records.get(&key).await?.and_then(|encoded| decode(&encoded)))
    }

    async fn plain(&self, head: &Parts, plan: Arc<Plan>) -> Result<Response, Refusal> {
        let etag = etag(&plan.nar);
        let asked = range::asked(range_header(&head.headers, &etag), plan.size);
        let part = asked.map_err(|range::OutOfRange| Refusal::Range(plan.size))?.filter(|_| head.method == Method::GET);
        let range = part.clone().unwrap_or(0..plan.size);
        let len = range.end - range.start;
        let size = plan.size;
        let body = match head.method {
            Method::HEAD => Body::empty(),
            _ => self.open(plan, range.clone()).await?,
        };
        let headers = [
            (header::CONTENT_LENGTH, HeaderValue::from(len)),
            (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
            (header::ETAG, etag),
        ];
        let mut response = (headers, body).into_response();
        if part.is_some() {
            *response.status_mut() = StatusCode::PARTIAL_CONTENT;
            let range = format!("bytes {}-{}/{size}", range.start, range.end - 1);
            let range = HeaderValue::try_from(range).expect("digits are a header's value");
            response.headers_mut().insert(header::CONTENT_RANGE, range);
        }
        Ok(response)
    }

    fn packed(&self, head: &Parts, plan: Arc<Plan>, compression: Compression) -> Result<Response, Refusal> {
        if head.method == Method::HEAD {
            return Ok(StatusCode::OK.into_response());
        }
        let whole = 0..plan.size;
        let packed = render::packed(render::ahead(render::plain(self.blobs.clone(), plan, whole)), compression)?;
        Ok(Body::from_stream(packed.ok_or(Refusal::Missing)?).into_response())
    }

    /// The bytes of a range. The first piece is looked at before the answer begins.
    async fn open(&self, plan: Arc<Plan>, range: std::ops::Range<u64>) -> Result<Body, Refusal> {
        let mut body = render::ahead(render::plain(self.blobs.clone(), plan, range));
        match body.next().await.transpose() {
            Ok(None) => Ok(Body::empty()),
            Ok(Some(first)) => {
                let all = stream::iter([Ok::<_, StoreError>(first)]).chain(body);
                Ok(streamed(BlobBody::from_stream(all)))
            }
            Err(StoreError::Damaged(_)) => Err(Refusal::Missing),
            Err(error) => Err(error.into()),
        }
    }
}

pub(crate) fn only_reading(head: &Parts) -> Result<(), Refusal> {
    match head.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::Method("GET, HEAD")),
    }
}

/// What an answer is, and how many seconds others may keep it.
fn described(cache: &CacheSettings, content_type: &'static str, max_age: u32) -> HeaderMap {
    let whose = match cache.audience {
        Audience::Public => "public",
        Audience::Readers => "private",
    };
    let age = HeaderValue::try_from(format!("{whose}, max-age={max_age}"));
    let age = age.expect("words and digits are a header's value");
    HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(content_type)), (header::CACHE_CONTROL, age)])
}

fn etag(nar: &Hash) -> HeaderValue {
    let text = format!("\"{}\"", base32_encode(nar.as_bytes()));
    HeaderValue::try_from(text).expect("letters and digits are a header's value")
}

/// The range, unless it is meant for other bytes than these.
fn range_header<'a>(headers: &'a HeaderMap, etag: &HeaderValue) -> Option<&'a str> {
    if headers.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
        return None;
    }
    headers.get(header::RANGE)?.to_str().ok()
}
