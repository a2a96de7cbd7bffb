//! The JSON mirror under `/v1/prompt/`.

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use cache_types::Caller;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::PromptCache;
use crate::cache::caller;
use crate::grpc::MAX_REQUEST_BYTES;
use crate::proto::{Chain, Invocation, LookupRequest};
use crate::refusal::Refusal;

pub(crate) async fn lookup(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.lookup(&caller, &request).await
    })
    .await
}

pub(crate) async fn prefix(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.longest_prefix(&caller, &request).await
    })
    .await
}

pub(crate) async fn record(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.record(&caller, request).await
    })
    .await
}

pub(crate) async fn report(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.report(&caller, &request).await
    })
    .await
}

pub(crate) async fn explain(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.explain(&caller, &request).await
    })
    .await
}

pub(crate) async fn invalidate(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.invalidate(&caller, &request).await
    })
    .await
}

pub(crate) async fn attest(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.attest(&caller, &request).await
    })
    .await
}

pub(crate) async fn sign(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.sign(&caller, &request).await
    })
    .await
}

pub(crate) async fn savings(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.savings(&caller, &request)
    })
    .await
}

pub(crate) async fn producers(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let (caller, request) = read(request).await?;
        cache.0.producers(&caller, &request).await
    })
    .await
}

/// `GET /v1/prompt/explain?key=pk1:sha256:…`
pub(crate) async fn explain_key(State(cache): State<PromptCache>, request: Request) -> Response {
    answer(async move {
        let caller = caller(request.extensions())?;
        let query = request.uri().query().unwrap_or("");
        let key = query.split('&').find_map(|pair| pair.strip_prefix("key="));
        let key =
            key.ok_or_else(|| Refusal::invalid("the query has no `key`"))?.replace("%3A", ":").replace("%3a", ":");
        let chain = Chain { key, ..Chain::default() };
        let invocation = Invocation { chain: Some(chain), ..Invocation::default() };
        cache.0.explain(&caller, &LookupRequest { invocation: Some(invocation), ..LookupRequest::default() }).await
    })
    .await
}

/// The caller, who is checked before the body is read, and the message of the body.
async fn read<M: DeserializeOwned>(request: Request) -> Result<(Caller, M), Refusal> {
    let caller = caller(request.extensions())?;
    let body = to_bytes(request.into_body(), MAX_REQUEST_BYTES).await;
    let body = body.map_err(|error| Refusal::invalid(format!("the body cannot be read: {error}")))?;
    let message = serde_json::from_slice(&body).map_err(|error| Refusal::invalid(format!("the body: {error}")))?;
    Ok((caller, message))
}

async fn answer<M: Serialize>(work: impl Future<Output = Result<M, Refusal>>) -> Response {
    let (code, text) = match work.await {
        Ok(message) => match serde_json::to_string(&message) {
            Ok(text) => (StatusCode::OK, text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error_text(&error)),
        },
        Err(refusal) => (refusal.http(), error_text(&refusal)),
    };
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (code, headers, Body::from(text)).into_response()
}

fn error_text(error: &dyn std::fmt::Display) -> String {
    serde_json::json!({ "error": error.to_string() }).to_string()
}
