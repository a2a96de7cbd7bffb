use axum::body::Body;
use axum::response::IntoResponse;
use cache_types::Digest;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use store::{BlobBody, Provenance};

use super::record::{MAX_HEADER_BYTES, ValueRecord};
use super::refusal::Refusal;
use super::route::ValueKey;
use super::upload::Incoming;
use super::{Answer, Http, download};
use crate::writer;

/// Values under the clients' own keys: a blob, and a record that names it.
impl Http {
    pub(super) async fn read_value(&self, head: &Parts, key: &ValueKey) -> Answer {
        let record = self.find_value(key).await?.ok_or(Refusal::Missing)?;
        let mut headers: HeaderMap = record.header_map();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        download::blob(&self.core, head, &record.digest, headers).await
    }

    /// The record of a value whose bytes are here, both kept for the lease time.
    pub(super) async fn find_value(&self, key: &ValueKey) -> Result<Option<ValueRecord>, Refusal> {
        let key = key.record();
        let Some(encoded) = self.core.records.get(&key).await? else {
            return Ok(None);
        };
        let Some(record) = ValueRecord::decode(&encoded) else {
            tracing::debug!("a malformed value is dropped");
            self.core.records.remove(&key).await?;
            return Ok(None);
        };
        Ok(self.core.has(&record.digest).await?.then_some(record))
    }

    /// Takes in a value and `headers` to give back with it.
    pub(super) async fn write_value(
        &self,
        head: &Parts,
        body: Body,
        key: &ValueKey,
        headers: Vec<(HeaderName, HeaderValue)>,
    ) -> Result<(), Refusal> {
        if headers.iter().any(|(_, value)| value.len() > MAX_HEADER_BYTES) {
            return Err(Refusal::Malformed(format!("a header that is kept has at most {MAX_HEADER_BYTES} bytes")));
        }
        let spooled = Incoming::new(&self.core, head, body)?.spool_sha256(self).await?;
        self.keep_value(spooled, key, headers, writer::of(&head.extensions)).await
    }

    /// Stores the bytes, then the record that names them.
    pub(super) async fn keep_value(
        &self,
        (digest, bytes): (Digest, BlobBody),
        key: &ValueKey,
        headers: Vec<(HeaderName, HeaderValue)>,
        writer: &str,
    ) -> Result<(), Refusal> {
        self.core.blobs.write(digest, bytes).await?;
        // Asked for before the record is written, so that the blob does not go first.
        self.core.has(&digest).await?;
        let record = ValueRecord { digest, provenance: Provenance::now(writer), headers };
        Ok(self.core.records.put(key.record(), record.encode()).await?)
    }

    /// Forgets a value; success when there is none.
    pub(super) async fn delete_value(&self, key: &ValueKey) -> Answer {
        self.core.records.remove(&key.record()).await?;
        Ok(StatusCode::NO_CONTENT.into_response())
    }
}
