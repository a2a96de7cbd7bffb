use std::sync::Arc;
use std::time::Duration;

use store::StoreError;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for.
const UNIT_BYTES: u64 = 1024;

/// Memory that many peers share. Who finds none free waits a while, in the order of asking.
#[derive(Clone)]
pub(crate) struct Budget {
    name: &'static str,
    free: Arc<Semaphore>,
    units: u32,
    patience: Duration,
}

impl Budget {
    /// A budget of so many bytes; nobody waits longer than `patience`.
    pub(crate) fn new(name: &'static str, bytes: u64, patience: Duration) -> Self {
        let units = u32::try_from(bytes / UNIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { name, free: Arc::new(Semaphore::new(usize::try_from(units).unwrap_or(1))), units, patience }
    }

    /// Takes a share of so many bytes, or of all there are if that is less.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when nothing became free in time.
    pub(crate) async fn take(&self, bytes: u64) -> Result<Share, StoreError> {
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX).min(self.units);
        let permit = tokio::time::timeout(self.patience, self.free.clone().acquire_many_owned(units)).await;
        match permit {
            Ok(Ok(permit)) => Ok(Share(permit)),
            Ok(Err(_)) | Err(_) => Err(StoreError::Unavailable {
                level: self.name,
                source: format!("none of {} KiB became free", self.units).into(),
            }),
        }
    }
}

/// A part of a budget; given back when dropped.
pub(crate) struct Share(#[expect(dead_code, reason = "held for its end")] OwnedSemaphorePermit);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_finds_nothing_free_waits_and_then_is_told_to_ask_again() {
        let budget = Budget::new("memory", 10 * 1024, Duration::from_secs(5));
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
}
