use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cache_types::Hash;
use cache_types::nix::{NarFile, NarInfo, StorePathHash, base32_encode};
use futures::{StreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::{BlobBody, StoreError};

use crate::access;
use crate::caches::Inner;
use crate::compression::Compression;
use crate::range;
use crate::records::{NarRecord, Origin, UploadRecord, decode, nar_key, upload_key};
use crate::render::{self, Plan};
use crate::response::{Refusal, streamed};
use crate::route::NarName;
use crate::settings::{Audience, CacheSettings, Completeness, Sign, Transfer};

/// A year: a NAR is named by its hash.
const NAR_MAX_AGE: u32 = 365 * 24 * 60 * 60;
/// An hour: signatures may be added. Spec: N-47.
const NARINFO_MAX_AGE: u32 = 60 * 60;
/// Paths of a closure that are looked at before it is given up.
const MAX_CLOSURE: usize = 100_000;

impl Inner {
    pub(crate) fn cache_info(&self, cache: &CacheSettings, head: &Parts) -> Result<Response, Refusal> {
        match head.method {
            Method::GET | Method::HEAD => access::reading(head, cache)?,
            // Old clients write it where they did not find it. Spec: nix-binary-cache §2.
            Method::PUT => {
                access::pushing(head, cache)?;
                return Ok(StatusCode::OK.into_response());
            }
            _ => return Err(Refusal::Method("GET, HEAD, PUT")),
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
        match head.method {
            Method::GET | Method::HEAD => access::reading(head, cache)?,
            Method::PUT => return self.put_narinfo(cache, head, body, path).await,
            _ => return Err(Refusal::Method("GET, HEAD, PUT")),
        }
        let info = self.find_narinfo(cache, path).await?.ok_or(Refusal::Missing)?;
        let headers = [
            (header::CONTENT_TYPE, HeaderValue::from_static("text/x-nix-narinfo")),
            (header::CACHE_CONTROL, age(cache, NARINFO_MAX_AGE)),
        ];
        Ok((headers, info.print(&cache.store_dir)).into_response())
    }

    /// The narinfo as it is served: its NAR is here, or can be fetched from the cache that it came from.
    async fn find_narinfo(
        self: &Arc<Self>,
        cache: &CacheSettings,
        path: StorePathHash,
    ) -> Result<Option<NarInfo>, Refusal> {
        if let Some(record) = self.path_record(cache, path).await?
            && let Some(info) = record.info(&cache.store_dir)
            && (self.sound(cache, &info.nar_hash).await?.is_some() || self.may_fetch(cache, &record.origin))
        {
            if cache.completeness == Completeness::Closure && !self.has_closure(cache, &info).await? {
                return Ok(None);
            }
            return Ok(Some(as_served(cache, info, &record.origin)));
        }
        let Some(record) = self.ask_upstreams(cache, path).await? else {
            return Ok(None);
        };
        Ok(record.info(&cache.store_dir).map(|info| as_served(cache, info, &record.origin)))
    }

    /// Whether the NAR can be had from the cache that the path came from.
    fn may_fetch(&self, cache: &CacheSettings, origin: &Origin) -> bool {
        match origin {
            Origin::Pushed => false,
            Origin::Upstream { nar } => self.upstreams.may_have(cache, nar),
        }
    }

    /// Whether all that the path refers to, however far, is here or in a cache that is asked for what is not.
    async fn has_closure(self: &Arc<Self>, cache: &CacheSettings, info: &NarInfo) -> Result<bool, Refusal> {
        let mut seen = std::collections::HashSet::from([info.path.hash()]);
        let mut wanted: Vec<StorePathHash> = info.other_references().map(|path| path.hash()).collect();
        while let Some(path) = wanted.pop() {
            if !seen.insert(path) {
                continue;
            }
            let record = self.path_record(cache, path).await?;
            let Some(record) = record.filter(|_| seen.len() < MAX_CLOSURE) else {
                return Ok(false);
            };
            let Some(info) = record.info(&cache.store_dir) else {
                return Ok(false);
            };
            if record.origin == Origin::Pushed && self.complete(cache, &info.nar_hash).await?.is_none() {
                return Ok(false);
            }
            wanted.extend(info.other_references().map(|path| path.hash()));
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
        match head.method {
            Method::GET | Method::HEAD => access::reading(head, cache)?,
            // It comes before the path that it is of, and is made from the NAR itself when asked for.
            Method::PUT => {
                access::pushing(head, cache)?;
                self.discard(body).await?;
                return Ok(StatusCode::OK.into_response());
            }
            _ => return Err(Refusal::Method("GET, HEAD, PUT")),
        }
        let record = self.path_record(cache, path).await?.ok_or(Refusal::Missing)?;
        let info = record.info(&cache.store_dir).ok_or(Refusal::Missing)?;
        let nar = self.records.get(&nar_key(cache.name.as_str(), &info.nar_hash)).await?;
        let nar: NarRecord = nar.and_then(|encoded| decode(&encoded)).ok_or(Refusal::Missing)?;
        match render::listing(&*self.blobs, &nar).await {
            Ok(Some(listing)) => {
                let headers = [
                    (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
                    (header::CACHE_CONTROL, age(cache, NARINFO_MAX_AGE)),
                ];
                Ok((headers, listing.to_string()).into_response())
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
        match head.method {
            Method::GET | Method::HEAD => access::reading(head, cache)?,
            Method::PUT => return self.put_nar(cache, head, body, name).await,
            _ => return Err(Refusal::Method("GET, HEAD, PUT")),
        }
        let (plan, compression) = self.find_nar(cache, name).await?.ok_or(Refusal::Missing)?;
        let mut response = match compression {
            Compression::None => self.plain(head, plan).await?,
            compression => self.packed(head, plan, compression)?,
        };
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-nix-nar"));
        headers.insert(header::CACHE_CONTROL, age(cache, NAR_MAX_AGE));
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

/// The narinfo with our URL, and our signature where it is due.
fn as_served(cache: &CacheSettings, mut info: NarInfo, origin: &Origin) -> NarInfo {
    let compression = match cache.transfer {
        Transfer::Zstd => Compression::Zstd,
        Transfer::Plain => Compression::None,
    };
    info.file = NarFile {
        url: NarName::new(info.nar_hash, compression).url(),
        compression: compression.name().to_owned(),
        hash: (compression == Compression::None).then_some(info.nar_hash),
        size: (compression == Compression::None).then_some(info.nar_size),
    };
    let wanted = match cache.sign {
        Sign::Never => false,
        Sign::Always => true,
        Sign::OnlyIfUnsigned => info.signatures.is_empty(),
    };
    if let Some(key) = cache.key.as_ref().filter(|_| wanted && *origin == Origin::Pushed) {
        info.add_signature(key.sign(&info.fingerprint(&cache.store_dir)));
    }
    info
}

pub(crate) fn only_reading(head: &Parts) -> Result<(), Refusal> {
    match head.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::Method("GET, HEAD")),
    }
}

/// How long others may keep an answer.
fn age(cache: &CacheSettings, seconds: u32) -> HeaderValue {
    let whose = match cache.audience {
        Audience::Public => "public",
        Audience::Readers => "private",
    };
    HeaderValue::try_from(format!("{whose}, max-age={seconds}")).expect("words and digits are a header's value")
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
