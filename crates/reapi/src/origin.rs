use bytes::Bytes;
use cache_types::Hash;
use store::{Provenance, RecordKey, RecordKind};

use crate::{action_cache, http};

/// Where a record comes from, as far as purging goes by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The hash of the action, and that of the value's bytes; what there is of them.
    pub hashes: Vec<Hash>,
    /// The instance, or what stands for it in the client's path: segments joined by `/`.
    pub instance: String,
    /// Who wrote it; `None` in records from before that was kept.
    pub provenance: Option<Provenance>,
}

impl Origin {
    /// Reads it from a record of the action cache, of an HTTP cache, of a Nix cache or of the prompt cache; `None` when it is none of these, or damaged.
    pub fn of(key: &RecordKey, value: &Bytes) -> Option<Self> {
        match key.kind {
            RecordKind::ActionResult => {
                let (hash, instance) = action_cache::parse_key(&key.key)?;
                let provenance = action_cache::provenance(value);
                Some(Self { hashes: vec![hash], instance: instance.as_str().to_owned(), provenance })
            }
            RecordKind::HttpValue => http::origin(&key.key, value),
            RecordKind::Nix => Self::of_nix(&key.key, value),
            // Its key tells nothing by design.
            RecordKind::Prompt => Some(Self {
                hashes: Vec::new(),
                instance: String::new(),
                provenance: Some(Provenance::decode(&mut value.clone())?),
            }),
        }
    }

    /// A record of a Nix cache: its key is a number, the name of the cache, a zero byte and more. What callers are granted for
    /// a cache is granted for the instance `nix/NAME`, so that is where its records are.
    fn of_nix(key: &[u8], value: &Bytes) -> Option<Self> {
        let (_number, rest) = key.split_first()?;
        let cache = rest.split(|byte| *byte == 0).next()?;
        let instance = format!("nix/{}", std::str::from_utf8(cache).ok()?);
        Some(Self { hashes: Vec::new(), instance, provenance: Provenance::split(value).0 })
    }

    /// Whether the instance is this one or lies below it. The empty prefix covers all.
    pub fn is_under(&self, prefix: &str) -> bool {
        let rest = self.instance.strip_prefix(prefix);
        prefix.is_empty() || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_covers_whole_segments() {
        let origin = Origin { hashes: Vec::new(), instance: "team/a".to_owned(), provenance: None };
        for prefix in ["", "team", "team/a"] {
            assert!(origin.is_under(prefix), "{prefix}");
        }
        for prefix in ["te", "team/ab", "team/a/b", "a"] {
            assert!(!origin.is_under(prefix), "{prefix}");
        }
    }
}
