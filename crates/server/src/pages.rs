use std::sync::Arc;

use axum::Router;
use axum::extract::{FromRequestParts, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use cache_types::{InstanceName, Role};
use http::request::Parts;
use http::{HeaderName, HeaderValue, StatusCode, header};
use prometheus_client::registry::Registry;
use reapi::access;

use crate::metrics::{self, Sources};
use crate::status_page::{Page, Status};

/// What operators and their programs ask over HTTP: `/`, `/status.json`, `/metrics`, `/readyz`.
pub(crate) struct Pages {
    registry: Registry,
    status: Status,
    page: Page,
    readiness: Readiness,
}

impl Pages {
    /// The pages over these sources; `is_draining` tells whether the server is about to stop.
    pub(crate) fn new(
        sources: Sources,
        status: Status,
        is_draining: impl Fn() -> bool + Send + Sync + 'static,
    ) -> Self {
        let mut registry = Registry::default();
        metrics::register(&mut registry, &sources);
        let disk_is_full = Box::new(move || sources.stats().disk_is_full);
        let readiness = Readiness { is_draining: Box::new(is_draining), disk_is_full };
        Self { registry, status, page: Page::new(), readiness }
    }

    /// The routes.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(page))
            .route("/status.json", get(status))
            .route("/metrics", get(metrics))
            .route("/readyz", get(ready))
            .with_state(Arc::new(self))
    }
}

/// A caller who may see the numbers, which name instances of all: one who reads everywhere, or administers anything.
struct Reader;

impl<S: Sync> FromRequestParts<S> for Reader {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Response> {
        let caller = access::caller(&parts.extensions).map_err(access::refusal)?;
        if caller.may_anywhere(Role::Admin) {
            return Ok(Self);
        }
        caller.check(Role::Read, &InstanceName::default()).map(|()| Self).map_err(access::refusal)
    }
}

/// Whether callers should be sent here.
struct Readiness {
    is_draining: Box<dyn Fn() -> bool + Send + Sync>,
    disk_is_full: Box<dyn Fn() -> bool + Send + Sync>,
}

impl Readiness {
    /// # Errors
    /// Why not.
    fn check(&self) -> Result<&'static str, &'static str> {
        if (self.is_draining)() {
            return Err("draining");
        }
        if (self.disk_is_full)() {
            return Err("disk full: reads are answered, writes are refused; free space beside the data folder");
        }
        Ok("ready")
    }
}

const NO_STORE: (HeaderName, HeaderValue) = (header::CACHE_CONTROL, HeaderValue::from_static("no-store"));

/// Lets browsers take what is sent for nothing else.
const NO_SNIFF: (HeaderName, HeaderValue) = (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));

fn content_type(value: &'static str) -> (HeaderName, HeaderValue) {
    (header::CONTENT_TYPE, HeaderValue::from_static(value))
}

async fn page(_: Reader, State(pages): State<Arc<Pages>>) -> Response {
    let Ok(policy) = HeaderValue::from_str(&pages.page.policy) else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let no_referrer = (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    let policy = (header::CONTENT_SECURITY_POLICY, policy);
    let headers = [content_type("text/html; charset=utf-8"), NO_STORE, NO_SNIFF, policy, no_referrer];
    (headers, pages.page.html.clone()).into_response()
}

async fn status(_: Reader, State(pages): State<Arc<Pages>>) -> Response {
    let ready = pages.readiness.check().unwrap_or_else(|reason| reason);
    ([content_type("application/json"), NO_STORE, NO_SNIFF], pages.status.json(ready)).into_response()
}

async fn metrics(_: Reader, State(pages): State<Arc<Pages>>) -> Response {
    match metrics::text(&pages.registry) {
        Ok(text) => ([content_type(metrics::CONTENT_TYPE), NO_STORE, NO_SNIFF], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

async fn ready(State(pages): State<Arc<Pages>>) -> Response {
    let (code, text) = match pages.readiness.check() {
        Ok(text) => (StatusCode::OK, text),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, reason),
    };
    (code, [content_type("text/plain; charset=utf-8"), NO_STORE], format!("{text}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use cache_types::{Caller, Grant};

    use super::*;

    #[tokio::test]
    async fn the_numbers_of_all_are_for_who_reads_everywhere_or_administers() {
        let grant = |prefix: &str, role: Role| Grant {
            prefix: InstanceName::parse(prefix).expect("a name"),
            roles: [role].into_iter().collect(),
        };
        let caller = |grant| Caller::known("someone", "", vec![grant]);
        for (caller, code) in [
            (None, Some(StatusCode::UNAUTHORIZED)),
            (Some(Caller::anonymous(Vec::new())), Some(StatusCode::UNAUTHORIZED)),
            (Some(caller(grant("team", Role::Read))), Some(StatusCode::FORBIDDEN)),
            (Some(caller(grant("team", Role::AcWrite))), Some(StatusCode::FORBIDDEN)),
            (Some(caller(grant("", Role::Read))), None),
            (Some(caller(grant("team", Role::Admin))), None),
            (Some(Caller::local()), None),
        ] {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            let described = format!("{caller:?}");
            caller.map(|caller| parts.extensions.insert(caller));
            let refused = Reader::from_request_parts(&mut parts, &()).await.err().map(|response| response.status());
            assert_eq!(refused, code, "{described}");
        }
    }

    #[test]
    fn a_server_that_drains_or_has_no_disk_is_not_ready() {
        let check = |draining: bool, full: bool| {
            let readiness = Readiness { is_draining: Box::new(move || draining), disk_is_full: Box::new(move || full) };
            readiness.check()
        };
        assert_eq!(check(false, false), Ok("ready"));
        assert_eq!(check(true, true), Err("draining"));
        assert!(check(false, true).expect_err("full").starts_with("disk full"));
    }
}
