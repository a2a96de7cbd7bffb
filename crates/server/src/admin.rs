//! Upkeep over the server's own port: `POST /admin/gc`, `/admin/fsck`, `/admin/purge`.
//!
//! The body is JSON; the answer is a line of JSON for each [`Event`], the last one a report or an error. Needs the role
//! `admin`: for a purge in one instance there, for all else in all instances. Whoever goes away calls the work off.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use backends::Embedded;
use bytes::Bytes;
use cache_types::{Caller, Denied, Role};
use futures::StreamExt;
use http::request::Parts;
use http::{HeaderValue, StatusCode, header};

use crate::upkeep::{Event, Request, run};

/// The longest body that is read.
const MAX_BODY_BYTES: usize = 64 * 1024;

/// The routes under `/admin/`.
pub(crate) fn routes(store: Arc<Embedded>) -> Router {
    Router::new().route("/admin/{task}", post(serve)).with_state(store)
}

async fn serve(
    State(store): State<Arc<Embedded>>,
    Path(task): Path<String>,
    request: axum::extract::Request,
) -> Response {
    let (head, body) = request.into_parts();
    match accept(&head, &task, body).await {
        Ok(request) => stream(store, request),
        Err(refusal) => refusal.into_response(),
    }
}

/// Why a request is refused.
enum Refusal {
    Denied(Denied),
    /// A page in a browser could send any other type without asking first.
    NotJson,
    Malformed(String),
}

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, text) = match &self {
            Self::Denied(Denied::Role { .. }) => (StatusCode::FORBIDDEN, self.text()),
            Self::Denied(_) => (StatusCode::UNAUTHORIZED, self.text()),
            Self::NotJson => (StatusCode::UNSUPPORTED_MEDIA_TYPE, self.text()),
            Self::Malformed(_) => (StatusCode::BAD_REQUEST, self.text()),
        };
        let mut response = (status, text + "\n").into_response();
        if let Self::Denied(denied) = self {
            for challenge in denied.challenges() {
                response.headers_mut().append(header::WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
            }
        }
        response
    }
}

impl Refusal {
    fn text(&self) -> String {
        match self {
            Self::Denied(denied) => denied.to_string(),
            Self::NotJson => "send application/json".to_owned(),
            Self::Malformed(reason) => reason.clone(),
        }
    }
}

async fn accept(head: &Parts, task: &str, body: Body) -> Result<Request, Refusal> {
    let caller = head.extensions.get::<Caller>().ok_or(Denied::NoCredential)?;
    // Before anything is read: who is no admin anywhere learns nothing here.
    caller.check_anywhere(Role::Admin)?;
    let is_json =
        |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b';').next() == Some(b"application/json");
    if !head.headers.get(header::CONTENT_TYPE).is_some_and(is_json) {
        return Err(Refusal::NotJson);
    }
    let body = axum::body::to_bytes(body, MAX_BODY_BYTES).await;
    let body: Bytes = body.map_err(|error| Refusal::Malformed(error.to_string()))?;
    let request = Request::parse(task, &body).map_err(|error| Refusal::Malformed(error.to_string()))?;
    caller.check(Role::Admin, &request.instance())?;
    tracing::info!(caller = caller.name(), ?request, "upkeep");
    Ok(request)
}

fn stream(store: Arc<Embedded>, request: Request) -> Response {
    let lines = run(store, request).map(|event| Ok::<_, std::convert::Infallible>(line(&event)));
    let headers = [(header::CONTENT_TYPE, "application/x-ndjson"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(lines)).into_response()
}

fn line(event: &Event) -> Bytes {
    let mut line = serde_json::to_vec(event).expect("plain fields become JSON");
    line.push(b'\n');
    line.into()
}

#[cfg(test)]
mod tests {
    use cache_types::{Grant, InstanceName, Roles};
    use tower::ServiceExt;

    use super::*;

    fn caller(prefix: &str, roles: &[Role]) -> Caller {
        let prefix = InstanceName::parse(prefix).expect("a name");
        Caller::known("someone", "", vec![Grant { prefix, roles: roles.iter().copied().collect::<Roles>() }])
    }

    async fn post(routes: &Router, caller: Option<Caller>, task: &str, body: &'static str) -> StatusCode {
        let mut request = http::Request::post(format!("/admin/{task}"))
            .header(header::CONTENT_TYPE, "application/json; charset=utf-8")
            .body(Body::from(body))
            .expect("a request");
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        let response = routes.clone().oneshot(request).await.expect("infallible");
        let status = response.status();
        let challenges = response.headers().contains_key(header::WWW_AUTHENTICATE);
        assert_eq!(challenges, status == StatusCode::UNAUTHORIZED);
        if status == StatusCode::OK {
            let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.expect("lines");
            assert!(String::from_utf8_lossy(&body).contains("report"), "{body:?}");
        }
        status
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn only_an_admin_may_and_only_in_the_instances_that_are_his() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = Embedded::open(backends::Settings {
            data: folder.path().to_owned(),
            max_size_bytes: 64 << 20,
            lease: std::time::Duration::from_secs(60),
            evict_floor: std::time::Duration::ZERO,
            eviction: backends::Eviction::Bounded,
            durability: backends::Durability::Process,
        });
        let routes = routes(Arc::new(store.expect("opened")));
        let all = caller("", &Role::ALL);
        let others = caller("", &Role::ALL.map(|role| if role == Role::Admin { Role::Read } else { role }));
        let team = caller("team", &[Role::Admin]);
        let cases = [
            (None, "fsck", "{}", StatusCode::UNAUTHORIZED),
            (Some(Caller::anonymous(Vec::new())), "fsck", "{}", StatusCode::UNAUTHORIZED),
            (Some(others.clone()), "fsck", "{}", StatusCode::FORBIDDEN),
            (Some(others), "purge", r#"{"writer":"x"}"#, StatusCode::FORBIDDEN),
            (Some(all.clone()), "fsck", "{}", StatusCode::OK),
            (Some(all.clone()), "gc", r#"{"max_bytes":0}"#, StatusCode::OK),
            (Some(all), "purge", r#"{"writer":"x"}"#, StatusCode::OK),
            (Some(team.clone()), "purge", r#"{"writer":"x","instance":"team/a"}"#, StatusCode::OK),
            (Some(team.clone()), "purge", r#"{"writer":"x","instance":"tea"}"#, StatusCode::FORBIDDEN),
            (Some(team.clone()), "purge", r#"{"writer":"x"}"#, StatusCode::FORBIDDEN),
            (Some(team.clone()), "gc", r#"{"max_bytes":0}"#, StatusCode::FORBIDDEN),
            (Some(team), "fsck", "{}", StatusCode::FORBIDDEN),
            (Some(Caller::local()), "fsck", "{}", StatusCode::OK),
        ];
        for (caller, task, body, status) in cases {
            let who = format!("{caller:?} {task} {body}");
            assert_eq!(post(&routes, caller, task, body).await, status, "{who}");
        }
    }
}
