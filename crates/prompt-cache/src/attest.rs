use bytes::Bytes;
use cache_types::{ByteRange, Caller, Digest, Role};
use data_encoding::HEXLOWER;
use prompt_key::PromptKeyId;
use store::StoreError;

use crate::cache::Inner;
use crate::dsse::Envelope;
use crate::names::Names;
use crate::proto::{
    AttestRequest, AttestResponse, Producer, ProducersRequest, ProducersResponse, Result as PromptResult,
};
use crate::refusal::Refusal;
use crate::{entry, statement};

/// The largest envelope that is read.
const MAX_ENVELOPE_BYTES: usize = 64 * 1024 * 1024;
/// Files in one question.
const MAX_DIGESTS: usize = 1_000;

impl Inner {
    /// The signed statement of a result; or one that it was given out again, which names the first and does not sign it anew.
    pub(crate) async fn attest(&self, caller: &Caller, request: &AttestRequest) -> Result<AttestResponse, Refusal> {
        Self::check(caller, Role::Read, &request.namespace)?;
        let key: PromptKeyId = request.key.parse().map_err(Refusal::invalid)?;
        let stored = entry::find(self, &self.names(caller, &request.namespace), &key).await?;
        let mut answer = AttestResponse { envelope: Bytes::new(), public_key: self.public_key() };
        let Some(result) = stored.and_then(|stored| stored.result) else { return Ok(answer) };
        let Some(envelope) = self.envelope(&result).await? else { return Ok(answer) };
        answer.envelope = envelope;
        if request.reuse {
            let statement = statement::reuse(&result, &result.dsse, caller.name(), self.now_ms());
            let reuse = Envelope::sign(&statement, &self.signer);
            answer.envelope = serde_json::to_vec(&reuse).map_err(Refusal::invalid)?.into();
        }
        Ok(answer)
    }

    /// Which results produced files of these digests.
    pub(crate) async fn producers(
        &self,
        caller: &Caller,
        request: &ProducersRequest,
    ) -> Result<ProducersResponse, Refusal> {
        Self::check(caller, Role::Read, &request.namespace)?;
        if request.digests.len() > MAX_DIGESTS {
            return Err(Refusal::invalid(format!("at most {MAX_DIGESTS} digests in one question")));
        }
        let names = self.names(caller, &request.namespace);
        let mut answer = ProducersResponse { producers: Vec::new(), public_key: self.public_key() };
        for digest in &request.digests {
            let parsed: Digest = digest.parse().map_err(|error| Refusal::invalid(format!("{digest:?}: {error}")))?;
            answer.producers.push(self.producer(&names, &parsed.to_string()).await?);
        }
        Ok(answer)
    }

    async fn producer(&self, names: &Names, digest: &str) -> Result<Producer, Refusal> {
        let mut producer = Producer { digest: digest.to_owned(), ..Producer::default() };
        let Some(key) = entry::load_pointer(self, &names.file(digest)).await? else { return Ok(producer) };
        let stored = entry::find(self, names, &key).await?;
        let Some(result) = stored.and_then(|stored| stored.result) else { return Ok(producer) };
        let Some(op) = result.changes.iter().find(|op| op.after == digest) else { return Ok(producer) };
        let Some(envelope) = self.envelope(&result).await? else { return Ok(producer) };
        producer.path.clone_from(&op.path);
        producer.key = key.to_string();
        producer.envelope = envelope;
        Ok(producer)
    }

    /// The envelope that was signed when the result was recorded; `None` when its blob is gone.
    pub(crate) async fn envelope(&self, result: &PromptResult) -> Result<Option<Bytes>, Refusal> {
        let Ok(digest) = result.dsse.parse::<Digest>() else { return Ok(None) };
        match self.blobs.read(&digest, ByteRange::ALL).await {
            Ok(Some(body)) => Ok(body.collect(MAX_ENVELOPE_BYTES).await?),
            Ok(None) | Err(StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn public_key(&self) -> String {
        HEXLOWER.encode(self.signer.verifying_key().as_bytes())
    }
}
