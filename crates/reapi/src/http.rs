//! The HTTP caches over the same blobs: Bazel's `/ac/` and `/cas/`, ccache, WebDAV as sccache uses it, Gradle, Turborepo,
//! Nx. Spec: http-cache.
//!
//! | module | owns |
//! |---|---|
//! | `route` | what a path names |
//! | `cas`, `ac` | Bazel's two paths |
//! | `value`, `record` | the values of the other clients, under their own keys |
//! | `webdav`, `turborepo` | what those protocols add |
//! | `upload`, `room`, `download`, `packed`, `range` | bodies |
//! | `probe` | the parsers alone, for tests from outside |
//! | `rights` | who may do what |
//! | `refusal` | the one table from faults to status codes |

mod ac;
mod cas;
mod download;
mod packed;
pub mod probe;
mod range;
mod record;
mod refusal;
mod rights;
mod room;
mod route;
mod turborepo;
mod upload;
mod value;
mod webdav;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use cache_types::Denied;
use http::request::Parts;
use http::{HeaderValue, Method, Request, StatusCode, header};
use store::SizeLookup;
use tonic::Status;

use self::record::ValueRecord;
pub(crate) use self::refusal::Refusal;
use self::room::Room;
use self::route::{Route, ValueKey};
use crate::action_json::ActionJson;
use crate::core::Core;
use crate::{Origin, status};

/// The answer to a request, or why there is none.
type Answer = Result<Response, Refusal>;

/// The methods of what is only read.
const READ: &str = "GET, HEAD";
/// The methods of what is read and written.
const READ_WRITE: &str = "GET, HEAD, PUT";

/// The HTTP caches over one store.
pub(crate) struct Http {
    core: Arc<Core>,
    lookup: Arc<dyn SizeLookup>,
    room: Arc<Room>,
    json: ActionJson,
    /// Whether a blob came whose hash is not of the function that its length stands for.
    sees_other_functions: AtomicBool,
}

impl Http {
    pub(crate) fn new(core: Arc<Core>, lookup: Arc<dyn SizeLookup>) -> Self {
        let room = Arc::new(Room::new(core.settings.limits.clone()));
        Self { core, lookup, room, json: ActionJson::default(), sees_other_functions: AtomicBool::new(false) }
    }

    /// Answers what is no call of a gRPC service that is here.
    pub(crate) async fn serve(&self, request: Request<Body>) -> Response {
        if is_grpc(&request) {
            return Status::unimplemented("no such method").into_http::<Body>();
        }
        let (head, body) = request.into_parts();
        match self.answer(&head, body).await {
            Ok(response) => response,
            Err(refusal) => refusal.into_response(),
        }
    }

    async fn answer(&self, head: &Parts, body: Body) -> Answer {
        let route = Route::parse(head.uri.path(), &self.core.settings)?;
        rights::check(&route, head)?;
        match route {
            Route::Cas { hash, .. } => self.cas(head, body, hash).await,
            Route::Action { instance, hash } => self.action(head, body, instance, hash).await,
            Route::Value(key) => self.value(head, body, &key).await,
            Route::WebDav { key, is_collection } => self.webdav(head, body, key, is_collection).await,
            Route::Artifact { hash } => self.artifact(head, body, &hash).await,
            Route::Artifacts => self.artifacts(head, body).await,
            Route::ArtifactEvents => self.artifact_events(head, body).await,
            Route::ArtifactStatus => json(head, &serde_json::json!({ "status": "enabled" })),
            Route::Status => {
                json(head, &serde_json::json!({ "status": "serving", "version": env!("CARGO_PKG_VERSION") }))
            }
            Route::Health => reading(head).map(|()| "ok\n".into_response()),
        }
    }

    /// A value with no protocol beyond its key.
    async fn value(&self, head: &Parts, body: Body, key: &ValueKey) -> Answer {
        match head.method {
            Method::GET | Method::HEAD => self.read_value(head, key).await,
            Method::PUT => {
                self.write_value(head, body, key, Vec::new()).await?;
                Ok(StatusCode::OK.into_response())
            }
            Method::DELETE if key.may_be_deleted() => self.delete_value(key).await,
            _ => Err(Refusal::Method(if key.may_be_deleted() { "GET, HEAD, PUT, DELETE" } else { READ_WRITE })),
        }
    }
}

/// Where a value's record comes from; `None` when it is none.
pub(crate) fn origin(key: &[u8], value: &[u8]) -> Option<Origin> {
    let key = ValueKey::parse(key)?;
    let record = ValueRecord::decode(value)?;
    let mut hashes = vec![*record.digest.hash()];
    hashes.extend(key.action_hash());
    let provenance = Some(record.provenance).filter(|provenance| !provenance.writer().is_empty());
    Some(Origin { hashes, instance: key.instance_path().to_owned(), provenance })
}

/// The answer to a request that is refused before its body is read.
pub(crate) fn refuse<B>(request: &Request<B>, denied: Denied) -> Response {
    match is_grpc(request) {
        true => status::denied(denied).into_http(),
        false => Refusal::Denied(denied).into_response(),
    }
}

fn is_grpc<B>(request: &Request<B>) -> bool {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn reading(head: &Parts) -> Result<(), Refusal> {
    match head.method {
        Method::GET | Method::HEAD => Ok(()),
        _ => Err(Refusal::Method(READ)),
    }
}

fn json(head: &Parts, value: &serde_json::Value) -> Answer {
    reading(head)?;
    Ok(json_response(value))
}

fn json_response(value: &serde_json::Value) -> Response {
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    ];
    (headers, value.to_string()).into_response()
}

#[cfg(test)]
mod tests;
