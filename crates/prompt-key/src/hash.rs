use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};

/// The version of the key, first in all that is hashed.
const VERSION: &[u8] = b"pk1\0";
/// What the text form of a key starts with.
const PREFIX: &str = "pk1:sha256:";

/// A digest inside a prompt key: of a component, a tool, a system block or a link of the chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyDigest([u8; 32]);

impl KeyDigest {
    /// A digest from its raw bytes.
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(&self.0).fmt(f)
    }
}

impl fmt::Debug for KeyDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for KeyDigest {
    type Err = KeyParseError;

    /// Reads 64 lower-case hexadecimal digits.
    fn from_str(hex: &str) -> Result<Self, KeyParseError> {
        let mut bytes = [0; 32];
        if hex.len() != 64 {
            return Err(KeyParseError);
        }
        HEXLOWER.decode_mut(hex.as_bytes(), &mut bytes).map_err(|_| KeyParseError)?;
        Ok(Self(bytes))
    }
}

/// A prompt key or task key in its text form, `pk1:sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PromptKeyId(pub KeyDigest);

impl fmt::Display for PromptKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", self.0)
    }
}

impl fmt::Debug for PromptKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for PromptKeyId {
    type Err = KeyParseError;

    fn from_str(text: &str) -> Result<Self, KeyParseError> {
        text.strip_prefix(PREFIX).ok_or(KeyParseError)?.parse().map(Self)
    }
}

/// The text is no prompt key, or no digest of one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a prompt key is `pk1:sha256:` and 64 lower-case hexadecimal digits")]
pub struct KeyParseError;

/// The hash of tagged parts: tags and lengths keep domains apart. Spec: prompt-key §1.
pub fn hash<'a>(tag: &str, parts: impl IntoIterator<Item = &'a [u8]>) -> KeyDigest {
    let mut sha = Sha256::new();
    sha.update(VERSION);
    sha.update(tag.as_bytes());
    sha.update([0]);
    for part in parts {
        sha.update((part.len() as u64).to_le_bytes());
        sha.update(part);
    }
    KeyDigest(sha.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_specification_holds() {
        let empty = hash("empty", []).to_string();
        assert_eq!(empty, "39a90f1a7d94cbf969c9e7e4733eeff10f5e22702c760c2054561ee5ccd87ea4");
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let split = hash("t", [b"ab".as_slice(), b"c"]);
        assert_ne!(split, hash("t", [b"a".as_slice(), b"bc"]));
        assert_ne!(split, hash("t", [b"abc".as_slice()]));
        assert_ne!(split, hash("ta", [b"b".as_slice(), b"c"]));
    }

    #[test]
    fn text_forms_are_read_back_and_nothing_else_is() {
        let key = PromptKeyId(hash("empty", []));
        assert_eq!(key.to_string().parse(), Ok(key));
        for text in ["", "pk1:sha256:", "pk1:blake3:00", &key.to_string().to_uppercase(), &key.0.to_string()] {
            assert_eq!(text.parse::<PromptKeyId>(), Err(KeyParseError), "{text}");
        }
    }
}
