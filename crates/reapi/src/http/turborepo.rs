use axum::body::Body;
use axum::response::IntoResponse;
use http::request::Parts;
use http::{HeaderName, HeaderValue, Method, StatusCode};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::refusal::Refusal;
use super::route::{Space, ValueKey};
use super::upload::Incoming;
use super::{Answer, Http, READ_WRITE, json_response};

/// What a client says of its artifact and wants to be told again.
static KEPT: [HeaderName; 4] = [
    HeaderName::from_static("x-artifact-tag"),
    HeaderName::from_static("x-artifact-duration"),
    HeaderName::from_static("x-artifact-sha"),
    HeaderName::from_static("x-artifact-dirty-hash"),
];

/// The most bytes of a question or of a report of events.
const MAX_JSON_BYTES: usize = 1024 * 1024;

/// The longest name of a team, in bytes.
const MAX_TEAM_LEN: usize = 256;

/// Turborepo's `/v8/artifacts`. Teams do not see each other's artifacts. Spec: clients, HTTP.
impl Http {
    pub(super) async fn artifact(&self, head: &Parts, body: Body, hash: &str) -> Answer {
        let key = key(hash, &team(head)?);
        match head.method {
            Method::GET | Method::HEAD => self.read_value(head, &key).await,
            Method::PUT => {
                let kept = KEPT.iter().filter_map(|name| Some((name.clone(), head.headers.get(name)?.clone())));
                self.write_value(head, body, &key, kept.collect()).await?;
                Ok((StatusCode::ACCEPTED, json_response(&json!({ "urls": [head.uri.path()] }))).into_response())
            }
            _ => Err(Refusal::Method(READ_WRITE)),
        }
    }

    /// Which artifacts are here: a map from each hash that is asked for to what is known of it, or null.
    pub(super) async fn artifacts(&self, head: &Parts, body: Body) -> Answer {
        let asked = self.posted(head, body).await?;
        let team = team(head)?;
        let hashes = asked.get("hashes").and_then(Value::as_array);
        let hashes = hashes.ok_or_else(|| Refusal::Malformed("send {\"hashes\": […]}".to_owned()))?;
        let mut known = Map::new();
        for hash in hashes.iter().filter_map(Value::as_str) {
            let record = self.find_value(&key(hash, &team)).await?;
            known.insert(
                hash.to_owned(),
                record.map_or(Value::Null, |record| described(&record.header_map(), record.digest.size_bytes())),
            );
        }
        Ok(json_response(&Value::Object(known)))
    }

    /// Takes a client's report of its hits and misses, of which nothing is kept.
    pub(super) async fn artifact_events(&self, head: &Parts, body: Body) -> Answer {
        self.posted(head, body).await?;
        Ok(json_response(&json!({})))
    }

    async fn posted(&self, head: &Parts, body: Body) -> Result<Value, Refusal> {
        if head.method != Method::POST {
            return Err(Refusal::Method("POST"));
        }
        let incoming = Incoming::new(&self.core, head, body)?;
        let bytes = incoming.body.collect(MAX_JSON_BYTES).await?;
        let bytes = bytes.ok_or(Refusal::TooLarge(MAX_JSON_BYTES as u64))?;
        serde_json::from_slice(&bytes).map_err(|error| Refusal::Malformed(error.to_string()))
    }
}

fn key(hash: &str, team: &str) -> ValueKey {
    ValueKey::new(Space::Turborepo, format!("{hash}/{team}"))
}

fn described(headers: &http::HeaderMap, size_bytes: u64) -> Value {
    let text = |name: &HeaderName| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
    let duration = text(&KEPT[1]).and_then(|text| text.parse::<u64>().ok());
    json!({ "size": size_bytes, "taskDurationMs": duration.unwrap_or(0), "tag": text(&KEPT[0]) })
}

/// The team of a request, from either parameter that names one; empty when none does.
pub(super) fn team(head: &Parts) -> Result<String, Refusal> {
    let parameters = head.uri.query().unwrap_or_default().split('&').filter_map(|pair| pair.split_once('='));
    let mut named = parameters.filter(|(name, _)| matches!(*name, "slug" | "teamId"));
    let Some((_, encoded)) = named.next() else {
        return Ok(String::new());
    };
    let team = percent_decode_str(encoded).decode_utf8().unwrap_or_default();
    if team.len() > MAX_TEAM_LEN || team.chars().any(char::is_control) {
        return Err(Refusal::Malformed("a team has at most 256 bytes and no control characters".to_owned()));
    }
    Ok(team.into_owned())
}
