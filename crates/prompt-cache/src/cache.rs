use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use cache_types::{Caller, Denied, Role};
use ed25519_dalek::SigningKey;
use store::{BlobStore, RecordKey, RecordStore};
use tokio::sync::{Mutex, MutexGuard};

use crate::flights::Flights;
use crate::invalidations::Held;
use crate::names::{Names, signing_key};
use crate::prices::PriceTable;
use crate::refusal::Refusal;
use crate::runs::Runs;
use crate::signers::Signer;
use crate::tally::Tally;
use crate::volatile::Volatile;

/// Records that can change at once.
const LOCKS: usize = 256;

/// The secret that names of records are derived with; who has it can tell whether a key is recorded.
#[derive(Clone)]
pub struct Secret(pub [u8; 32]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// What an operator says of the prompt cache.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// What models cost.
    pub prices: PriceTable,
    /// Whose signatures count.
    pub signers: Vec<Signer>,
}

/// The prompt cache over one store.
///
/// Every call says who makes it: the tenant comes from the [`Caller`], never from a request. Spec: prompt-key §8.
#[derive(Clone)]
pub struct PromptCache(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) records: Arc<dyn RecordStore>,
    secret: Secret,
    pub(crate) signer: SigningKey,
    pub(crate) prices: PriceTable,
    pub(crate) signers: Vec<Signer>,
    pub(crate) tally: Tally,
    clock: fn() -> SystemTime,
    pub(crate) flights: Flights,
    pub(crate) runs: Runs,
    pub(crate) held: Held,
    pub(crate) volatile: Volatile,
    /// One of them is held while a record is read, changed and written, so that no change is lost.
    changing: Vec<Mutex<()>>,
}

impl PromptCache {
    /// A cache over the stores.
    pub fn new(blobs: Arc<dyn BlobStore>, records: Arc<dyn RecordStore>, secret: Secret, settings: Settings) -> Self {
        Self::with_clock(blobs, records, secret, settings, SystemTime::now)
    }

    /// As [`PromptCache::new`], with the time from `clock`.
    pub fn with_clock(
        blobs: Arc<dyn BlobStore>,
        records: Arc<dyn RecordStore>,
        secret: Secret,
        settings: Settings,
        clock: fn() -> SystemTime,
    ) -> Self {
        let signer = signing_key(&secret);
        Self(Arc::new(Inner {
            blobs,
            records,
            secret,
            signer,
            prices: settings.prices,
            signers: settings.signers,
            tally: Tally::since(milliseconds(clock())),
            clock,
            flights: Flights::default(),
            runs: Runs::default(),
            held: Held::default(),
            volatile: Volatile::default(),
            changing: (0..LOCKS).map(|_| Mutex::default()).collect(),
        }))
    }
}

/// Milliseconds since 1970.
fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

impl Inner {
    /// Waits until nobody else changes the record.
    pub(crate) async fn changing(&self, name: &RecordKey) -> MutexGuard<'_, ()> {
        // Names are hashes, so their last byte spreads them.
        let place = usize::from(name.key.last().copied().unwrap_or(0)) % self.changing.len();
        self.changing[place].lock().await
    }

    /// The names that the caller's tenant has for the records of a namespace.
    pub(crate) fn names(&self, caller: &Caller, namespace: &str) -> Names {
        Names::new(&self.secret, caller.tenant(), namespace)
    }

    /// Milliseconds since 1970.
    pub(crate) fn now_ms(&self) -> i64 {
        milliseconds((self.clock)())
    }

    /// Refuses a caller without the role in the namespace.
    pub(crate) fn check(caller: &Caller, role: Role, namespace: &str) -> Result<(), Refusal> {
        Ok(caller.check_under(role, namespace)?)
    }
}

/// Refuses a request that nobody identified.
pub(crate) fn caller(extensions: &http::Extensions) -> Result<Caller, Refusal> {
    extensions.get::<Caller>().cloned().ok_or(Refusal::Denied(Denied::NoCredential))
}
