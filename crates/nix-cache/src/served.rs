use std::time::{Duration, Instant};

use bytes::Bytes;
use cache_types::Hash;
use cache_types::nix::{NarFile, NarInfo, StorePathHash};
use parking_lot::Mutex;

use crate::compression::Compression;
use crate::recent::Weigh;
use crate::records::{Origin, PathRecord, decode};
use crate::route::NarName;
use crate::settings::{CacheSettings, Sign, Transfer};

/// What was promised for long is not promised again for so long; each use extends such a promise by itself.
const PROMISED_EVERY: Duration = Duration::from_secs(60 * 60);

/// A narinfo as clients get it. It follows from the record alone, so that one that was signed for the same record is served
/// again as it is; whether the NAR is here is asked each time.
pub(crate) struct ServedPath {
    /// The record that it was made from.
    pub(crate) record: Bytes,
    /// The narinfo.
    pub(crate) text: Bytes,
    pub(crate) nar: Hash,
    pub(crate) origin: Origin,
    /// What the path refers to, itself left out.
    pub(crate) references: Vec<StorePathHash>,
    /// When all of it was last promised for long.
    promised: Mutex<Option<Instant>>,
}

impl ServedPath {
    /// Reads a record and signs where it is due; `None` when it is none of this cache's store.
    pub(crate) fn make(cache: &CacheSettings, record: Bytes) -> Option<Self> {
        let PathRecord { narinfo, origin, .. } = decode(&record)?;
        let info = as_served(cache, NarInfo::parse(&narinfo, &cache.store_dir).ok()?, &origin);
        let references = info.other_references().map(|path| path.hash()).collect();
        let text = info.print(&cache.store_dir).into();
        Some(Self { record, text, nar: info.nar_hash, origin, references, promised: Mutex::default() })
    }

    /// Whether it is time to promise it for long, which the caller then does.
    pub(crate) fn is_due(&self) -> bool {
        let mut promised = self.promised.lock();
        let is_due = promised.is_none_or(|at| at.elapsed() >= PROMISED_EVERY);
        if is_due {
            *promised = Some(Instant::now());
        }
        is_due
    }
}

impl Weigh for ServedPath {
    fn weight(&self) -> usize {
        size_of::<Self>()
            + self.record.len()
            + self.text.len()
            + self.references.len() * size_of::<StorePathHash>()
            + 128
    }
}

/// The narinfo with our URL, and our signature where it is due.
fn as_served(cache: &CacheSettings, mut info: NarInfo, origin: &Origin) -> NarInfo {
    let compression = match cache.transfer {
        Transfer::Zstd => Compression::Zstd,
        Transfer::Plain => Compression::None,
    };
    info.file = NarFile {
        url: NarName::new(info.nar_hash, compression).url(),
        compression: compression.name().to_owned(),
        hash: (compression == Compression::None).then_some(info.nar_hash),
        size: (compression == Compression::None).then_some(info.nar_size),
    };
    let wanted = match cache.sign {
        Sign::Never => false,
        Sign::Always => true,
        Sign::OnlyIfUnsigned => info.signatures.is_empty(),
    };
    if let Some(key) = cache.key.as_ref().filter(|_| wanted && *origin == Origin::Pushed) {
        info.add_signature(key.sign(&info.fingerprint(&cache.store_dir)));
    }
    info
}
