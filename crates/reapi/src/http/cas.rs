use axum::body::Body;
use axum::response::IntoResponse;
use cache_types::{Digest, DigestFunction, Hash};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::StoreError;

use super::refusal::Refusal;
use super::upload::Incoming;
use super::{Answer, Http, READ_WRITE, download};
use crate::status;

impl Http {
    /// Bazel's `/cas/`. Spec: http-cache §1, §2.
    pub(super) async fn cas(&self, head: &Parts, body: Body, hash: Hash) -> Answer {
        match head.method {
            Method::GET | Method::HEAD => self.read_blob(head, &hash).await,
            Method::PUT => {
                self.write_blob(Incoming::new(&self.core, head, body)?, hash).await?;
                Ok(StatusCode::OK.into_response())
            }
            _ => Err(Refusal::Method(READ_WRITE)),
        }
    }

    async fn read_blob(&self, head: &Parts, hash: &Hash) -> Answer {
        let digest = self.digest_of(hash).await?.ok_or(Refusal::Missing)?;
        let forever = HeaderValue::from_static("private, max-age=31536000, immutable");
        let headers = HeaderMap::from_iter([(header::CACHE_CONTROL, forever)]);
        download::blob(&self.core, head, &digest, headers).await
    }

    /// The blob with this hash, whichever function of that length made it. Spec: H-02.
    async fn digest_of(&self, hash: &Hash) -> Result<Option<Digest>, StoreError> {
        let others = DigestFunction::ALL.into_iter().filter(|function| *function != hash.function());
        let others = others.filter_map(|function| Hash::from_bytes(function, hash.as_bytes()));
        for hash in std::iter::once(*hash).chain(others) {
            if let Some(digest) = self.lookup.digest_of(&hash).await? {
                return Ok(Some(digest));
            }
        }
        Ok(None)
    }

    async fn write_blob(&self, incoming: Incoming, hash: Hash) -> Result<(), Refusal> {
        let Some(size_bytes) = incoming.size_bytes else {
            return self.write_chunked(incoming, &hash).await;
        };
        let digest = Digest::new(hash, size_bytes).map_err(|error| status::bad_digest(&error))?;
        match self.lookup.digest_of(&hash).await? {
            Some(here) if here != digest => {
                Err(Refusal::Malformed(format!("the blob of this hash has {} bytes", here.size_bytes())))
            }
            Some(_) if self.core.has(&digest).await? => incoming.verify(&digest).await,
            _ => Ok(self.core.blobs.write(digest, incoming.body).await?),
        }
    }

    /// A body without a length: its size is part of the digest, so it is known last.
    async fn write_chunked(&self, incoming: Incoming, hash: &Hash) -> Result<(), Refusal> {
        let spooled = incoming.spool(self, hash.function()).await?;
        if spooled.digest.hash() != hash {
            return Err(Refusal::Malformed(format!("the bytes are those of {}", spooled.digest)));
        }
        Ok(self.core.blobs.write(spooled.digest, spooled.body).await?)
    }
}
