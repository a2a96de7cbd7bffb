use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::response::IntoResponse;
use cache_types::{Digest, DigestFunction, Hash, Hasher};
use futures::{StreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::{BlobBody, StoreError};

use super::packed::Coding;
use super::refusal::Refusal;
use super::upload::{HELD_BYTES, Incoming};
use super::{Answer, Http, READ_WRITE, download};
use crate::status;

impl Http {
    /// Bazel's `/cas/`. Spec: http-cache §1, §2.
    pub(super) async fn cas(&self, head: &Parts, body: Body, hash: Hash) -> Answer {
        match head.method {
            Method::GET | Method::HEAD => self.read_blob(head, &hash).await,
            Method::PUT => {
                self.write_blob(Incoming::unpacking(&self.core, head, body)?, hash).await?;
                Ok(StatusCode::OK.into_response())
            }
            _ => Err(Refusal::Method(READ_WRITE)),
        }
    }

    async fn read_blob(&self, head: &Parts, hash: &Hash) -> Answer {
        let digest = self.digest_of(hash).await?.ok_or(Refusal::Missing)?;
        let headers = HeaderMap::from_iter([
            (header::CACHE_CONTROL, HeaderValue::from_static("private, max-age=31536000, immutable")),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ]);
        let is_part = head.headers.contains_key(header::RANGE);
        if head.method == Method::GET && !is_part && Coding::accepted(&head.headers) == Coding::Zstd {
            return download::packed(&self.core, head, &digest, headers).await;
        }
        download::blob(&self.core, head, &digest, headers).await
    }

    /// The blob with this hash, whichever function of that length made it. Spec: H-02.
    pub(super) async fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError> {
        for hash in readings(hash) {
            if let Some(digest) = self.lookup.digest_of(&hash).await? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    async fn write_blob(&self, incoming: Incoming, hash: Hash) -> Result<(), Refusal> {
        if let Some(here) = self.digest_of(&hash).await? {
            if incoming.size_bytes.is_some_and(|size_bytes| size_bytes != here.size_bytes()) {
                return Err(Refusal::Malformed(format!("the blob of this hash has {} bytes", here.size_bytes())));
            }
            if self.core.has(&here).await? {
                return incoming.verify(&here).await;
            }
        }
        match incoming.size_bytes {
            Some(size_bytes) if size_bytes <= HELD_BYTES as u64 => self.write_held(incoming, hash).await,
            Some(size_bytes) if !self.sees_other_functions.load(Ordering::Relaxed) => {
                self.write_streamed(incoming, digest(hash, size_bytes)?).await
            }
            _ => self.write_spooled(incoming, &hash).await,
        }
    }

    /// A small body is tried as each function in turn.
    async fn write_held(&self, incoming: Incoming, hash: Hash) -> Result<(), Refusal> {
        let bytes = incoming.body.collect(HELD_BYTES).await?;
        let bytes = bytes.ok_or_else(|| Refusal::Malformed("more bytes than were announced".to_owned()))?;
        let mut refusal = None;
        for hash in readings(&hash) {
            match self.core.blobs.write(digest(hash, bytes.len() as u64)?, bytes.clone().into()).await {
                Ok(()) => {
                    self.note(&hash);
                    return Ok(());
                }
                Err(error @ StoreError::Mismatch { .. }) => refusal = refusal.or(Some(error)),
                Err(error) => return Err(error.into()),
            }
        }
        Err(refusal.map_or(Refusal::Missing, Refusal::from))
    }

    /// A large body goes straight into the store as the function that its hash stands for. When it turns out to be of
    /// BLAKE3, the client is asked for it again, and large bodies are looked at first from then on.
    async fn write_streamed(&self, incoming: Incoming, digest: Digest) -> Result<(), Refusal> {
        let other = Hash::from_bytes(DigestFunction::Blake3, digest.hash().as_bytes());
        let other = other.filter(|other| other != digest.hash());
        let Some(other) = other else {
            return Ok(self.core.blobs.write(digest, incoming.body).await?);
        };
        let found = Arc::new(OnceLock::new());
        let body = hashed(incoming.body, other.function(), found.clone());
        match self.core.blobs.write(digest, body).await {
            Err(StoreError::Mismatch { .. }) if found.get() == Some(&other) => {
                self.note(&other);
                Err(Refusal::Again)
            }
            written => Ok(written?),
        }
    }

    /// A body that is read to its end before its digest is known.
    async fn write_spooled(&self, incoming: Incoming, hash: &Hash) -> Result<(), Refusal> {
        let functions: Vec<DigestFunction> = readings(hash).map(|hash| hash.function()).collect();
        let spooled = incoming.spool(self, &functions).await?;
        let fitting = spooled.hashes.iter().find(|found| found.as_bytes() == hash.as_bytes());
        let fitting = *fitting.ok_or_else(|| Refusal::Malformed(format!("the bytes are not those of {hash}")))?;
        self.note(&fitting);
        Ok(self.core.blobs.write(digest(fitting, spooled.size_bytes)?, spooled.body).await?)
    }

    /// Takes notice of a hash whose function its length does not tell.
    fn note(&self, hash: &Hash) {
        if DigestFunction::infer(hash.as_bytes().len() * 2) != Some(hash.function()) {
            self.sees_other_functions.store(true, Ordering::Relaxed);
        }
    }
}

/// What a hash may stand for: its own function first, then the others of the same length.
pub(super) fn readings(hash: &Hash) -> impl Iterator<Item = Hash> + use<> {
    let hash = *hash;
    let others = DigestFunction::ALL.into_iter().filter(move |function| *function != hash.function());
    std::iter::once(hash).chain(others.filter_map(move |function| Hash::from_bytes(function, hash.as_bytes())))
}

fn digest(hash: Hash, size_bytes: u64) -> Result<Digest, Refusal> {
    Ok(Digest::new(hash, size_bytes).map_err(|error| status::bad_digest(&error))?)
}

/// The body, hashed on its way by one more function; `found` has the hash once the body has ended.
fn hashed(body: BlobBody, function: DigestFunction, found: Arc<OnceLock<Hash>>) -> BlobBody {
    let state = (body, Some(Hasher::new(function, 0)), found);
    BlobBody::from_stream(stream::try_unfold(state, |(mut body, mut hasher, found)| async move {
        match body.next().await.transpose()? {
            Some(piece) => {
                hasher.iter_mut().for_each(|hasher| hasher.update(&piece));
                Ok(Some((piece, (body, hasher, found))))
            }
            None => {
                let hash = hasher.take().map(Hasher::finish);
                hash.into_iter().for_each(|hash| {
                    found.get_or_init(|| hash);
                });
                Ok(None)
            }
        }
    }))
}
