use axum::response::{IntoResponse, Response};
use cache_types::Denied;
use http::{HeaderValue, StatusCode, header};
use store::StoreError;
use tonic::{Code, Status};

use crate::status;

/// Seconds after which a passing fault may be gone.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// Why a request has no answer. Spec: http-cache §2.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Not here.
    Missing,
    /// A path, a header or a body that breaks a rule.
    Malformed(String),
    /// The methods that the path has instead.
    Method(&'static str),
    /// A range past the end of a blob of so many bytes.
    Range(u64),
    /// A body above the limit of so many bytes.
    TooLarge(u64),
    /// A content encoding that is not taken.
    Encoding,
    /// A WebDAV listing of more than the path itself.
    Depth,
    /// The same request again may succeed.
    Again,
    /// The caller may not do this.
    Denied(Denied),
    /// What the services below said.
    Status(Status),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        Self::Status(status)
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        Self::Status(status::from_store(error))
    }
}

/// The one table from gRPC codes to those of HTTP.
fn code(status: &Status) -> StatusCode {
    match status.code() {
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::InvalidArgument | Code::OutOfRange => StatusCode::BAD_REQUEST,
        Code::FailedPrecondition => StatusCode::CONFLICT,
        Code::ResourceExhausted => StatusCode::INSUFFICIENT_STORAGE,
        Code::DeadlineExceeded => StatusCode::REQUEST_TIMEOUT,
        Code::Unavailable | Code::Aborted => StatusCode::SERVICE_UNAVAILABLE,
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::PermissionDenied => StatusCode::FORBIDDEN,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer to a caller who may not do this. Spec: H-10, http-cache §2.
fn denied(denied: &Denied) -> Response {
    let code = match denied {
        Denied::NoCredential | Denied::BadCredential(_) => StatusCode::UNAUTHORIZED,
        Denied::Role { .. } => StatusCode::FORBIDDEN,
    };
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    let mut response = (code, no_store, format!("{denied}\n")).into_response();
    for challenge in denied.challenges() {
        response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    }
    response
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, text, extra) = match self {
            Self::Missing => (StatusCode::NOT_FOUND, "not here".to_owned(), None),
            Self::Malformed(reason) => (StatusCode::BAD_REQUEST, reason, None),
            Self::Method(allow) => {
                let allow = (header::ALLOW, HeaderValue::from_static(allow));
                (StatusCode::METHOD_NOT_ALLOWED, "no such method here".to_owned(), Some(allow))
            }
            Self::Range(size_bytes) => {
                let range =
                    HeaderValue::try_from(format!("bytes */{size_bytes}")).expect("digits are a header's value");
                let text = format!("the range lies outside of {size_bytes} bytes");
                (StatusCode::RANGE_NOT_SATISFIABLE, text, Some((header::CONTENT_RANGE, range)))
            }
            Self::TooLarge(limit) => {
                (StatusCode::PAYLOAD_TOO_LARGE, format!("more than the limit of {limit} bytes"), None)
            }
            Self::Encoding => {
                let accepted = (header::ACCEPT_ENCODING, HeaderValue::from_static("identity, zstd"));
                let text = "send the bytes as they are; under /cas/ also as zstd".to_owned();
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, text, Some(accepted))
            }
            Self::Again => {
                let text = "the digest function is known only now; send it again".to_owned();
                (StatusCode::SERVICE_UNAVAILABLE, text, Some((header::RETRY_AFTER, RETRY_AFTER)))
            }
            Self::Depth => (StatusCode::FORBIDDEN, "only Depth: 0".to_owned(), None),
            Self::Denied(reason) => return denied(&reason),
            Self::Status(status) => {
                let code = code(&status);
                let retry = (code == StatusCode::SERVICE_UNAVAILABLE).then_some((header::RETRY_AFTER, RETRY_AFTER));
                (code, status.message().to_owned(), retry)
            }
        };
        let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
        let mut response = (code, no_store, format!("{text}\n")).into_response();
        response.headers_mut().extend(extra);
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_507_and_an_unavailable_one_503_with_a_time_to_retry() {
        let full = Refusal::from(StoreError::Full { needed_bytes: 1, reason: "disk".to_owned() }).into_response();
        assert_eq!(full.status(), StatusCode::INSUFFICIENT_STORAGE);
        let away = StoreError::Unavailable { level: "far", source: "gone".into() };
        let away = Refusal::from(away).into_response();
        assert_eq!(away.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(away.headers().get(header::RETRY_AFTER), Some(&RETRY_AFTER));
        let missing = Refusal::Missing.into_response();
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);
        assert_eq!(missing.headers().get(header::CACHE_CONTROL), Some(&HeaderValue::from_static("no-store")));
    }
}
