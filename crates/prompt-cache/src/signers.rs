use bytes::Bytes;
use cache_types::{Caller, Role};
use data_encoding::HEXLOWER;
use ed25519_dalek::VerifyingKey;
use prompt_key::PromptKeyId;

use crate::cache::Inner;
use crate::dsse::{Envelope, Signed, key_id};
use crate::entry;
use crate::proto::{Result as PromptResult, SignRequest, SignResponse, Signature};
use crate::refusal::Refusal;

/// Signatures that are kept with one result.
const MAX_SIGNATURES: usize = 16;

/// A person or an agent whose signature counts: policy `signed`.
#[derive(Clone, Debug, PartialEq)]
pub struct Signer {
    name: String,
    key: VerifyingKey,
}

/// The text is no public key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a public key of Ed25519 is 64 lower-case hexadecimal digits")]
pub struct SignerError;

impl Signer {
    /// A signer by name and public key.
    ///
    /// # Errors
    /// [`SignerError`].
    pub fn new(name: &str, public_key: &str) -> Result<Self, SignerError> {
        let bytes = HEXLOWER.decode(public_key.as_bytes()).map_err(|_| SignerError)?;
        let bytes = bytes.try_into().map_err(|_| SignerError)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| SignerError)?;
        Ok(Self { name: name.to_owned(), key })
    }

    /// The name, as the configuration gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The public key in hexadecimal.
    pub fn public_key(&self) -> String {
        HEXLOWER.encode(self.key.as_bytes())
    }
}

impl Inner {
    /// Whether someone whose signature counts today has signed the result.
    pub(crate) fn is_signed(&self, result: &PromptResult) -> bool {
        let counts = |signature: &Signature| self.signers.iter().any(|signer| key_id(&signer.key) == signature.keyid);
        result.signatures.iter().any(counts)
    }

    /// Adds a signature to the statement of a result.
    pub(crate) async fn sign(&self, caller: &Caller, request: &SignRequest) -> Result<SignResponse, Refusal> {
        Self::check(caller, Role::PromptWrite, &request.namespace)?;
        let key: PromptKeyId = request.key.parse().map_err(Refusal::invalid)?;
        let known = self.signers.iter().find(|signer| key_id(&signer.key) == request.keyid);
        let signer =
            known.ok_or_else(|| Refusal::invalid("the server's configuration names no signer with this key"))?;
        let names = self.names(caller, &request.namespace);
        let _one = self.changing(&names.entry(&key)).await;
        let Some(mut stored) = entry::find(self, &names, &key).await? else { return Ok(SignResponse::default()) };
        let Some(result) = stored.result.as_mut() else { return Ok(SignResponse::default()) };
        let Some(envelope) = self.envelope(result).await? else { return Ok(SignResponse::default()) };
        let mut envelope: Envelope = serde_json::from_slice(&envelope).map_err(Refusal::invalid)?;
        let signed = Signed { keyid: request.keyid.clone(), sig: request.sig.clone() };
        if !envelope.holds(&signed, &signer.key) {
            return Err(Refusal::invalid("the signature is not one of this statement with that key"));
        }
        let answer = SignResponse { found: true, signer: signer.name.clone() };
        if envelope.signatures.iter().any(|known| known.keyid == signed.keyid) {
            return Ok(answer);
        }
        if envelope.signatures.len() >= MAX_SIGNATURES {
            return Err(Refusal::invalid(format!("a statement has at most {MAX_SIGNATURES} signatures")));
        }
        envelope.signatures.push(signed);
        let bytes = serde_json::to_vec(&envelope).map_err(Refusal::invalid)?;
        result.dsse = self.keep(Bytes::from(bytes)).await?;
        result.signatures.push(Signature { signer: signer.name.clone(), keyid: request.keyid.clone() });
        let writer = result.writer.clone();
        entry::save(self, names.entry(&key), &stored, &writer).await?;
        Ok(answer)
    }
}
