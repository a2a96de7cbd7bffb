use http::{HeaderValue, Response};
use tonic::Code;

/// What the transport's refusal of a large message starts with, percent-encoded as it travels.
const REFUSAL: &[u8] = b"Error,%20decoded%20message%20length%20too%20large";

/// Gives the refusal of an oversize message the code that other servers use: RESOURCE_EXHAUSTED. Spec: R-035.
pub(crate) fn as_resource_exhausted<B>(mut response: Response<B>) -> Response<B> {
    let headers = response.headers();
    let code = headers.get("grpc-status").map(HeaderValue::as_bytes);
    let refused = headers.get("grpc-message").is_some_and(|message| message.as_bytes().starts_with(REFUSAL));
    if refused && code.map(Code::from_bytes) == Some(Code::OutOfRange) {
        response.headers_mut().insert("grpc-status", HeaderValue::from(i32::from(Code::ResourceExhausted)));
    }
    response
}
