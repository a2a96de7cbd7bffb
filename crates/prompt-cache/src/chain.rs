use prompt_key::KeyDigest;
use store::StoreError;

use crate::cache::Inner;
use crate::names::Names;

/// Up to so many links are all asked for at once.
const AT_ONCE: usize = 16;

impl Inner {
    /// How many links of the chain are known. A link is written after its parent, so what memory does not deny is halved
    /// until one look at the store settles it; seldom is more needed: then a few links are asked for at once, and those
    /// between the last known and the first unknown one. Where the store has evicted a link before those behind it, the
    /// answer may be too short, never too long. Spec: prompt-key §2.
    pub(crate) async fn common_prefix(&self, names: &Names, chain: &[KeyDigest]) -> Result<usize, StoreError> {
        let likely = chain.partition_point(|link| self.records.may_have(&names.link(link)));
        let Some((last, before)) = chain.get(..likely).and_then(<[_]>::split_last) else { return Ok(0) };
        match self.records.get(&names.link(last)).await? {
            Some(_known) => Ok(likely),
            None => self.known(names, before).await,
        }
    }

    async fn known(&self, names: &Names, chain: &[KeyDigest]) -> Result<usize, StoreError> {
        let (mut known, mut most) = (0, chain.len());
        while known < most {
            let lens: Vec<usize> = (known..most).step_by(stride(most - known)).map(|start| start + 1).collect();
            let links: Vec<_> = lens.iter().filter_map(|len| chain.get(len - 1)).map(|link| names.link(link)).collect();
            let found = self.records.get_all(&links).await?;
            let Some(last) = found.iter().rposition(Option::is_some) else {
                return Ok(known);
            };
            most = lens.get(last + 1).map_or(most, |unknown| unknown - 1);
            known = lens.get(last).copied().unwrap_or(known);
        }
        Ok(known)
    }
}

/// The distance between links that are asked for, so that two rounds do.
fn stride(links: usize) -> usize {
    match links {
        0..=AT_ONCE => 1,
        _ => links.isqrt(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use store::{MemoryStore, RecordStore};

    use super::*;
    use crate::{PromptCache, Secret, Settings};

    #[tokio::test]
    async fn the_known_beginning_is_found_whatever_its_length() {
        let links: Vec<KeyDigest> = (0..200_u32).map(|n| prompt_key::hash("t", [&n.to_le_bytes()[..]])).collect();
        for len in [0, 1, 2, 15, 16, 17, 51, 200] {
            let store = Arc::new(MemoryStore::default());
            let cache = PromptCache::new(store.clone(), store.clone(), Secret([1; 32]), Settings::default());
            let names = Names::new(&Secret([1; 32]), "t", "");
            let chain = &links[..len];
            assert_eq!(cache.0.common_prefix(&names, chain).await.expect("an answer"), 0);
            for (index, link) in chain.iter().enumerate() {
                store.put(names.link(link), "x".into()).await.expect("a record");
                assert_eq!(cache.0.common_prefix(&names, chain).await.expect("an answer"), index + 1, "of {len}");
                assert_eq!(cache.0.known(&names, chain).await.expect("an answer"), index + 1, "of {len}");
            }
        }
    }
}
