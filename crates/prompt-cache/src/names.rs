use bytes::{BufMut, Bytes, BytesMut};
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit, Mac};
use prompt_key::{KeyDigest, PromptKeyId};
use sha2::Sha256;
use store::{RecordKey, RecordKind};

use crate::Secret;

/// The names of the records of one tenant's namespace.
///
/// A name is HMAC-SHA256 of the kind and the key with a secret of tenant and namespace, so nobody can make the name of
/// another's record, whatever keys they know. Spec: prompt-key §8.
pub(crate) struct Names(Hmac<Sha256>);

/// The key that a server signs with, from its secret.
pub(crate) fn signing_key(secret: &Secret) -> SigningKey {
    let mut mac = keyed(&secret.0);
    mac.update(b"signing key\0");
    SigningKey::from_bytes(&mac.finalize().into_bytes().into())
}

impl Names {
    pub(crate) fn new(secret: &Secret, tenant: &str, namespace: &str) -> Self {
        let mut of_server = keyed(&secret.0);
        of_server.update(b"tenant\0");
        of_server.update(&(tenant.len() as u64).to_le_bytes());
        of_server.update(tenant.as_bytes());
        of_server.update(namespace.as_bytes());
        Self(keyed(&of_server.finalize().into_bytes()))
    }

    /// The result of a key.
    pub(crate) fn entry(&self, key: &PromptKeyId) -> RecordKey {
        self.name(b'e', key.0.as_bytes())
    }

    /// The results of a task.
    pub(crate) fn task(&self, task: &PromptKeyId) -> RecordKey {
        self.name(b't', task.0.as_bytes())
    }

    /// That a link of a chain is known, and the key of an entry beyond it.
    pub(crate) fn link(&self, link: &KeyDigest) -> RecordKey {
        self.name(b'l', link.as_bytes())
    }

    /// The entry whose messages, or whose first turn, are these, whatever its other components.
    pub(crate) fn messages(&self, messages: &KeyDigest) -> RecordKey {
        self.name(b'm', messages.as_bytes())
    }

    /// An entry that produced a file with these bytes.
    pub(crate) fn file(&self, digest: &str) -> RecordKey {
        self.name(b'f', digest.as_bytes())
    }

    /// The entry that has this key under another rule.
    pub(crate) fn alternate(&self, key: &PromptKeyId) -> RecordKey {
        self.name(b'r', key.0.as_bytes())
    }

    /// What an alias of a model means.
    pub(crate) fn alias(&self, api: &str, alias: &str) -> RecordKey {
        self.name(b'a', format!("{api}\0{alias}").as_bytes())
    }

    /// The last system fingerprint of a model.
    pub(crate) fn fingerprint(&self, api: &str, model: &str) -> RecordKey {
        self.name(b'b', format!("{api}\0{model}").as_bytes())
    }

    /// What is around a piece of text that may change from call to call.
    pub(crate) fn span(&self, rest: &KeyDigest) -> RecordKey {
        self.name(b'v', rest.as_bytes())
    }

    /// The key that requests are encrypted with.
    pub(crate) fn text_key(&self) -> [u8; 32] {
        let mut mac = self.0.clone();
        mac.update(b"text key\0");
        mac.finalize().into_bytes().into()
    }

    /// What the tenant invalidated.
    pub(crate) fn invalidations(&self) -> RecordKey {
        self.name(b'i', b"")
    }

    fn name(&self, kind: u8, key: &[u8]) -> RecordKey {
        let mut mac = self.0.clone();
        mac.update(&[kind]);
        mac.update(key);
        let mut name = BytesMut::with_capacity(33);
        name.put_u8(kind);
        name.put_slice(&mac.finalize().into_bytes());
        RecordKey { kind: RecordKind::Prompt, key: name.freeze() }
    }
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes a key of any length")
}

/// The bytes of a key in a record that names an entry.
pub(crate) fn pointer(key: &PromptKeyId) -> Bytes {
    Bytes::copy_from_slice(key.0.as_bytes())
}

/// The key in a record that names an entry.
pub(crate) fn pointed(bytes: &[u8]) -> Option<PromptKeyId> {
    bytes.try_into().ok().map(|bytes| PromptKeyId(KeyDigest::from_bytes(bytes)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_namespaces_servers_and_kinds_never_share_a_name() {
        let key = PromptKeyId(prompt_key::hash("x", []));
        let places =
            [([1; 32], "a", ""), ([1; 32], "b", ""), ([2; 32], "a", ""), ([1; 32], "", "a"), ([1; 32], "a", "a")];
        let names = places.map(|(secret, tenant, namespace)| Names::new(&Secret(secret), tenant, namespace));
        let all: std::collections::BTreeSet<RecordKey> = names
            .iter()
            .flat_map(|names| [names.entry(&key), names.task(&key), names.link(&key.0), names.alternate(&key)])
            .collect();
        assert_eq!(all.len(), 20);
        assert_eq!(pointed(&pointer(&key)), Some(key));
        assert!(all.iter().all(|name| !name.key.windows(32).any(|window| window == key.0.as_bytes())));
    }
}
