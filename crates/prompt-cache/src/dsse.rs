//! DSSE envelopes, signed with Ed25519.

use data_encoding::{BASE64, HEXLOWER};
use ed25519_dalek::{Signature, Signer, SigningKey, Verifier, VerifyingKey};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// What a statement is, to DSSE.
pub(crate) const PAYLOAD_TYPE: &str = "application/vnd.in-toto+json";

/// A signed payload. There is room for more signatures than the server's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Envelope {
    /// The type of the payload.
    pub payload_type: String,
    /// The payload in base 64.
    pub payload: String,
    /// Who signed it.
    pub signatures: Vec<Signed>,
}

/// A signature over the type and the payload.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Signed {
    /// The SHA-256 of the public key.
    pub keyid: String,
    /// The signature in base 64.
    pub sig: String,
}

/// The name of a public key in signatures.
pub fn key_id(key: &VerifyingKey) -> String {
    HEXLOWER.encode(&Sha256::digest(key.as_bytes()))
}

/// What is signed: the type and the payload with their lengths, so that neither runs into the other.
fn pae(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len());
    [head.as_bytes(), payload].concat()
}

impl Envelope {
    /// Signs a statement.
    pub(crate) fn sign(statement: &[u8], key: &SigningKey) -> Self {
        Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: BASE64.encode(statement),
            signatures: vec![Signed::new(&pae(PAYLOAD_TYPE, statement), key)],
        }
    }

    /// The signature of a key over the envelope's payload; `None` when the payload is not well formed.
    pub fn signed_by(&self, key: &SigningKey) -> Option<Signed> {
        Some(Signed::new(&pae(&self.payload_type, &self.payload()?), key))
    }

    fn payload(&self) -> Option<Vec<u8>> {
        BASE64.decode(self.payload.as_bytes()).ok()
    }

    /// Whether the signature is one of this payload with the key.
    pub(crate) fn holds(&self, signed: &Signed, key: &VerifyingKey) -> bool {
        self.payload().is_some_and(|payload| signed.holds(&pae(&self.payload_type, &payload), key))
    }

    /// The payload, when this key signed it.
    pub fn verified(&self, key: &VerifyingKey) -> Option<Vec<u8>> {
        let payload = self.payload()?;
        let text = pae(&self.payload_type, &payload);
        self.signatures.iter().any(|signed| signed.holds(&text, key)).then_some(payload)
    }
}

impl Signed {
    fn new(text: &[u8], key: &SigningKey) -> Self {
        Self { keyid: key_id(&key.verifying_key()), sig: BASE64.encode(&key.sign(text).to_bytes()) }
    }

    fn holds(&self, text: &[u8], key: &VerifyingKey) -> bool {
        let bytes = BASE64.decode(self.sig.as_bytes()).ok();
        let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
        signature.is_some_and(|signature| key.verify(text, &signature).is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_that_of_the_dsse_specification() {
        assert_eq!(
            pae("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn a_changed_payload_type_or_key_does_not_verify() {
        let key = SigningKey::from_bytes(&[3; 32]);
        let envelope = Envelope::sign(b"{}", &key);
        assert_eq!(envelope.verified(&key.verifying_key()).as_deref(), Some(&b"{}"[..]));
        assert_eq!(envelope.verified(&SigningKey::from_bytes(&[4; 32]).verifying_key()), None);
        let changed = Envelope { payload: BASE64.encode(b"[]"), ..envelope.clone() };
        assert_eq!(changed.verified(&key.verifying_key()), None);
        let typed = Envelope { payload_type: "text/plain".to_owned(), ..envelope.clone() };
        assert_eq!(typed.verified(&key.verifying_key()), None);
        let unsigned = Envelope { signatures: Vec::new(), ..envelope };
        assert_eq!(unsigned.verified(&key.verifying_key()), None);
    }
}
