use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use futures::{StreamExt, TryStreamExt, stream};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use store::{BlobBody, StoreError};

use super::Answer;
use super::range::Asked;
use super::refusal::Refusal;
use crate::core::Core;
use crate::status;

const BINARY: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Answers GET or HEAD with a blob or a range of it, with `headers` beside those that every blob has.
pub(super) async fn blob(core: &Core, head: &Parts, digest: &Digest, headers: HeaderMap) -> Answer {
    let size_bytes = digest.size_bytes();
    let etag = etag(digest);
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

/// Answers with bytes in memory that may change.
pub(super) fn bytes(bytes: Bytes) -> Response {
    let no_store = HeaderValue::from_static("no-store");
    ([(header::CONTENT_TYPE, BINARY), (header::CACHE_CONTROL, no_store)], bytes).into_response()
}

fn etag(digest: &Digest) -> HeaderValue {
    HeaderValue::try_from(format!("\"{}\"", digest.hash())).expect("hexadecimal digits are a header's value")
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
