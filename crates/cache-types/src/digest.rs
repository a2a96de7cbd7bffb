use std::fmt;

use data_encoding::HEXLOWER;

use crate::DigestFunction;

/// The longest raw hash of any function, in bytes.
const MAX_HASH_LEN: usize = 64;

/// A raw hash together with the function that made it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Hash {
    function: DigestFunction,
    /// The hash, then zeros up to the longest length, so that equality and order need no length.
    bytes: [u8; MAX_HASH_LEN],
}

impl Hash {
    /// A hash from exactly the bytes its function gives.
    pub(crate) fn from_raw(function: DigestFunction, raw: &[u8]) -> Self {
        let mut bytes = [0; MAX_HASH_LEN];
        bytes[..raw.len()].copy_from_slice(raw);
        Self { function, bytes }
    }

    /// A hash from raw bytes of any origin; `None` when the length does not fit the function.
    pub fn from_bytes(function: DigestFunction, raw: &[u8]) -> Option<Self> {
        (raw.len() == function.hash_len()).then(|| Self::from_raw(function, raw))
    }

    /// Reads lower-case hexadecimal of exactly the function's length. Spec.
    ///
    /// # Errors
    /// [`DigestError::HashLength`] or [`DigestError::NotHex`].
    pub fn from_hex(function: DigestFunction, hex: &str) -> Result<Self, DigestError> {
        if hex.len() != function.hash_len() * 2 {
            return Err(DigestError::HashLength { function, hex_len: hex.len() });
        }
        let mut bytes = [0; MAX_HASH_LEN];
        let raw = bytes.get_mut(..function.hash_len()).ok_or(DigestError::NotHex)?;
        HEXLOWER.decode_mut(hex.as_bytes(), raw).map_err(|_| DigestError::NotHex)?;
        Ok(Self { function, bytes })
    }

    /// The function that made it.
    pub fn function(&self) -> DigestFunction {
        self.function
    }

    /// The raw bytes, as many as the function gives.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.function.hash_len()]
    }
}

impl std::hash::Hash for Hash {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        // Two functions give one hash only by a collision; the zeros behind it tell nothing.
        state.write(self.as_bytes());
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        HEXLOWER.encode_display(self.as_bytes()).fmt(f)
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{self}", self.function)
    }
}

/// The key of a blob: hash function, hash and size.
///
/// The store keys by function and hash; the size is part of the key's truth, so a digest with another size names
/// nothing. Spec.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    hash: Hash,
    size_bytes: u64,
}

impl Digest {
    /// A digest from its parts. The size fits the protocol's signed 64 bits.
    ///
    /// # Errors
    /// [`DigestError::Size`] when it does not.
    pub fn new(hash: Hash, size_bytes: u64) -> Result<Self, DigestError> {
        i64::try_from(size_bytes).map_err(|_| DigestError::Size)?;
        Ok(Self { hash, size_bytes })
    }

    /// Reads a digest as messages carry it. `function` is `None` when the request names none.
    ///
    /// # Errors
    /// Any [`DigestError`].
    pub fn parse(function: Option<DigestFunction>, hex: &str, size_bytes: i64) -> Result<Self, DigestError> {
        let function = function
            .or_else(|| DigestFunction::infer(hex.len()))
            .ok_or(DigestError::Uninferable { hex_len: hex.len() })?;
        let size_bytes = u64::try_from(size_bytes).map_err(|_| DigestError::Size)?;
        Ok(Self { hash: Hash::from_hex(function, hex)?, size_bytes })
    }

    /// The digest of bytes already in memory.
    pub fn of(function: DigestFunction, data: &[u8]) -> Self {
        Self { hash: function.hash(data), size_bytes: data.len() as u64 }
    }

    /// The digest of zero bytes.
    pub fn empty(function: DigestFunction) -> Self {
        Self::of(function, &[])
    }

    /// Whether it names the empty blob, which always exists. Spec: R-010.
    pub fn is_empty(&self) -> bool {
        self.size_bytes == 0 && *self == Self::empty(self.function())
    }

    /// The function that made the hash.
    pub fn function(&self) -> DigestFunction {
        self.hash.function
    }

    /// The hash.
    pub fn hash(&self) -> &Hash {
        &self.hash
    }

    /// The blob's size in bytes.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// The size as the protocol carries it.
    pub fn size_i64(&self) -> i64 {
        // The constructors refuse what does not fit.
        i64::try_from(self.size_bytes).unwrap_or(i64::MAX)
    }
}

impl fmt::Display for Digest {
    /// `[function/]hash/size`, as in resource names.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(segment) = self.function().segment() {
            write!(f, "{segment}/")?;
        }
        write!(f, "{}/{}", self.hash, self.size_bytes)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::str::FromStr for Digest {
    type Err = DigestError;

    /// Reads `[function/]hash/size`, any function name accepted.
    fn from_str(text: &str) -> Result<Self, DigestError> {
        let parts: Vec<&str> = text.split('/').collect();
        let (function, hex, size) = match parts.as_slice() {
            [hex, size] => (None, hex, size),
            [name, hex, size] => (Some(DigestFunction::from_name(name).ok_or(DigestError::Malformed)?), hex, size),
            _ => return Err(DigestError::Malformed),
        };
        Self::parse(function, hex, parse_size(size).ok_or(DigestError::Size)?)
    }
}

/// Reads a size: decimal digits only, no sign, fits a signed 64-bit number. Spec: R-063.
pub(crate) fn parse_size(text: &str) -> Option<i64> {
    if text.is_empty() || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok()
}

/// Why a digest was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// The hash has another length than its function gives.
    #[error("a {function} hash has {} hexadecimal digits, this one has {hex_len}", function.hash_len() * 2)]
    HashLength {
        /// The function named or inferred.
        function: DigestFunction,
        /// The length given.
        hex_len: usize,
    },
    /// No function was named and the length tells none.
    #[error("no digest function was named and none that is offered has {hex_len} hexadecimal digits")]
    Uninferable {
        /// The length given.
        hex_len: usize,
    },
    /// Not lower-case hexadecimal.
    #[error("a hash is lower-case hexadecimal")]
    NotHex,
    /// The size is negative, not a number, or too large.
    #[error("a size is a decimal number from 0 to 2^63 - 1")]
    Size,
    /// Not of the form `[function/]hash/size`.
    #[error("a digest is written [function/]hash/size")]
    Malformed,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn upper_case_and_short_hashes_are_refused() {
        let hex = "E3B0C44298FC1C149AFBF4C8996FB92427AE41E4649B934CA495991B7852B855";
        assert_eq!(Digest::parse(None, hex, 0), Err(DigestError::NotHex));
        assert_eq!(Digest::parse(None, &hex[1..], 0), Err(DigestError::Uninferable { hex_len: 63 }));
        assert_eq!(Digest::parse(None, &hex.to_lowercase(), -1), Err(DigestError::Size));
    }

    #[test]
    fn sixty_four_digits_without_a_function_are_sha256() {
        let empty = Digest::empty(DigestFunction::Blake3);
        let read = Digest::parse(None, &empty.hash().to_string(), 0).expect("64 digits");
        assert_eq!(read.function(), DigestFunction::Sha256);
        assert!(!read.is_empty());
    }

    proptest! {
        #[test]
        fn display_and_parse_agree(data in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..7) {
            let digest = Digest::of(DigestFunction::ALL[which], &data);
            prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        }

        #[test]
        fn any_text_is_parsed_or_refused(text in ".{0,200}") {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
            }
        }
    }
}
