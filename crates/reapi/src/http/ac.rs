use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use cache_types::{DigestFunction, Hash, InstanceName};
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use prost::Message;

use super::cas::readings;
use super::refusal::Refusal;
use super::route::ValueKey;
use super::upload::Incoming;
use super::{Answer, Http, READ_WRITE, download};
use crate::action_cache::{self, ActionName};
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::observer::{Miss, Outcome};
use crate::proto::re;
use crate::request_metadata::Requester;
use crate::writer;

impl Http {
    /// Bazel's `/ac/`, which other clients use for formats of their own. An action result is the same entry as over gRPC,
    /// and JSON is one of its forms; any other bytes are given back as they came. Spec: H-22, H-25, H-27.
    pub(super) async fn action(&self, head: &Parts, body: Body, instance: InstanceName, hash: Hash) -> Answer {
        match head.method {
            Method::GET | Method::HEAD => self.read_action(head, &instance, &hash).await,
            Method::PUT => {
                self.write_action(head, body, instance, hash).await?;
                Ok(StatusCode::OK.into_response())
            }
            _ => Err(Refusal::Method(READ_WRITE)),
        }
    }

    /// Counts what was asked for, whatever its format is. HEAD only looks.
    fn count(&self, head: &Parts, instance: &InstanceName, answer: &Answer, miss: Option<Miss>) {
        let outcome = match (answer, miss) {
            (Ok(_), _) => Outcome::Hit,
            (Err(Refusal::Missing), Some(miss)) => Outcome::Miss(miss),
            _ => return,
        };
        if head.method == Method::GET {
            let requester = Requester::of(&head.headers);
            self.core.observer.actions().count(requester.asker(instance), outcome);
        }
    }

    async fn read_action(&self, head: &Parts, instance: &InstanceName, hash: &Hash) -> Answer {
        let mut miss = Miss::Absent;
        for hash in readings(hash) {
            let name = ActionName { instance: instance.clone(), hash, size_bytes: None };
            match action_cache::find(&self.core, &name).await? {
                Ok((result, encoded)) => {
                    let answer = self.action_response(head, result, encoded);
                    self.count(head, instance, &answer, None);
                    return answer;
                }
                Err(Miss::Absent) => {}
                Err(other) => miss = other,
            }
        }
        let answer = match self.core.settings.is_strict(instance) {
            true => Err(Refusal::Missing),
            false => self.read_value(head, &ValueKey::action(instance, hash)).await,
        };
        self.count(head, instance, &answer, Some(miss));
        answer
    }

    fn action_response(&self, head: &Parts, result: re::ActionResult, encoded: Bytes) -> Result<Response, Refusal> {
        if !wants_json(&head.headers) {
            return Ok(download::bytes(encoded));
        }
        match self.json.encode(result) {
            Ok(text) => Ok(download::json(text)),
            Err(error) => {
                tracing::debug!(%error, "an action result that JSON cannot say");
                Err(Refusal::Missing)
            }
        }
    }

    async fn write_action(&self, head: &Parts, body: Body, instance: InstanceName, hash: Hash) -> Result<(), Refusal> {
        let key = ValueKey::action(&instance, &hash);
        let is_strict = self.core.settings.is_strict(&instance);
        let writer = writer::of(&head.extensions);
        let (digest, body) = Incoming::new(&self.core, head, body)?.spool_sha256(self).await?;
        if digest.size_bytes() >= MAX_OUTBOUND_BYTES as u64 {
            if is_strict {
                return Err(Refusal::TooLarge(MAX_OUTBOUND_BYTES as u64));
            }
            self.keep_value((digest, body), &key, Vec::new(), writer).await?;
            return self.forget_actions(&instance, &hash, None).await;
        }
        let bytes = body.collect(MAX_OUTBOUND_BYTES).await?.unwrap_or_default();
        match self.as_action_result(&head.headers, &bytes, is_strict)? {
            Some(encoded) => {
                let name = self.name_action(instance, hash, &encoded).await?;
                action_cache::put(&self.core, &name, encoded, writer).await?;
                if self.core.records.get(&key.record()).await?.is_some() {
                    self.core.records.remove(&key.record()).await?;
                }
                self.forget_actions(&name.instance, &hash, Some(name.hash.function())).await
            }
            None => {
                self.keep_value((digest, bytes.into()), &key, Vec::new(), writer).await?;
                self.forget_actions(&instance, &hash, None).await
            }
        }
    }

    /// The encoded action result that a body is, if it is one; where nothing else is taken, a refusal if not.
    fn as_action_result(&self, headers: &HeaderMap, bytes: &Bytes, is_strict: bool) -> Result<Option<Bytes>, Refusal> {
        if has_json(headers) {
            return match self.json.decode(bytes) {
                Ok(result) if is_strict || names_any(&result) => Ok(Some(result.encode_to_vec().into())),
                Err(error) if is_strict => Err(Refusal::Malformed(error.to_string())),
                Ok(_) | Err(_) => Ok(None),
            };
        }
        match re::ActionResult::decode(bytes.clone()) {
            // Whatever else is wrong with it is found when it is stored.
            Ok(_) if is_strict => Ok(Some(bytes.clone())),
            Err(_) if is_strict => {
                Err(Refusal::Malformed("not an ActionResult, and strict_ac takes no others".to_owned()))
            }
            Ok(result) if names_any(&result) && result.encode_to_vec() == *bytes => Ok(Some(bytes.clone())),
            Ok(_) | Err(_) => Ok(None),
        }
    }

    /// The name of an action whose URL does not tell its digest function: that of the action's blob if it is here, else
    /// one by which all that the result names is here. Spec: H-02.
    async fn name_action(&self, instance: InstanceName, hash: Hash, encoded: &Bytes) -> Result<ActionName, Refusal> {
        // Clients that upload the action too give it its size.
        if let Some(action) = self.digest_of(&hash).await? {
            return Ok(ActionName::of(instance, &action));
        }
        for hash in readings(&hash) {
            let name = ActionName { instance: instance.clone(), hash, size_bytes: None };
            if action_cache::is_complete(&self.core, &name, encoded).await? {
                return Ok(name);
            }
        }
        Ok(ActionName { instance, hash, size_bytes: None })
    }

    /// Drops what an earlier write left under the names that this hash may stand for, but for one.
    async fn forget_actions(
        &self,
        instance: &InstanceName,
        hash: &Hash,
        but: Option<DigestFunction>,
    ) -> Result<(), Refusal> {
        for hash in readings(hash).filter(|hash| Some(hash.function()) != but) {
            let name = ActionName { instance: instance.clone(), hash, size_bytes: None };
            action_cache::remove(&self.core, &name).await?;
        }
        Ok(())
    }
}

fn has_json(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| is_json(value.as_bytes()))
}

/// Whether the client names JSON; `*/*` does not.
fn wants_json(headers: &HeaderMap) -> bool {
    let values = headers.get_all(header::ACCEPT).iter();
    values.flat_map(|value| value.as_bytes().split(|byte| *byte == b',')).any(is_json)
}

fn is_json(media_type: &[u8]) -> bool {
    let name = media_type.split(|byte| *byte == b';').next().unwrap_or_default();
    name.trim_ascii().eq_ignore_ascii_case(b"application/json")
}

/// Whether a result names an output, stdout or stderr: one that does not may be any other format.
#[expect(deprecated, reason = "the old forms of symlinks are outputs too")]
fn names_any(result: &re::ActionResult) -> bool {
    let outputs = result.output_files.len()
        + result.output_directories.len()
        + result.output_symlinks.len()
        + result.output_file_symlinks.len()
        + result.output_directory_symlinks.len()
        + result.stdout_raw.len()
        + result.stderr_raw.len();
    outputs > 0 || result.stdout_digest.is_some() || result.stderr_digest.is_some()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn json_is_what_names_it() {
        for (value, is) in [
            ("application/json", true),
            ("text/html, Application/JSON; q=0.9", true),
            ("*/*", false),
            ("application/*", false),
            ("application/json5", false),
        ] {
            let headers = |name| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
            assert_eq!(wants_json(&headers(header::ACCEPT)), is, "{value}");
            assert_eq!(has_json(&headers(header::CONTENT_TYPE)), is && !value.contains(','), "{value}");
        }
    }
}
