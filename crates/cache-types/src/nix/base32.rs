/// The digits, lowest first: no e, o, u, t.
const ALPHABET: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// The characters that so many bytes take.
pub const fn base32_len(bytes: usize) -> usize {
    (bytes * 8).div_ceil(5)
}

/// Writes bytes in Nix's base 32: one little-endian number, its highest digit first. Spec: N-11.
pub fn base32_encode(bytes: &[u8]) -> String {
    let digit = |place: usize| {
        let (byte, shift) = (place * 5 / 8, place * 5 % 8);
        let low = bytes.get(byte).copied().unwrap_or(0);
        let high = bytes.get(byte + 1).copied().unwrap_or(0);
        let bits = (u16::from(low) | u16::from(high) << 8) >> shift & 31;
        char::from(ALPHABET[usize::from(bits)])
    };
    (0..base32_len(bytes.len())).rev().map(digit).collect()
}

/// Reads exactly `N` bytes.
///
/// # Errors
/// [`Base32Error`] for another length, a character that is no digit, or a number that `N` bytes do not hold.
pub fn base32_decode<const N: usize>(text: &str) -> Result<[u8; N], Base32Error> {
    if text.len() != base32_len(N) {
        return Err(Base32Error::Length { expected: base32_len(N), found: text.len() });
    }
    let mut bytes = [0u8; N];
    for (place, character) in text.bytes().rev().enumerate() {
        let digit = ALPHABET.iter().position(|known| *known == character).ok_or(Base32Error::Digit)?;
        let (byte, shift) = (place * 5 / 8, place * 5 % 8);
        // A digit has five bits, so shifted it has at most twelve.
        let [low, high] = ((digit as u16) << shift).to_le_bytes();
        let mut put = |at: usize, bits: u8| match bytes.get_mut(at) {
            Some(byte) => {
                *byte |= bits;
                Ok(())
            }
            None if bits == 0 => Ok(()),
            None => Err(Base32Error::TooLarge),
        };
        put(byte, low)?;
        put(byte + 1, high)?;
    }
    Ok(bytes)
}

/// Why a text is no number in Nix's base 32.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Base32Error {
    /// Another length.
    #[error("it has {found} characters instead of {expected}")]
    Length {
        /// The length of so many bytes.
        expected: usize,
        /// The length given.
        found: usize,
    },
    /// A character that is no digit.
    #[error("the digits are 0 to 9 and a to z without e, o, t and u")]
    Digit,
    /// The bits above the last byte are not zero.
    #[error("the number is too large")]
    TooLarge,
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::DigestFunction;

    #[test]
    fn empty_hashes_are_the_published_ones() {
        let sha256 = base32_encode(DigestFunction::Sha256.empty_hash().as_bytes());
        assert_eq!(sha256, "0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73");
        let sha1 = base32_encode(DigestFunction::Sha1.empty_hash().as_bytes());
        assert_eq!(sha1, "143xibwh31h9bvxzalr0sjvbbvpa6ffs");
    }

    #[test]
    fn what_is_no_number_of_the_length_is_refused() {
        assert_eq!(base32_decode::<32>(&"z".repeat(52)), Err(Base32Error::TooLarge));
        assert_eq!(base32_decode::<20>(&"e".repeat(32)), Err(Base32Error::Digit));
        assert_eq!(base32_decode::<20>("0"), Err(Base32Error::Length { expected: 32, found: 1 }));
        assert_eq!(base32_decode::<20>(&"z".repeat(32)), Ok([0xff; 20]));
    }

    proptest! {
        #[test]
        fn bytes_read_back(bytes: [u8; 32], short: [u8; 20], odd: [u8; 7]) {
            prop_assert_eq!(base32_decode(&base32_encode(&bytes)), Ok(bytes));
            prop_assert_eq!(base32_decode(&base32_encode(&short)), Ok(short));
            prop_assert_eq!(base32_decode(&base32_encode(&odd)), Ok(odd));
        }

        #[test]
        fn each_number_has_one_text(text in "[0-9a-z]{52}") {
            if let Ok(bytes) = base32_decode::<32>(&text) {
                prop_assert_eq!(base32_encode(&bytes), text);
            }
        }
    }
}
