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
        let signature = key.sign(&pae(PAYLOAD_TYPE, statement));
        Self {
            payload_type: PAYLOAD_TYPE.to_owned(),
            payload: BASE64.encode(statement),
            signatures: vec![Signed { keyid: key_id(&key.verifying_key()), sig: BASE64.encode(&signature.to_bytes()) }],
        }
    }

    /// The payload, when this key signed it.
    pub fn verified(&self, key: &VerifyingKey) -> Option<Vec<u8>> {
        let payload = BASE64.decode(self.payload.as_bytes()).ok()?;
        let signed = pae(&self.payload_type, &payload);
        let holds = |signature: &Signed| {
            let bytes = BASE64.decode(signature.sig.as_bytes()).ok();
            let signature = bytes.and_then(|bytes| Signature::from_slice(&bytes).ok());
            signature.is_some_and(|signature| key.verify(&signed, &signature).is_ok())
        };
        self.signatures.iter().any(holds).then_some(payload)
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
