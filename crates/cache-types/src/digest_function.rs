use std::fmt;

use crate::{Hash, Hasher};

/// A hash function that blobs can be keyed by. The functions are separate key spaces.
///
/// Spec: reapi §1, R-003, R-008, R-009. MD5, VSO and MURMUR3 exist on the wire and are not offered: the first and the
/// last fall to wilful collisions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum DigestFunction {
    /// SHA-256, the default.
    Sha256 = 1,
    /// SHA-1.
    Sha1 = 2,
    /// SHA-384.
    Sha384 = 5,
    /// SHA-512.
    Sha512 = 6,
    /// SHA-256 over a binary tree of 1,024-byte leaves.
    Sha256Tree = 8,
    /// BLAKE3, 32 bytes.
    Blake3 = 9,
    /// SHA-1 as git hashes a blob: with a header that holds the size.
    GitSha1 = 10,
}

impl DigestFunction {
    /// Every function this server offers, the preferred ones first.
    pub const ALL: [Self; 7] =
        [Self::Sha256, Self::Blake3, Self::Sha1, Self::Sha384, Self::Sha512, Self::Sha256Tree, Self::GitSha1];

    /// The function with this number of the protocol's enum; `None` when it is not offered.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.number() == number)
    }

    /// The number of this function in the protocol's enum, which is also its number on disk.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// The function a hash of this many hexadecimal digits stands for when none is named.
    ///
    /// Only the functions up to number 7 are ever inferred. Spec: R-003.
    pub fn infer(hex_len: usize) -> Option<Self> {
        match hex_len {
            64 => Some(Self::Sha256),
            40 => Some(Self::Sha1),
            96 => Some(Self::Sha384),
            128 => Some(Self::Sha512),
            _ => None,
        }
    }

    /// The length of the raw hash in bytes.
    pub fn hash_len(self) -> usize {
        match self {
            Self::Sha1 | Self::GitSha1 => 20,
            Self::Sha256 | Self::Sha256Tree | Self::Blake3 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }

    /// The lower-case name, as resource names and command lines spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha1 => "sha1",
            Self::Sha384 => "sha384",
            Self::Sha512 => "sha512",
            Self::Sha256Tree => "sha256tree",
            Self::Blake3 => "blake3",
            Self::GitSha1 => "gitsha1",
        }
    }

    /// The function of this lower-case name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|function| function.name() == name)
    }

    /// The segment that names this function in a resource name; `None` for those the hash length tells. Spec: R-062.
    pub fn segment(self) -> Option<&'static str> {
        match self {
            Self::Sha256Tree | Self::Blake3 | Self::GitSha1 => Some(self.name()),
            Self::Sha256 | Self::Sha1 | Self::Sha384 | Self::Sha512 => None,
        }
    }

    /// The hash of zero bytes.
    pub fn empty_hash(self) -> Hash {
        self.hash(&[])
    }

    /// The hash of bytes already in memory.
    pub fn hash(self, data: &[u8]) -> Hash {
        let mut hasher = Hasher::new(self, data.len() as u64);
        hasher.update(data);
        hasher.finish()
    }
}

impl fmt::Display for DigestFunction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
