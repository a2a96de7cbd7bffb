use cache_types::{Digest, Hasher};

use crate::file_digests::FUNCTION;

/// Mixes named parts into one key; each part carries its length, so that no two lists of parts are written alike.
pub(crate) struct KeyHasher(Hasher);

impl KeyHasher {
    /// Starts a key of one kind; another layout is another kind.
    pub(crate) fn new(kind: &str) -> Self {
        let mut key = Self(Hasher::new(FUNCTION, 0));
        key.part("twofold", kind.as_bytes());
        key
    }

    /// Mixes in one part.
    pub(crate) fn part(&mut self, name: &str, value: &[u8]) {
        for bytes in [name.as_bytes(), value] {
            self.0.update(&(bytes.len() as u64).to_le_bytes());
            self.0.update(bytes);
        }
    }

    /// Mixes in the digest of a file.
    pub(crate) fn file(&mut self, name: &str, digest: &Digest) {
        self.part(name, digest.to_string().as_bytes());
    }

    /// The key in hexadecimal.
    pub(crate) fn finish(self) -> String {
        self.0.finish().to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_run_into_each_other() {
        let key = |parts: &[(&str, &str)]| {
            let mut key = KeyHasher::new("test");
            parts.iter().for_each(|(name, value)| key.part(name, value.as_bytes()));
            key.finish()
        };
        assert_ne!(key(&[("a", "bc")]), key(&[("ab", "c")]));
        assert_ne!(key(&[("a", "b"), ("c", "d")]), key(&[("a", "bcd")]));
        assert_ne!(key(&[]), key(&[("", "")]));
        assert_ne!(KeyHasher::new("a").finish(), KeyHasher::new("b").finish());
    }
}
