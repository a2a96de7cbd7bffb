use sha2::Digest as _;

use super::re;

/// Bytes and the digest that names them.
#[derive(Clone, PartialEq)]
pub struct Blob {
    /// The content.
    pub data: Vec<u8>,
    /// Its digest.
    pub digest: re::Digest,
}

impl Blob {
    /// Named by SHA-256.
    pub fn new(data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self { digest: sha256(&data), data }
    }

    /// Named by BLAKE3.
    pub fn blake3(data: impl Into<Vec<u8>>) -> Self {
        let data = data.into();
        Self { digest: digest_of(blake3::hash(&data).to_hex().as_str(), data.len()), data }
    }

    /// Random bytes, named by SHA-256.
    pub fn random(random: &mut Random, len: usize) -> Self {
        Self::new(random.bytes(len))
    }
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.digest.hash, self.digest.size_bytes)
    }
}

/// The SHA-256 digest of `data`.
pub fn sha256(data: &[u8]) -> re::Digest {
    digest_of(&hex(&sha2::Sha256::digest(data)), data.len())
}

/// A digest of the given parts, right or wrong.
pub fn digest_of(hash: &str, len: usize) -> re::Digest {
    re::Digest { hash: hash.to_owned(), size_bytes: i64::try_from(len).expect("a length that memory holds") }
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A small generator of repeatable data (SplitMix64): the same seed, the same data. Not for secrets.
#[derive(Clone)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number from 0 to `bound` - 1. `bound` is not 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Bytes that do not compress.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 8);
        while bytes.len() < len {
            bytes.extend_from_slice(&self.next().to_le_bytes());
        }
        bytes.truncate(len);
        bytes
    }

    /// Bytes like those of a program's text: they compress to about a third.
    pub fn text(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(len + 16);
        while bytes.len() < len {
            let word = self.below(1 << 12);
            bytes.extend_from_slice(format!("word{word} ").as_bytes());
        }
        bytes.truncate(len);
        bytes
    }
}
