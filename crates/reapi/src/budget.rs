use std::sync::Arc;

use parking_lot::Mutex;
use store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{Limits, LiveLimits};

/// What one permit of memory stands for.
const UNIT_BYTES: u64 = 1024;

/// Something that many peers share: memory, or places for uploads. Who finds none free waits a while, in the order of
/// asking. Its size follows the limits.
#[derive(Clone)]
pub(crate) struct Budget {
    name: &'static str,
    limits: LiveLimits,
    /// What one permit stands for, and how many there are.
    unit: u64,
    size: fn(&Limits) -> u64,
    pool: Arc<Pool>,
}

struct Pool {
    free: Arc<Semaphore>,
    count: Mutex<Count>,
}

#[derive(Default)]
struct Count {
    /// The permits that there are, those that are owed left out.
    size: u32,
    /// The permits that are held and not given back, since there are to be fewer.
    owed: u32,
}

impl Pool {
    /// Makes the permits as many as this.
    fn resize(&self, wanted: u32) {
        let mut count = self.count.lock();
        if wanted > count.size {
            let more = wanted - count.size;
            let kept = more.min(count.owed);
            count.owed -= kept;
            self.free.add_permits(permits(more - kept));
        } else if wanted < count.size {
            let fewer = count.size - wanted;
            let gone = u32::try_from(self.free.forget_permits(permits(fewer))).unwrap_or(fewer);
            count.owed += fewer - gone;
        }
        count.size = wanted;
    }
}

fn permits(count: u32) -> usize {
    usize::try_from(count).unwrap_or(Semaphore::MAX_PERMITS)
}

impl Budget {
    /// The memory that this part of the limits gives.
    pub(crate) fn memory(name: &'static str, limits: &LiveLimits, bytes: fn(&Limits) -> u64) -> Self {
        Self::new(name, limits, UNIT_BYTES, bytes)
    }

    /// The places for uploads.
    pub(crate) fn uploads(limits: &LiveLimits) -> Self {
        Self::new("a place for one more upload (limits.concurrent_uploads)", limits, 1, |limits| limits.uploads as u64)
    }

    fn new(name: &'static str, limits: &LiveLimits, unit: u64, size: fn(&Limits) -> u64) -> Self {
        let pool = Pool { free: Arc::new(Semaphore::new(0)), count: Mutex::default() };
        Self { name, limits: limits.clone(), unit, size, pool: Arc::new(pool) }
    }

    /// Takes a share of so many bytes or places, or of all there are if that is less.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing became free in time.
    pub(crate) async fn take(&self, amount: u64) -> Result<Share, StoreError> {
        let limits = self.limits.now();
        let size = u32::try_from((self.size)(&limits) / self.unit).unwrap_or(u32::MAX).max(1);
        self.pool.resize(size);
        let units = u32::try_from(amount.div_ceil(self.unit)).unwrap_or(u32::MAX).min(size);
        let patience = limits.memory.patience;
        let permit = tokio::time::timeout(patience, self.pool.free.clone().acquire_many_owned(units)).await;
        match permit {
            Ok(Ok(permit)) => Ok(Share { permit: Some(permit), pool: self.pool.clone() }),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable {
                level: self.name,
                source: format!("none became free within {patience:?}").into(),
            }),
        }
    }
}

/// A part of a budget; given back when dropped.
pub(crate) struct Share {
    permit: Option<OwnedSemaphorePermit>,
    pool: Arc<Pool>,
}

impl Drop for Share {
    fn drop(&mut self) {
        let Some(mut permit) = self.permit.take() else { return };
        let mut count = self.pool.count.lock();
        let kept = count.owed.min(u32::try_from(permit.num_permits()).unwrap_or(u32::MAX));
        if let Some(kept) = permit.split(permits(kept)) {
            count.owed -= u32::try_from(kept.num_permits()).unwrap_or(0);
            kept.forget();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::MemoryLimits;

    fn limits(kib: u64) -> Limits {
        let memory =
            MemoryLimits { messages_bytes: kib * 1024, patience: Duration::from_secs(5), ..MemoryLimits::default() };
        Limits { memory, ..Limits::default() }
    }

    #[tokio::test(start_paused = true)]
    async fn who_finds_nothing_free_waits_and_then_is_told_to_ask_again() {
        let budget = Budget::memory("memory", &limits(10).into(), |limits| limits.memory.messages_bytes);
        let whole = budget.take(u64::MAX).await.expect("all of it");
        assert!(matches!(budget.take(1).await, Err(StoreError::Unavailable { .. })));
        let waiting = tokio::spawn({
            let budget = budget.clone();
            async move { budget.take(10 * 1024).await.is_ok() }
        });
        tokio::task::yield_now().await;
        drop(whole);
        assert!(waiting.await.expect("it ends"));
        let parts = futures::future::try_join_all((0..10).map(|_| budget.take(1024))).await.expect("ten parts");
        assert!(budget.take(1).await.is_err());
        drop(parts);
        assert!(budget.take(1).await.is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn its_size_follows_the_limits_whatever_is_held() {
        let live = LiveLimits::from(limits(10));
        let budget = Budget::memory("memory", &live, |limits| limits.memory.messages_bytes);
        let held = budget.take(8 * 1024).await.expect("there is memory");
        live.replace(limits(4));
        assert!(budget.take(1).await.is_err(), "twice the new size is held");
        drop(held);
        let four = budget.take(u64::MAX).await.expect("all there is");
        assert!(budget.take(1).await.is_err());
        live.replace(limits(2));
        assert!(budget.take(1).await.is_err());
        live.replace(limits(6));
        let two = budget.take(2 * 1024).await.expect("two more");
        assert!(budget.take(1).await.is_err());
        drop((four, two));
        let parts = futures::future::try_join_all((0..6).map(|_| budget.take(1024))).await.expect("six parts");
        assert!(budget.take(1).await.is_err());
        drop(parts);
    }
}
