use sha2::Digest as _;

use crate::tree_hash::TreeHasher;
use crate::{DigestFunction, Hash};

/// An incremental hash of one blob.
pub struct Hasher {
    function: DigestFunction,
    state: State,
}

enum State {
    Sha1(sha1::Sha1),
    Sha256(sha2::Sha256),
    Sha384(Box<sha2::Sha384>),
    Sha512(Box<sha2::Sha512>),
    Sha256Tree(TreeHasher),
    Blake3(Box<blake3::Hasher>),
}

impl Hasher {
    /// Starts a hash. `size_bytes` is the whole blob's size, which GITSHA1 mixes in first and the others ignore.
    pub fn new(function: DigestFunction, size_bytes: u64) -> Self {
        let state = match function {
            DigestFunction::Sha1 => State::Sha1(sha1::Sha1::new()),
            DigestFunction::Sha256 => State::Sha256(sha2::Sha256::new()),
            DigestFunction::Sha384 => State::Sha384(Box::default()),
            DigestFunction::Sha512 => State::Sha512(Box::default()),
            DigestFunction::Sha256Tree => State::Sha256Tree(TreeHasher::default()),
            DigestFunction::Blake3 => State::Blake3(Box::default()),
            DigestFunction::GitSha1 => {
                let mut sha = sha1::Sha1::new();
                sha.update(format!("blob {size_bytes}\0").as_bytes());
                State::Sha1(sha)
            }
        };
        Self { function, state }
    }

    /// Mixes in the next bytes.
    pub fn update(&mut self, data: &[u8]) {
        match &mut self.state {
            State::Sha1(sha) => sha.update(data),
            State::Sha256(sha) => sha.update(data),
            State::Sha384(sha) => sha.update(data),
            State::Sha512(sha) => sha.update(data),
            State::Sha256Tree(tree) => tree.update(data),
            State::Blake3(blake) => {
                blake.update(data);
            }
        }
    }

    /// The hash of all bytes mixed in.
    pub fn finish(self) -> Hash {
        match self.state {
            State::Sha1(sha) => Hash::from_raw(self.function, &sha.finalize()),
            State::Sha256(sha) => Hash::from_raw(self.function, &sha.finalize()),
            State::Sha384(sha) => Hash::from_raw(self.function, &sha.finalize()),
            State::Sha512(sha) => Hash::from_raw(self.function, &sha.finalize()),
            State::Sha256Tree(tree) => Hash::from_raw(self.function, &tree.finish()),
            State::Blake3(blake) => Hash::from_raw(self.function, blake.finalize().as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn empty_hashes_are_the_published_ones() {
        let expected = [
            (DigestFunction::Sha256, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
            (DigestFunction::Blake3, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"),
            (DigestFunction::Sha1, "da39a3ee5e6b4b0d3255bfef95601890afd80709"),
            (DigestFunction::GitSha1, "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"),
        ];
        for (function, hex) in expected {
            assert_eq!(function.empty_hash().to_string(), hex);
        }
    }

    #[test]
    fn pieces_hash_like_the_whole() {
        let data: Vec<u8> = (0..=250u8).cycle().take(10_000).collect();
        for function in DigestFunction::ALL {
            let mut hasher = Hasher::new(function, data.len() as u64);
            for piece in data.chunks(777) {
                hasher.update(piece);
            }
            assert_eq!(hasher.finish(), function.hash(&data), "{function}");
        }
    }
}
