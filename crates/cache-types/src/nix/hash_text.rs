use crate::nix::base64::base64_decode;
use crate::nix::{base32_decode, base32_encode};
use crate::{DigestFunction, Hash};

/// A SHA-256 hash as Nix writes it: `sha256:` and base 32.
pub fn hash_text(hash: &Hash) -> String {
    format!("{}:{}", hash.function(), base32_encode(hash.as_bytes()))
}

/// Reads a SHA-256 hash in any form that Nix reads: base 32, hexadecimal or base 64 after `sha256:`, or `sha256-` and
/// base 64. Spec: N-13.
///
/// # Errors
/// [`HashTextError`].
pub fn parse_hash_text(text: &str) -> Result<Hash, HashTextError> {
    if let Some(rest) = text.strip_prefix("sha256-") {
        return from_base64(rest);
    }
    let rest = text.strip_prefix("sha256:").ok_or(HashTextError)?;
    match rest.len() {
        52 => {
            let raw = base32_decode::<32>(rest).map_err(|_| HashTextError)?;
            Hash::from_bytes(DigestFunction::Sha256, &raw).ok_or(HashTextError)
        }
        64 => Hash::from_hex(DigestFunction::Sha256, &rest.to_ascii_lowercase()).map_err(|_| HashTextError),
        _ => from_base64(rest),
    }
}

fn from_base64(text: &str) -> Result<Hash, HashTextError> {
    let raw = base64_decode(text).ok_or(HashTextError)?;
    Hash::from_bytes(DigestFunction::Sha256, &raw).ok_or(HashTextError)
}

/// The text is no SHA-256 hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a hash is sha256: and 52 characters of base 32, 64 of hexadecimal or 44 of base 64")]
pub struct HashTextError;

#[cfg(test)]
mod tests {
    use data_encoding::BASE64;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_form_is_read(raw: [u8; 32]) {
            let hash = Hash::from_bytes(DigestFunction::Sha256, &raw).expect("32 bytes");
            let base64 = BASE64.encode(&raw);
            for text in
                [hash_text(&hash), format!("sha256:{hash}"), format!("sha256:{base64}"), format!("sha256-{base64}")]
            {
                prop_assert_eq!(parse_hash_text(&text), Ok(hash), "{}", text);
            }
        }

        #[test]
        fn any_text_is_a_hash_or_refused(text in "(sha256[:-])?[0-9a-zA-Z+/=]{0,70}") {
            if let Ok(hash) = parse_hash_text(&text) {
                prop_assert_eq!(parse_hash_text(&hash_text(&hash)), Ok(hash));
            }
        }
    }
}
