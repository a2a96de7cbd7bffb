use std::sync::Arc;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cache_types::ByteRange;
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};
use serde_json::Value;
use store::StoreError;

use crate::access::{self, Intent};
use crate::caches::Inner;
use crate::push::{encoding, malformed};
use crate::records::{TextRecord, decode, encode, text_key};
use crate::response::{Refusal, streamed};
use crate::route::TextKind;
use crate::settings::CacheSettings;
use crate::{feed, keep, unpack};

/// The longest text that is JSON.
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// Build logs, realisations, debug information: texts under names of their own. Spec: nix-binary-cache §1.
impl Inner {
    pub(crate) async fn text(
        self: &Arc<Self>,
        cache: &CacheSettings,
        head: &Parts,
        body: Body,
        (kind, name): (TextKind, &str),
    ) -> Result<Response, Refusal> {
        let key = text_key(cache.name.as_str(), &format!("{}/{name}", kind.folder()));
        if let Intent::Push(writer) = access::intent(head, cache)? {
            let record = self.keep_text(head, body, kind, name).await?;
            self.records.put(key, encode(&record, &writer)).await?;
            return Ok(StatusCode::OK.into_response());
        }
        let record = self.records.get(&key).await?.and_then(|encoded| decode::<TextRecord>(&encoded));
        let record = record.ok_or(Refusal::Missing)?;
        if !self.blobs.find_missing(&[record.digest]).await?.is_empty() {
            return Err(Refusal::Missing);
        }
        let body = match self.blobs.read(&record.digest, ByteRange::ALL).await {
            Ok(body) => streamed(body.ok_or(Refusal::Missing)?),
            Err(StoreError::Damaged(_)) => return Err(Refusal::Missing),
            Err(error) => return Err(error.into()),
        };
        let content_type = HeaderValue::try_from(record.content_type).map_err(|_| Refusal::Missing)?;
        let headers = [
            (header::CONTENT_TYPE, content_type),
            (header::CONTENT_LENGTH, HeaderValue::from(record.digest.size_bytes())),
            (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        ];
        Ok((headers, body).into_response())
    }

    async fn keep_text(&self, head: &Parts, body: Body, kind: TextKind, name: &str) -> Result<TextRecord, Refusal> {
        let encoding = encoding(head)?;
        let bench = self.bench();
        let body = feed::incoming(body, &self.uploads);
        let permit = self.unpacking.acquire().await.expect("it is never closed");
        let unpacked = feed::through(body, move |feed| unpack::unpack_text(feed, encoding, &bench)).await;
        drop(permit);
        let (digest, bytes) = unpacked?;
        if kind != TextKind::Log {
            let len = usize::try_from(digest.size_bytes()).ok().filter(|len| *len <= MAX_JSON_BYTES);
            let len = len.ok_or(Refusal::TooLarge(MAX_JSON_BYTES as u64))?;
            check_json(kind, name, &bytes.read(0, len)?)?;
        }
        keep::text(&self.blobs, digest, &bytes).await?;
        Ok(TextRecord { digest, content_type: kind.content_type().to_owned() })
    }

    /// A short text, unpacked.
    pub(crate) async fn small_text(&self, head: &Parts, body: Body, max_bytes: usize) -> Result<String, Refusal> {
        let encoding = encoding(head)?;
        let mut bench = self.bench();
        bench.limits.max_bytes = max_bytes as u64;
        let body = feed::incoming(body, &self.uploads);
        let (digest, bytes) = feed::through(body, move |feed| unpack::unpack_text(feed, encoding, &bench)).await?;
        let len = usize::try_from(digest.size_bytes()).map_err(|_| Refusal::TooLarge(max_bytes as u64))?;
        String::from_utf8(bytes.read(0, len)?.into()).map_err(|_| malformed("the text is not UTF-8"))
    }

    /// Reads a body to its end for nothing.
    pub(crate) async fn discard(&self, body: Body) -> Result<(), Refusal> {
        let mut body = feed::incoming(body, &self.uploads);
        let max_bytes = (self.uploads.now)().max_bytes;
        let mut left = max_bytes;
        while let Some(piece) = body.next().await.transpose()? {
            left = left.checked_sub(piece.len() as u64).ok_or(Refusal::TooLarge(max_bytes))?;
        }
        Ok(())
    }
}

/// Checks that it is an object, and that a realisation is the one that its name says.
fn check_json(kind: TextKind, name: &str, bytes: &[u8]) -> Result<(), Refusal> {
    let value: Value = serde_json::from_slice(bytes).map_err(|error| malformed(format!("not JSON: {error}")))?;
    if !value.is_object() {
        return Err(malformed("not a JSON object"));
    }
    let id = value.get("id").and_then(Value::as_str);
    if kind == TextKind::Realisation && id.is_some_and(|id| name.strip_suffix(".doi") != Some(id)) {
        return Err(malformed("the realisation has another id than its name says"));
    }
    Ok(())
}
