use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::{StreamExt, TryStreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::{BlobBody, StoreError};

use super::Answer;
use super::packed::ZSTD;
use super::range::Asked;
use super::refusal::Refusal;
use crate::bytestream::compressed;
use crate::core::Core;
use crate::status;

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Answers GET or HEAD with a blob or a range of it, with `headers` beside those that every blob has.
pub(super) async fn blob(core: &Core, head: &Parts, digest: &Digest, headers: HeaderMap) -> Answer {
    let size_bytes = digest.size_bytes();
    let etag = quoted(format_args!("{}", digest.hash()));
    if is_known(head, &etag) {
        return not_modified(core, digest, etag, headers).await;
    }
    if head.method == Method::HEAD {
        if !core.has(digest).await? {
            return Err(Refusal::Missing);
        }
        return Ok(response(StatusCode::OK, size_bytes, etag, (headers, Body::empty())));
    }
    let asked = Asked::parse(range_header(&head.headers, &etag), size_bytes);
    let range = asked.range().ok_or(Refusal::Range(size_bytes))?;
    let body = open(core, digest, range).await?.ok_or(Refusal::Missing)?;
    let Asked::Part { start, end } = asked else {
        return Ok(response(StatusCode::OK, size_bytes, etag, (headers, body)));
    };
    let mut response = response(StatusCode::PARTIAL_CONTENT, end - start, etag, (headers, body));
    let range = format!("bytes {start}-{}/{size_bytes}", end - 1);
    let range = HeaderValue::try_from(range).expect("digits are a header's value");
    response.headers_mut().insert(header::CONTENT_RANGE, range);
    Ok(response)
}

/// Answers GET with a blob as one zstd frame, whose length nobody knows before its end. Spec: H-20.
pub(super) async fn packed(core: &Core, head: &Parts, digest: &Digest, headers: HeaderMap) -> Answer {
    let etag = quoted(format_args!("{}-zstd", digest.hash()));
    if is_known(head, &etag) {
        return not_modified(core, digest, etag, headers).await;
    }
    let mut body = core.blobs.read(digest, ByteRange::ALL).await?.ok_or(Refusal::Missing)?;
    // Looked at before the answer begins, so that what is damaged is a miss.
    let first = match body.next().await.transpose() {
        Err(StoreError::Damaged(_)) => return Err(Refusal::Missing),
        first => first?,
    };
    let body = BlobBody::from_stream(stream::iter(first.map(Ok)).chain(body));
    let own = [(header::CONTENT_TYPE, BINARY), (header::CONTENT_ENCODING, ZSTD), (header::ETAG, etag)];
    Ok((own, headers, Body::from_stream(compressed(body))).into_response())
}

/// Answers with bytes in memory that may change.
pub(super) fn bytes(bytes: Bytes) -> Response {
    typed(BINARY, bytes)
}

/// Answers with JSON that may change.
pub(super) fn json(text: Vec<u8>) -> Response {
    typed(HeaderValue::from_static("application/json"), text.into())
}

fn typed(content_type: HeaderValue, bytes: Bytes) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CONTENT_TYPE, content_type), (header::CACHE_CONTROL, no_store)], bytes).into_response()
}

fn quoted(text: std::fmt::Arguments<'_>) -> HeaderValue {
    HeaderValue::try_from(format!("\"{text}\"")).expect("hexadecimal digits are a header's value")
}

/// Whether the client says that it has these bytes. Spec: H-28.
fn is_known(head: &Parts, etag: &HeaderValue) -> bool {
    let values = head.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = values.flat_map(|value| value.split(',')).map(|tag| tag.trim().trim_start_matches("W/"));
    tags.any(|tag| tag == "*" || tag.as_bytes() == etag.as_bytes())
}

/// Says that the client has it already, as long as it is here.
async fn not_modified(core: &Core, digest: &Digest, etag: HeaderValue, headers: HeaderMap) -> Answer {
    if !core.has(digest).await? {
        return Err(Refusal::Missing);
    }
    Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, etag)], headers).into_response())
}

/// The range, unless it is meant for other bytes than these.
fn range_header<'a>(headers: &'a HeaderMap, etag: &HeaderValue) -> Option<&'a str> {
    if headers.get(header::IF_RANGE).is_some_and(|condition| condition != etag) {
        return None;
    }
    headers.get(header::RANGE)?.to_str().ok()
}

fn response(code: StatusCode, len: u64, etag: HeaderValue, (headers, body): (HeaderMap, Body)) -> Response {
    let own = [
        (header::CONTENT_TYPE, BINARY),
        (header::CONTENT_LENGTH, HeaderValue::from(len)),
        (header::ACCEPT_RANGES, HeaderValue::from_static("bytes")),
        (header::ETAG, etag),
    ];
    (code, own, headers, body).into_response()
}

/// The bytes of a range. The first piece is looked at before the answer begins, so that what is damaged is a miss.
async fn open(core: &Core, digest: &Digest, range: ByteRange) -> Result<Option<Body>, StoreError> {
    let read = async {
        let Some(mut body) = core.blobs.read(digest, range).await? else {
            return Ok(None);
        };
        if let Some(whole) = body.whole() {
            return Ok(Some(Body::from(whole.clone())));
        }
        let first = body.next().await.transpose()?;
        Ok(Some(streamed(first, body)))
    };
    match read.await {
        Err(StoreError::Damaged(_)) => Ok(None),
        read => read,
    }
}

fn streamed(first: Option<Bytes>, rest: BlobBody) -> Body {
    // An error ends the connection before the promised length: no client takes the part for the whole.
    Body::from_stream(stream::iter(first.map(Ok)).chain(rest.map_err(status::from_store)))
}
