use std::fmt;

use crate::nix::{Base32Error, base32_decode, base32_encode};
use crate::{DigestFunction, Hash};

/// Characters of the hash part.
const HASH_LEN: usize = 32;
/// The longest name.
const MAX_NAME_LEN: usize = 211;

/// The 20 bytes that start the base name of a store path, which name a path within a cache.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePathHash([u8; 20]);

impl StorePathHash {
    /// Reads the 32 characters.
    ///
    /// # Errors
    /// [`Base32Error`].
    pub fn parse(text: &str) -> Result<Self, Base32Error> {
        base32_decode(text).map(Self)
    }

    /// The raw bytes.
    pub fn as_bytes(&self) -> &[u8; 20] {
        &self.0
    }
}

impl fmt::Display for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&base32_encode(&self.0))
    }
}

impl fmt::Debug for StorePathHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A store path without its folder: `HASH-NAME`. Spec: N-10.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StorePath {
    hash: StorePathHash,
    name: String,
}

impl StorePath {
    /// A path from its parts.
    ///
    /// # Errors
    /// [`StorePathError::Name`].
    pub fn new(hash: StorePathHash, name: &str) -> Result<Self, StorePathError> {
        check_name(name)?;
        Ok(Self { hash, name: name.to_owned() })
    }

    /// Reads a base name, as narinfo files have them in `References` and `Deriver`.
    ///
    /// # Errors
    /// Any [`StorePathError`].
    pub fn parse(base_name: &str) -> Result<Self, StorePathError> {
        let (hash, rest) = base_name.split_at_checked(HASH_LEN).ok_or(StorePathError::Form)?;
        let name = rest.strip_prefix('-').ok_or(StorePathError::Form)?;
        Self::new(StorePathHash::parse(hash)?, name)
    }

    /// The hash part.
    pub fn hash(&self) -> StorePathHash {
        self.hash
    }

    /// The name after the hash part.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it names a derivation.
    pub fn is_derivation(&self) -> bool {
        self.name.ends_with(".drv")
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.hash, self.name)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

fn check_name(name: &str) -> Result<(), StorePathError> {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"+-._?=".contains(&byte);
    let dots = matches!(name, "." | "..") || name.starts_with(".-") || name.starts_with("..-");
    if name.is_empty() || name.len() > MAX_NAME_LEN || dots || !name.bytes().all(known) {
        return Err(StorePathError::Name);
    }
    Ok(())
}

/// The hash part of a store path that has this fingerprint: its SHA-256, folded to 20 bytes. Spec: N-14.
pub fn hash_part(fingerprint: &str) -> StorePathHash {
    let whole = DigestFunction::Sha256.hash(fingerprint.as_bytes());
    let mut folded = [0; 20];
    for (at, byte) in whole.as_bytes().iter().enumerate() {
        folded[at % 20] ^= byte;
    }
    StorePathHash(folded)
}

/// The folder that holds all store paths, such as `/nix/store`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreDir(String);

impl Default for StoreDir {
    fn default() -> Self {
        Self("/nix/store".to_owned())
    }
}

impl StoreDir {
    /// Reads an absolute path without `.`, `..`, doubled slashes, or a slash at its end.
    ///
    /// # Errors
    /// [`StorePathError::StoreDir`].
    pub fn parse(text: &str) -> Result<Self, StorePathError> {
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
        let fits = text.len() <= 1024 && text.strip_prefix('/').is_some_and(|rest| rest.split('/').all(plain));
        if fits { Ok(Self(text.to_owned())) } else { Err(StorePathError::StoreDir) }
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The full path.
    pub fn join(&self, path: &StorePath) -> String {
        format!("{}/{path}", self.0)
    }

    /// Reads a full path of this folder.
    ///
    /// # Errors
    /// [`StorePathError::OtherStore`], or what is wrong with the base name.
    pub fn parse_path(&self, full: &str) -> Result<StorePath, StorePathError> {
        let base = full.strip_prefix(&self.0).and_then(|rest| rest.strip_prefix('/'));
        StorePath::parse(base.ok_or(StorePathError::OtherStore)?)
    }

    /// The path of this kind, inner SHA-256 and name. `kind` holds the references where there are any. Spec: N-14.
    ///
    /// # Errors
    /// [`StorePathError::Name`].
    pub fn make_path(&self, kind: &str, inner: &Hash, name: &str) -> Result<StorePath, StorePathError> {
        StorePath::new(hash_part(&format!("{kind}:sha256:{inner}:{}:{name}", self.0)), name)
    }
}

impl fmt::Display for StoreDir {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Why a text is no store path.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StorePathError {
    /// Not of the form `HASH-NAME`.
    #[error("a store path is 32 characters, a dash and a name")]
    Form,
    /// The hash part is no number.
    #[error("the hash part: {0}")]
    Hash(#[from] Base32Error),
    /// A name that Nix does not take.
    #[error("a name has 1 to 211 characters of A-Z a-z 0-9 + - . _ ? = and is not . or .. or begins so before a dash")]
    Name,
    /// In another folder.
    #[error("the path lies in another store folder")]
    OtherStore,
    /// No folder.
    #[error("a store folder is an absolute path such as /nix/store")]
    StoreDir,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HASH: &str = "faq2j1z6jrkqk23mhzq65iy3ghv0zrj8";

    #[test]
    fn names_are_those_that_nix_takes() {
        for name in ["a", ".a", "...", "a.b-c+d_e?f=g", &"x".repeat(211)] {
            assert!(StorePath::parse(&format!("{HASH}-{name}")).is_ok(), "{name}");
        }
        for name in ["", ".", "..", ".-a", "..-a", "a b", "a/b", "ä", &"x".repeat(212)] {
            assert_eq!(StorePath::parse(&format!("{HASH}-{name}")), Err(StorePathError::Name), "{name}");
        }
        for text in ["", HASH, &HASH[1..], "ä", &format!("{HASH}_a")] {
            assert!(StorePath::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn full_paths_lie_in_their_store() {
        let dir = StoreDir::default();
        let full = format!("/nix/store/{HASH}-demo");
        assert_eq!(dir.join(&dir.parse_path(&full).expect("a path")), full);
        assert_eq!(dir.parse_path(&format!("/gnu/store/{HASH}-demo")), Err(StorePathError::OtherStore));
        assert_eq!(dir.parse_path(&format!("/nix/store2/{HASH}-demo")), Err(StorePathError::OtherStore));
        for bad in ["nix/store", "/nix/store/", "/nix//store", "/nix/../store", "/", ""] {
            assert_eq!(StoreDir::parse(bad), Err(StorePathError::StoreDir), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_path_or_refused(text in "([0-9a-df-np-sv-z]{32}-)?[ -~]{0,40}") {
            if let Ok(path) = StorePath::parse(&text) {
                prop_assert_eq!(path.to_string(), text);
            }
        }
    }
}
