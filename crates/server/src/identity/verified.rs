use std::num::NonZeroUsize;
use std::time::{Duration, Instant, SystemTime};

use cache_types::Caller;
use lru::LruCache;
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Credentials that are remembered; each takes a few hundred bytes.
const CAPACITY: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// How long a verdict holds, so that slow hashes and signatures are not paid for each call.
const LIFE: Duration = Duration::from_secs(5 * 60);

/// Verdicts on credentials that are dear to check, under keyed hashes of them.
#[derive(Debug)]
pub(super) struct Verified {
    key: [u8; 32],
    verdicts: Mutex<LruCache<[u8; 32], (Instant, Caller)>>,
}

impl Verified {
    pub(super) fn new() -> Result<Self, getrandom::Error> {
        let mut key = [0; 32];
        getrandom::fill(&mut key)?;
        Ok(Self { key, verdicts: Mutex::new(LruCache::new(CAPACITY)) })
    }

    /// The place of a credential, made of parts that are kept apart.
    pub(super) fn place(&self, parts: [&str; 2]) -> [u8; 32] {
        let mut hasher = Sha256::new_with_prefix(self.key);
        for part in parts {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        hasher.finalize().into()
    }

    /// The verdict that still holds.
    pub(super) fn get(&self, place: &[u8; 32]) -> Option<Caller> {
        let mut verdicts = self.verdicts.lock();
        let (until, caller) = verdicts.get(place)?;
        if *until > Instant::now() {
            return Some(caller.clone());
        }
        verdicts.pop(place);
        None
    }

    /// Keeps a verdict; one on a credential that ends no longer than that.
    pub(super) fn put(&self, place: [u8; 32], caller: &Caller, ends: Option<SystemTime>) {
        let left = ends.map_or(LIFE, |ends| ends.duration_since(SystemTime::now()).unwrap_or(Duration::ZERO));
        let until = Instant::now() + left.min(LIFE);
        self.verdicts.lock().put(place, (until, caller.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_holds_no_longer_than_its_credential() {
        let verified = Verified::new().expect("randomness");
        let place = verified.place(["user", "password"]);
        assert_ne!(place, verified.place(["userp", "assword"]));
        assert!(verified.get(&place).is_none());
        let caller = Caller::known("u", "", Vec::new());
        verified.put(place, &caller, None);
        assert_eq!(verified.get(&place).map(|caller| caller.name().to_owned()), Some("u".to_owned()));
        verified.put(place, &caller, Some(SystemTime::UNIX_EPOCH));
        assert!(verified.get(&place).is_none());
    }
}
