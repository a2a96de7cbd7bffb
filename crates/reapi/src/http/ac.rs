use axum::body::Body;
use axum::response::IntoResponse;
use cache_types::{Digest, DigestFunction, Hash, InstanceName};
use http::request::Parts;
use http::{Method, StatusCode};
use prost::Message;

use super::refusal::Refusal;
use super::route::ValueKey;
use super::upload::{Incoming, Spooled};
use super::{Answer, Http, READ_WRITE, download};
use crate::action_cache::{self, ActionName};
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::observer::{Miss, Outcome};
use crate::proto::re;
use crate::request_metadata::Requester;
use crate::writer;

impl Http {
    /// Bazel's `/ac/`, which other clients use for formats of their own. An action result is the same entry as over gRPC;
    /// any other bytes are given back as they came. Spec: H-25, H-27.
    pub(super) async fn action(&self, head: &Parts, body: Body, instance: InstanceName, hash: Hash) -> Answer {
        let key = ValueKey::action(&instance, &hash);
        match head.method {
            Method::GET | Method::HEAD => {
                let name = ActionName { instance, hash, size_bytes: None };
                let found = action_cache::find(&self.core, &name).await?;
                let miss = found.as_ref().err().copied();
                let answer = match found {
                    Ok((_, encoded)) => Ok(download::bytes(encoded)),
                    Err(_) => self.read_value(head, &key).await,
                };
                self.count(head, &name.instance, &answer, miss);
                answer
            }
            Method::PUT => {
                // Clients that upload the action too give it its size.
                let size_bytes = self.lookup.digest_of(&hash).await?.map(|action| action.size_bytes());
                let name = ActionName { instance, hash, size_bytes };
                self.write_action(head, body, &name, &key).await?;
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

    async fn write_action(&self, head: &Parts, body: Body, name: &ActionName, key: &ValueKey) -> Result<(), Refusal> {
        let mut spooled = Incoming::new(&self.core, head, body)?.spool(self, DigestFunction::Sha256).await?;
        let writer = writer::of(&head.extensions);
        if spooled.digest.size_bytes() < MAX_OUTBOUND_BYTES as u64 {
            let bytes = spooled.body.collect(MAX_OUTBOUND_BYTES).await?.unwrap_or_default();
            if is_action_result(&bytes) {
                action_cache::put(&self.core, name, bytes, writer).await?;
                self.core.records.remove(&key.record()).await?;
                return Ok(());
            }
            spooled = Spooled { digest: Digest::of(DigestFunction::Sha256, &bytes), body: bytes.into() };
        }
        self.keep_value(spooled, key, Vec::new(), writer).await?;
        Ok(action_cache::remove(&self.core, name).await?)
    }
}

/// Whether the bytes are an `ActionResult` beyond doubt: they parse, name an output, stdout or stderr, and encode back to
/// themselves.
#[expect(deprecated, reason = "the old forms of symlinks are outputs too")]
fn is_action_result(bytes: &[u8]) -> bool {
    let Ok(result) = re::ActionResult::decode(bytes) else {
        return false;
    };
    let outputs = result.output_files.len()
        + result.output_directories.len()
        + result.output_symlinks.len()
        + result.output_file_symlinks.len()
        + result.output_directory_symlinks.len()
        + result.stdout_raw.len()
        + result.stderr_raw.len();
    let names_any = outputs > 0 || result.stdout_digest.is_some() || result.stderr_digest.is_some();
    names_any && result.encode_to_vec() == bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_encodes_back_to_itself_is_an_action_result() {
        let stdout = re::ActionResult { stdout_raw: b"out".as_slice().into(), ..Default::default() }.encode_to_vec();
        assert!(is_action_result(&stdout));
        let mut unknown = stdout.clone();
        unknown.extend([0xf8, 0x07, 0x01]);
        let exit = re::ActionResult { exit_code: 1, ..Default::default() }.encode_to_vec();
        for other in [&unknown[..], &exit, b"", b"{\"outputFiles\":[]}", b"cCrS\0\x01"] {
            assert!(!is_action_result(other), "{other:?}");
        }
    }
}
