//! Every HTTP route, asked with a credential in an instance.

use std::sync::Arc;

use futures::future::BoxFuture;

use super::calls::{Call, Outcome};
use super::credentials::{Credential, Setting};
use crate::harness::Blob;
use crate::harness::http::{Answer, parse, request};
use crate::harness::identity::{exchange_tls, tls_stream};

/// A request over TLS.
pub fn ask(setting: &Setting, credential: &Credential, line: &str, body: &[u8]) -> Answer {
    let stream = tls_stream(setting.server.address(), &setting.authority.pem, credential.certificate.as_ref());
    let header = credential.header.as_deref().map(|header| ("Authorization", header));
    let mut headers: Vec<(&str, &str)> = header.into_iter().collect();
    headers.push(("Depth", "0"));
    parse(&exchange_tls(stream, &request(line, &headers, body)))
}

fn outcome(answer: &Answer) -> Outcome {
    match answer.code {
        401 => {
            assert!(!answer.header("www-authenticate").is_empty(), "{answer:?}");
            Outcome::Unauthenticated
        }
        403 => Outcome::Forbidden,
        200..300 | 400 | 404 | 415 => Outcome::Allowed,
        code => panic!("neither an answer nor a refusal: {code}"),
    }
}

/// `path` has `{i}` where the instance goes, with a slash after it, or `{t}` for one that stands alone.
fn route(name: &'static str, needs: &'static str, path: &str, body: &'static [u8]) -> Call {
    let has_instance = path.contains("{i}") || path.contains("{t}");
    let path = path.to_owned();
    let run =
        move |setting: Arc<Setting>, credential: Credential, instance: &'static str| -> BoxFuture<'static, Outcome> {
            let prefix = if instance.is_empty() { String::new() } else { format!("{instance}/") };
            let line = path.replace("{i}", &prefix).replace("{t}", instance);
            Box::pin(async move {
                tokio::task::spawn_blocking(move || outcome(&ask(&setting, &credential, &line, body)))
                    .await
                    .expect("an answer")
            })
        };
    Call { name, needs, has_instance, run: Arc::new(run) }
}

/// Every route that is served.
pub fn all() -> Vec<Call> {
    let hash = Blob::new(b"body".to_vec()).digest.hash;
    let forty = "0123456789012345678901234567890123456789";
    let at =
        |method: &str, path: &str| format!("{method} /{}", path.replace("{hash}", &hash).replace("{forty}", forty));
    vec![
        route("GET /cas/", "read", &at("GET", "{i}cas/{hash}"), b""),
        route("HEAD /cas/", "read", &at("HEAD", "{i}cas/{hash}"), b""),
        route("PUT /cas/", "cas-write", &at("PUT", "{i}cas/{hash}"), b"body"),
        route("GET /ac/", "read", &at("GET", "{i}ac/{hash}"), b""),
        route("PUT /ac/", "ac-write", &at("PUT", "{i}ac/{hash}"), b"body"),
        route("GET ccache", "read", &at("GET", "{i}{forty}"), b""),
        route("PUT ccache", "ac-write", &at("PUT", "{i}{forty}"), b"body"),
        route("DELETE ccache", "ac-write", &at("DELETE", "{i}{forty}"), b""),
        route("GET /webdav/", "read", &at("GET", "webdav/{i}key"), b""),
        route("PROPFIND /webdav/", "read", &at("PROPFIND", "webdav/{i}key"), b""),
        route("PUT /webdav/", "ac-write", &at("PUT", "webdav/{i}key"), b"body"),
        route("DELETE /webdav/", "ac-write", &at("DELETE", "webdav/{i}key"), b""),
        route("GET /gradle/", "read", &at("GET", "gradle/{i}key"), b""),
        route("PUT /gradle/", "ac-write", &at("PUT", "gradle/{i}key"), b"body"),
        route("GET /v8/artifacts/", "read", &at("GET", "v8/artifacts/0a?slug={t}"), b""),
        route("PUT /v8/artifacts/", "ac-write", &at("PUT", "v8/artifacts/0a?slug={t}"), b"body"),
        route("POST /v8/artifacts", "read", &at("POST", "v8/artifacts?slug={t}"), b"{\"hashes\":[]}"),
        route("GET /v8/artifacts/status", "read", "GET /v8/artifacts/status", b""),
        route("GET /status", "open", "GET /status", b""),
        route("GET /healthz", "open", "GET /healthz", b""),
    ]
}

/// What the server says of all instances at once, and what is done to all of them.
pub fn of_operators() -> Vec<Call> {
    vec![
        route("GET /", "read everywhere", "GET /", b""),
        route("GET /status.json", "read everywhere", "GET /status.json", b""),
        route("GET /metrics", "read everywhere", "GET /metrics", b""),
        route("GET /readyz", "open", "GET /readyz", b""),
        // Told apart from a refusal by its media type, which is looked at next.
        route("POST /admin/gc", "admin", "POST /admin/gc", b"{}"),
        route("POST /admin/fsck", "admin", "POST /admin/fsck", b"{}"),
        route("POST /admin/purge", "admin", "POST /admin/purge", b"{}"),
    ]
}
