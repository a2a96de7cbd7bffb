//! Requests that a caller asked to have kept: sealed under a key of the tenant's namespace. Spec: prompt-key §8.

use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use prompt_key::PromptKeyId;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use store::StoreError;

use crate::cache::Inner;
use crate::names::Names;
use crate::proto::Entry;
use crate::refusal::Refusal;

/// The largest sealed request that is opened.
const MAX_TEXT_BYTES: usize = 64 * 1024 * 1024;

/// Seals and opens the requests of one namespace.
struct Seal(LessSafeKey);

impl Seal {
    fn of(names: &Names) -> Self {
        let key = UnboundKey::new(&AES_256_GCM, &names.text_key()).expect("a key of 32 bytes fits");
        Self(LessSafeKey::new(key))
    }

    /// A random nonce, then the request encrypted; bound to the entry's key.
    fn seal(&self, key: &PromptKeyId, text: &[u8]) -> Result<Bytes, Refusal> {
        let mut nonce = [0; NONCE_LEN];
        let failed = |_: ring::error::Unspecified| Refusal::invalid("the request cannot be encrypted");
        SystemRandom::new().fill(&mut nonce).map_err(failed)?;
        let mut body = text.to_vec();
        let bound = Aad::from(key.0.as_bytes());
        self.0.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound, &mut body).map_err(failed)?;
        Ok([&nonce[..], &body].concat().into())
    }

    /// `None` when it is not what was sealed for the key.
    fn open(&self, key: &PromptKeyId, sealed: &[u8]) -> Option<Bytes> {
        let (nonce, body) = sealed.split_first_chunk::<NONCE_LEN>()?;
        let mut body = body.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.0.open_in_place(nonce, Aad::from(key.0.as_bytes()), &mut body).ok()?;
        Some(Bytes::copy_from_slice(text))
    }
}

impl Inner {
    /// Keeps the request of an entry, sealed; answers its digest.
    pub(crate) async fn keep_text(&self, names: &Names, key: &PromptKeyId, text: &[u8]) -> Result<String, Refusal> {
        self.keep(Seal::of(names).seal(key, text)?).await
    }

    /// The request of an entry; empty when it was not kept or is gone.
    pub(crate) async fn text(&self, names: &Names, key: &PromptKeyId, entry: &Entry) -> Result<Bytes, Refusal> {
        let Ok(digest) = entry.text.parse::<Digest>() else { return Ok(Bytes::new()) };
        let sealed = match self.blobs.read(&digest, ByteRange::ALL).await {
            Ok(Some(body)) => body.collect(MAX_TEXT_BYTES).await?,
            Ok(None) | Err(StoreError::Damaged(_)) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(sealed.and_then(|sealed| Seal::of(names).open(key, &sealed)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Secret;

    #[test]
    fn what_is_sealed_is_opened_in_its_namespace_for_its_key_alone() {
        let names = |tenant| Names::new(&Secret([3; 32]), tenant, "");
        let key = |text: &str| PromptKeyId(prompt_key::hash("k", [text.as_bytes()]));
        let sealed = Seal::of(&names("a")).seal(&key("1"), b"the request").expect("sealed");
        assert!(!sealed.windows(7).any(|window| window == b"request"));
        assert_eq!(Seal::of(&names("a")).open(&key("1"), &sealed).as_deref(), Some(&b"the request"[..]));
        assert_eq!(Seal::of(&names("b")).open(&key("1"), &sealed), None);
        assert_eq!(Seal::of(&names("a")).open(&key("2"), &sealed), None);
        let mut other = sealed.to_vec();
        other[NONCE_LEN] ^= 1;
        assert_eq!(Seal::of(&names("a")).open(&key("1"), &other), None);
        assert_eq!(Seal::of(&names("a")).open(&key("1"), &sealed[..5]), None);
        assert_ne!(Seal::of(&names("a")).seal(&key("1"), b"the request").expect("sealed"), sealed);
    }
}
