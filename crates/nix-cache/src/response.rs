use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cache_types::Denied;
use http::{HeaderValue, StatusCode, header};
use store::{BodyError, StoreError};

use crate::unpack::UnpackError;

/// Seconds after which a passing fault may be gone.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("5");

/// Why a request has no answer: the one table of codes. Spec: N-02, N-44, N-46.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not here.
    Missing,
    /// The caller may not: 401 where a credential would help, since clients take 403 for absent. Spec: N-46.
    Denied(Denied),
    /// What breaks a rule, and which.
    Malformed(String),
    /// Something else is there under this name.
    Conflict(String),
    /// The methods that the path has instead.
    Method(&'static str),
    /// A range past the end of so many bytes.
    Range(u64),
    /// More than so many bytes.
    TooLarge(u64),
    /// A compression that is not taken.
    Encoding(String),
    /// What the store said.
    Store(StoreError),
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<UnpackError> for Refusal {
    fn from(error: UnpackError) -> Self {
        match error {
            UnpackError::Store(error) => Self::Store(error),
            UnpackError::TooLarge(limit) => Self::TooLarge(limit),
            UnpackError::Nar(_) | UnpackError::Packed { .. } | UnpackError::TooDense(_) | UnpackError::Trailing => {
                Self::Malformed(error.to_string())
            }
        }
    }
}

fn of_store(error: &StoreError) -> (StatusCode, String) {
    match error {
        StoreError::Full { .. } => (StatusCode::INSUFFICIENT_STORAGE, error.to_string()),
        StoreError::Body(BodyError::Invalid(reason)) => (StatusCode::BAD_REQUEST, reason.clone()),
        StoreError::Body(BodyError::Interrupted(_)) => {
            (StatusCode::REQUEST_TIMEOUT, "the upload was interrupted".to_owned())
        }
        StoreError::Mismatch { .. } | StoreError::MissingChunk(_) | StoreError::Range { .. } => {
            (StatusCode::BAD_REQUEST, error.to_string())
        }
        StoreError::Damaged(_) => (StatusCode::NOT_FOUND, "not here".to_owned()),
        StoreError::Unavailable { .. } | StoreError::LeftOut { .. } => {
            (StatusCode::SERVICE_UNAVAILABLE, error.to_string())
        }
        StoreError::Internal { .. } => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()),
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, text) = match &self {
            Self::Missing => (StatusCode::NOT_FOUND, "not here".to_owned()),
            Self::Denied(denied) if denied.challenges().is_empty() => (StatusCode::FORBIDDEN, denied.to_string()),
            Self::Denied(denied) => (StatusCode::UNAUTHORIZED, denied.to_string()),
            Self::Malformed(reason) => (StatusCode::BAD_REQUEST, reason.clone()),
            Self::Conflict(reason) => (StatusCode::CONFLICT, reason.clone()),
            Self::Method(_) => (StatusCode::METHOD_NOT_ALLOWED, "no such method here".to_owned()),
            Self::Range(size) => (StatusCode::RANGE_NOT_SATISFIABLE, format!("the range lies outside of {size} bytes")),
            Self::TooLarge(limit) => (StatusCode::PAYLOAD_TOO_LARGE, format!("more than the limit of {limit} bytes")),
            Self::Encoding(reason) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, reason.clone()),
            Self::Store(error) => of_store(error),
        };
        if code.is_server_error() {
            tracing::warn!(%code, reason = text, "a request to a Nix cache failed");
        }
        let mut response = (code, format!("{text}\n")).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::Denied(denied) => {
                for challenge in denied.challenges() {
                    headers.append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
                }
            }
            Self::Method(allow) => {
                headers.insert(header::ALLOW, HeaderValue::from_static(allow));
            }
            Self::Range(size) => {
                let range = HeaderValue::try_from(format!("bytes */{size}")).expect("digits are a header's value");
                headers.insert(header::CONTENT_RANGE, range);
            }
            _ if code == StatusCode::SERVICE_UNAVAILABLE => {
                headers.insert(header::RETRY_AFTER, RETRY_AFTER);
            }
            _ => {}
        }
        response
    }
}

/// A body from the store. An error ends the connection before its end: no client takes the part for the whole.
pub(crate) fn streamed(body: store::BlobBody) -> Body {
    match body.whole() {
        Some(whole) => Body::from(whole.clone()),
        None => Body::from_stream(body),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_that_nix_understands() {
        let code = |refusal: Refusal| refusal.into_response().status().as_u16();
        assert_eq!(code(Refusal::Missing), 404);
        assert_eq!(code(Refusal::Conflict(String::new())), 409);
        assert_eq!(code(Refusal::TooLarge(1)), 413);
        let full = StoreError::Full { needed_bytes: 1, reason: "disk".to_owned() };
        assert_eq!(code(UnpackError::Store(full).into()), 507);
        let away = StoreError::Unavailable { level: "far", source: "gone".into() };
        let away = Refusal::from(away).into_response();
        assert_eq!((away.status().as_u16(), away.headers().get(header::RETRY_AFTER)), (503, Some(&RETRY_AFTER)));
        let method = Refusal::Method("GET, HEAD").into_response();
        assert_eq!(method.headers().get(header::ALLOW), Some(&HeaderValue::from_static("GET, HEAD")));
    }
}
