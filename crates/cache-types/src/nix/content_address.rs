use std::fmt;

use crate::nix::{StoreDir, StorePath, StorePathError, base32_decode, base32_encode};
use crate::{DigestFunction, Hash};

/// How the content of a path says the path itself: the `CA` line. Spec: N-14, N-28.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ContentAddress {
    /// `text:sha256:HASH`: one file, whose content has this hash.
    Text(Hash),
    /// `fixed:[r:|git:]ALGORITHM:HASH`.
    Fixed {
        /// What was hashed.
        method: Method,
        /// `md5`, `sha1`, `sha256` or `sha512`.
        algorithm: Algorithm,
        /// The raw hash, as long as the algorithm gives.
        hash: Vec<u8>,
    },
}

/// What a fixed hash is the hash of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// The bytes of one file.
    Flat,
    /// The NAR.
    Recursive,
    /// A git tree.
    Git,
}

impl Method {
    fn prefix(self) -> &'static str {
        match self {
            Self::Flat => "",
            Self::Recursive => "r:",
            Self::Git => "git:",
        }
    }
}

/// A hash function of fixed outputs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Algorithm {
    /// MD5.
    Md5,
    /// SHA-1.
    Sha1,
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

impl Algorithm {
    const ALL: [Self; 4] = [Self::Md5, Self::Sha1, Self::Sha256, Self::Sha512];

    fn name(self) -> &'static str {
        match self {
            Self::Md5 => "md5",
            Self::Sha1 => "sha1",
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn decode(self, text: &str) -> Option<Vec<u8>> {
        match self {
            Self::Md5 => base32_decode::<16>(text).map(Vec::from).ok(),
            Self::Sha1 => base32_decode::<20>(text).map(Vec::from).ok(),
            Self::Sha256 => base32_decode::<32>(text).map(Vec::from).ok(),
            Self::Sha512 => base32_decode::<64>(text).map(Vec::from).ok(),
        }
    }
}

impl ContentAddress {
    /// Reads the value of a `CA` line.
    ///
    /// # Errors
    /// [`ContentAddressError::Form`].
    pub fn parse(text: &str) -> Result<Self, ContentAddressError> {
        Self::read(text).ok_or(ContentAddressError::Form)
    }

    fn read(text: &str) -> Option<Self> {
        if let Some(hash) = text.strip_prefix("text:sha256:") {
            let raw = base32_decode::<32>(hash).ok()?;
            return Some(Self::Text(Hash::from_bytes(DigestFunction::Sha256, &raw)?));
        }
        let rest = text.strip_prefix("fixed:")?;
        let (method, rest) = match rest.split_once(':')? {
            ("r", rest) => (Method::Recursive, rest),
            ("git", rest) => (Method::Git, rest),
            _ => (Method::Flat, rest),
        };
        let (name, hash) = rest.split_once(':')?;
        let algorithm = Algorithm::ALL.into_iter().find(|algorithm| algorithm.name() == name)?;
        Some(Self::Fixed { method, algorithm, hash: algorithm.decode(hash)? })
    }

    /// The path that content of this address and these references has under `name`.
    ///
    /// # Errors
    /// [`ContentAddressError::References`] where the address allows none, or what is wrong with the name.
    pub fn path(
        &self,
        dir: &StoreDir,
        name: &str,
        references: &[StorePath],
        refers_to_itself: SelfReference,
    ) -> Result<StorePath, ContentAddressError> {
        let mut kind = String::new();
        let inner = match self {
            Self::Text(hash) => {
                kind.push_str("text");
                *hash
            }
            Self::Fixed { method: Method::Recursive, algorithm: Algorithm::Sha256, hash } => {
                kind.push_str("source");
                Hash::from_bytes(DigestFunction::Sha256, hash).ok_or(ContentAddressError::Form)?
            }
            Self::Fixed { method, algorithm, hash } => {
                if !references.is_empty() || refers_to_itself == SelfReference::Yes {
                    return Err(ContentAddressError::References);
                }
                let hex = data_encoding::HEXLOWER.encode(hash);
                let text = format!("fixed:out:{}{}:{hex}:", method.prefix(), algorithm.name());
                return Ok(dir.make_path("output:out", &DigestFunction::Sha256.hash(text.as_bytes()), name)?);
            }
        };
        let mut sorted: Vec<&StorePath> = references.iter().collect();
        sorted.sort();
        for reference in sorted {
            kind.push(':');
            kind.push_str(&dir.join(reference));
        }
        if refers_to_itself == SelfReference::Yes {
            if matches!(self, Self::Text(_)) {
                return Err(ContentAddressError::References);
            }
            kind.push_str(":self");
        }
        Ok(dir.make_path(&kind, &inner, name)?)
    }
}

/// Whether a path is among its own references.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SelfReference {
    /// It is.
    Yes,
    /// It is not.
    No,
}

impl fmt::Display for ContentAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(hash) => write!(f, "text:sha256:{}", base32_encode(hash.as_bytes())),
            Self::Fixed { method, algorithm, hash } => {
                write!(f, "fixed:{}{}:{}", method.prefix(), algorithm.name(), base32_encode(hash))
            }
        }
    }
}

/// Why a content address does not hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContentAddressError {
    /// Not of a form that is known.
    #[error("a content address is text:sha256:HASH or fixed:[r:|git:]ALGORITHM:HASH in base 32")]
    Form,
    /// A path of this address has no references.
    #[error("a path with this content address cannot have these references")]
    References,
    /// The name or the path.
    #[error(transparent)]
    Path(#[from] StorePathError),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn path(address: &str, name: &str, references: &[StorePath], own: SelfReference) -> String {
        let address = ContentAddress::parse(address).expect(address);
        address.path(&StoreDir::default(), name, references, own).expect("a path").to_string()
    }

    #[test]
    fn paths_follow_from_content_as_in_real_nix() {
        let tree = "fixed:r:sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0";
        assert_eq!(path(tree, "demo", &[], SelfReference::No), "faq2j1z6jrkqk23mhzq65iy3ghv0zrj8-demo");
        let text = "text:sha256:00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq";
        assert_eq!(path(text, "plain.txt", &[], SelfReference::No), "an573i3k6x2sjlwsdmgllhwch18xq4mg-plain.txt");
    }

    #[test]
    fn references_count_and_some_addresses_allow_none() {
        let reference = StorePath::parse("an573i3k6x2sjlwsdmgllhwch18xq4mg-plain.txt").expect("a path");
        let tree = "fixed:r:sha256:07nfrah36r0l2scpm9cf0jgfd9raf2smhni4cgm5hjk3jpq82vx0";
        let with = path(tree, "demo", std::slice::from_ref(&reference), SelfReference::No);
        let own = path(tree, "demo", &[], SelfReference::Yes);
        assert!(with != own && own != "faq2j1z6jrkqk23mhzq65iy3ghv0zrj8-demo");
        let flat = ContentAddress::parse("fixed:sha1:143xibwh31h9bvxzalr0sjvbbvpa6ffs").expect("an address");
        let refused = flat.path(&StoreDir::default(), "x", &[reference], SelfReference::No);
        assert_eq!(refused, Err(ContentAddressError::References));
    }

    proptest! {
        #[test]
        fn any_text_is_an_address_or_refused(
            text in "(text:|fixed:|r:|git:|sha1:|sha256:|md5:|sha512:){0,4}[0-9a-df-np-sv-z]{0,60}",
        ) {
            if let Ok(address) = ContentAddress::parse(&text) {
                prop_assert_eq!(address.to_string(), text);
            }
        }
    }
}
