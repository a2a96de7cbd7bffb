use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use tokio::sync::watch;

/// What one connection adds to the time over which all are told to go.
const PER_CONNECTION: Duration = Duration::from_millis(10);

/// Tells connections to end: no new calls, those in flight are finished.
pub(crate) struct Drain(watch::Sender<Option<Duration>>);

/// Hears of the drain.
#[derive(Clone)]
pub(crate) struct Draining(watch::Receiver<Option<Duration>>);

impl Drain {
    pub(crate) fn new() -> (Self, Draining) {
        let (sender, receiver) = watch::channel(None);
        (Self(sender), Draining(receiver))
    }

    /// Starts the drain of this many connections, which may take `patience`. They are told one after the other over at
    /// most a tenth of it, so that their clients do not all call at another server's door at once.
    pub(crate) fn begin(&self, open_connections: usize, patience: Duration) {
        self.0.send_replace(Some(spread(open_connections, patience)));
    }
}

fn spread(open_connections: usize, patience: Duration) -> Duration {
    let open = u32::try_from(open_connections).unwrap_or(u32::MAX);
    PER_CONNECTION.saturating_mul(open).min(patience / 10)
}

impl Draining {
    /// Waits for the drain to begin, or its owner to be gone.
    pub(crate) async fn begun(&mut self) {
        // An error says that the owner is gone.
        let _: Result<_, watch::error::RecvError> = self.0.wait_for(Option::is_some).await;
    }

    /// Whether the drain has begun.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.has_changed().unwrap_or(true)
    }

    /// Waits until it is this connection's turn to be told.
    pub(crate) async fn my_turn(&mut self) {
        self.begun().await;
        let spread = self.0.borrow().unwrap_or_default();
        tokio::time::sleep(spread.mul_f64(share())).await;
    }
}

/// A number from 0 to 1, another each time: the standard library's hash keys are random.
fn share() -> f64 {
    let random = RandomState::new().hash_one(0_u8);
    (random >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_connections_are_told_at_once_and_many_within_a_tenth() {
        let patience = Duration::from_secs(30);
        assert_eq!(spread(0, patience), Duration::ZERO);
        assert_eq!(spread(2, patience), Duration::from_millis(20));
        assert_eq!(spread(100_000, patience), Duration::from_secs(3));
        assert_eq!(spread(usize::MAX, Duration::ZERO), Duration::ZERO);
    }

    #[test]
    fn shares_lie_between_nothing_and_all_and_differ() {
        let shares: Vec<f64> = (0..100).map(|_| share()).collect();
        assert!(shares.iter().all(|share| (0.0..1.0).contains(share)));
        assert!(shares.iter().any(|share| *share < 0.5) && shares.iter().any(|share| *share >= 0.5));
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_comes_within_the_spread_and_not_before_the_drain() {
        let (drain, mut draining) = Drain::new();
        assert!(tokio::time::timeout(Duration::from_secs(3600), draining.my_turn()).await.is_err());
        drain.begin(100_000, Duration::from_secs(30));
        assert!(tokio::time::timeout(Duration::from_secs(4), draining.my_turn()).await.is_ok());
    }
}
