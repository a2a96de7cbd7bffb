use std::fmt;

use data_encoding::BASE64;
use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

use crate::Hash;
use crate::nix::base64::base64_decode;
use crate::nix::{StoreDir, StorePath, hash_text};

/// The text that is signed for a path. References may come in any order. Spec: N-25.
pub fn fingerprint(
    dir: &StoreDir,
    path: &StorePath,
    nar_hash: &Hash,
    nar_size: u64,
    references: &[StorePath],
) -> String {
    let mut references: Vec<String> = references.iter().map(|reference| dir.join(reference)).collect();
    references.sort();
    format!("1;{};{};{nar_size};{}", dir.join(path), hash_text(nar_hash), references.join(","))
}

/// A signature and the name of the key that made it: `NAME:BASE64`. Spec: N-26.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Signature {
    key: String,
    bytes: [u8; 64],
}

impl Signature {
    /// Reads the value of a `Sig` line.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (key, bytes) = named::<64>(text)?;
        Ok(Self { key, bytes })
    }

    /// The name of the key.
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.key, BASE64.encode(&self.bytes))
    }
}

/// A key that checks signatures: `NAME:BASE64` of 32 bytes, as in `trusted-public-keys`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PublicKey {
    name: String,
    key: VerifyingKey,
}

impl PublicKey {
    /// Reads a key.
    ///
    /// # Errors
    /// [`KeyError`].
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = named::<32>(text)?;
        let key = VerifyingKey::from_bytes(&bytes).map_err(|_| KeyError::Key)?;
        Ok(Self { name, key })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether the signature is this key's and of this fingerprint.
    pub fn verifies(&self, fingerprint: &str, signature: &Signature) -> bool {
        let bytes = ed25519_dalek::Signature::from_bytes(&signature.bytes);
        signature.key == self.name && self.key.verify_strict(fingerprint.as_bytes(), &bytes).is_ok()
    }
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.name, BASE64.encode(self.key.as_bytes()))
    }
}

/// A key that signs: `NAME:BASE64` of a seed of 32 bytes and the 32 bytes of the public key.
#[derive(Clone)]
pub struct SecretKey {
    name: String,
    key: SigningKey,
}

impl SecretKey {
    /// The key of a seed, which must be random.
    ///
    /// # Errors
    /// [`KeyError::Name`].
    pub fn from_seed(name: &str, seed: &[u8; 32]) -> Result<Self, KeyError> {
        check_name(name)?;
        Ok(Self { name: name.to_owned(), key: SigningKey::from_bytes(seed) })
    }

    /// Reads a key, spaces around it ignored.
    ///
    /// # Errors
    /// [`KeyError`]; its text does not hold the key.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        let (name, bytes) = named::<64>(text.trim())?;
        let key = SigningKey::from_keypair_bytes(&bytes).map_err(|_| KeyError::Key)?;
        Ok(Self { name, key })
    }

    /// The key's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The key that checks what this one signs.
    pub fn public(&self) -> PublicKey {
        PublicKey { name: self.name.clone(), key: self.key.verifying_key() }
    }

    /// Signs a fingerprint.
    pub fn sign(&self, fingerprint: &str) -> Signature {
        Signature { key: self.name.clone(), bytes: self.key.sign(fingerprint.as_bytes()).to_bytes() }
    }

    /// The text that [`SecretKey::parse`] reads: a secret.
    pub fn to_secret_text(&self) -> String {
        format!("{}:{}", self.name, BASE64.encode(&self.key.to_keypair_bytes()))
    }
}

impl fmt::Debug for SecretKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretKey({}, …)", self.name)
    }
}

fn named<const N: usize>(text: &str) -> Result<(String, [u8; N]), KeyError> {
    let (name, base64) = text.split_once(':').ok_or(KeyError::Form)?;
    check_name(name)?;
    let raw = base64_decode(base64).ok_or(KeyError::Form)?;
    let found = raw.len();
    let bytes = raw.try_into().map_err(|_| KeyError::Length { expected: N, found })?;
    Ok((name.to_owned(), bytes))
}

fn check_name(name: &str) -> Result<(), KeyError> {
    let plain = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    if name.is_empty() || name.len() > 255 || !name.bytes().all(plain) {
        return Err(KeyError::Name);
    }
    Ok(())
}

/// Why a key or a signature was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Not of the form `NAME:BASE64`.
    #[error("keys and signatures are written NAME:BASE64")]
    Form,
    /// A name that is empty or not printable.
    #[error(
        "the name of a key has 1 to 255 printable characters without spaces and colons, such as cache.example.org-1"
    )]
    Name,
    /// Another length.
    #[error("{found} bytes after the name instead of {expected}")]
    Length {
        /// The bytes of its kind.
        expected: usize,
        /// The bytes given.
        found: usize,
    },
    /// The bytes are no key.
    #[error("the bytes are no Ed25519 key")]
    Key,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::nix::parse_hash_text;

    const SIGNATURE: &str =
        "test.example-1:fVh6OEx1vnB6GO2K9eas1GgMqiiktnaY7B8FoQ80A5SSVYpusXUAsE5QVDp6NNEqhgxSU6BaVKWGGYaQoWncBA==";

    fn key() -> SecretKey {
        let seed: [u8; 32] = std::array::from_fn(|at| at as u8);
        SecretKey::from_seed("test.example-1", &seed).expect("a name")
    }

    #[test]
    fn signatures_are_those_of_real_nix() {
        let path = StorePath::parse("faq2j1z6jrkqk23mhzq65iy3ghv0zrj8-demo").expect("a path");
        let hash = parse_hash_text("sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0").expect("a hash");
        let text = fingerprint(&StoreDir::default(), &path, &hash, 1080, &[]);
        let expected = "1;/nix/store/faq2j1z6jrkqk23mhzq65iy3ghv0zrj8-demo;\
                        sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0;1080;";
        assert_eq!(text, expected);
        assert_eq!(key().sign(&text).to_string(), SIGNATURE);
        let public = key().public();
        assert_eq!(public.to_string(), "test.example-1:A6EHv/POEL4dcN0Y50vAmWfk1jCbpQ1fHdyGZBJVMbg=");
        let signature = Signature::parse(SIGNATURE).expect("a signature");
        assert!(public.verifies(&text, &signature));
        assert!(!public.verifies(&text.replace("1080", "1081"), &signature));
        let renamed = SIGNATURE.replace("example-1", "example-2");
        assert!(!public.verifies(&text, &Signature::parse(&renamed).expect("a signature")));
    }

    #[test]
    fn secrets_read_back_and_are_not_shown() {
        let key = key();
        let text = key.to_secret_text();
        let read = SecretKey::parse(&format!("{text}\n")).expect("a key");
        assert_eq!(read.public(), key.public());
        assert_eq!(format!("{read:?}"), "SecretKey(test.example-1, …)");
        let mut torn = text.clone();
        torn.truncate(text.len() - 8);
        assert!(matches!(SecretKey::parse(&torn), Err(KeyError::Form | KeyError::Length { .. })));
    }

    proptest! {
        #[test]
        fn any_text_is_a_key_or_refused(text in "[ -~]{0,8}:?[A-Za-z0-9+/=]{0,90}") {
            if let Ok(signature) = Signature::parse(&text) {
                prop_assert_eq!(signature.to_string(), text.clone());
            }
            if let Ok(key) = PublicKey::parse(&text) {
                prop_assert_eq!(key.to_string(), text.clone());
            }
        }

        #[test]
        fn what_a_key_signs_it_verifies(seed: [u8; 32], text in ".{0,100}", other in ".{0,100}") {
            let key = SecretKey::from_seed("k", &seed).expect("a name");
            let signature = key.sign(&text);
            prop_assert!(key.public().verifies(&text, &signature));
            prop_assert_eq!(key.public().verifies(&other, &signature), other == text);
        }
    }
}
