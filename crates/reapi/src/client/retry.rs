use std::collections::hash_map::RandomState;
use std::error::Error as _;
use std::future::Future;
use std::hash::{BuildHasher, Hasher};
use std::time::Duration;

use tonic::{Code, Status};
use tonic_types::StatusExt;

const FIRST_DELAY: Duration = Duration::from_millis(100);
const MAX_DELAY: Duration = Duration::from_secs(5);

/// Waits between the attempts of one call, longer each time, with jitter; says when to give up.
pub(super) struct Backoff {
    attempts: u32,
    failed: u32,
}

impl Backoff {
    /// `attempts` is how often the call is tried in all.
    pub(super) fn new(attempts: u32) -> Self {
        Self { attempts, failed: 0 }
    }

    /// Starts the count anew, after progress.
    pub(super) fn reset(&mut self) {
        self.failed = 0;
    }

    /// Waits and says `true` when the call is worth another attempt.
    pub(super) async fn wait(&mut self, status: &Status) -> bool {
        self.failed += 1;
        if self.failed >= self.attempts || !is_transient(status) {
            return false;
        }
        tokio::time::sleep(self.delay(status)).await;
        true
    }

    /// What the server asked for, or the doubled delay; from that, up to a quarter less. Spec: R-150.
    fn delay(&self, status: &Status) -> Duration {
        let asked = status.get_details_retry_info().and_then(|info| info.retry_delay);
        let doubled = FIRST_DELAY.saturating_mul(1 << (self.failed - 1).min(16));
        let full = asked.unwrap_or(doubled).min(MAX_DELAY);
        let quarter_millis = u64::try_from(full.as_millis() / 4).unwrap_or(0);
        full.saturating_sub(Duration::from_millis(random() % (quarter_millis + 1)))
    }
}

/// Whether asking again may help: the server says so, or the connection broke.
fn is_transient(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::ResourceExhausted | Code::Aborted | Code::DeadlineExceeded => true,
        // A status made here from a fault of the transport has a source; one that a server sent has none.
        Code::Unknown | Code::Internal | Code::Cancelled => status.source().is_some(),
        _ => false,
    }
}

/// A number that differs from call to call and from process to process; not for secrets.
pub(super) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// `future`, cut off after `limit`.
pub(super) async fn within<T>(limit: Duration, future: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    match tokio::time::timeout(limit, future).await {
        Ok(result) => result,
        Err(_elapsed) => Err(no_progress(limit)),
    }
}

pub(super) fn no_progress(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no progress for {} s", limit.as_secs()))
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_tried_as_often_as_set_and_refusals_once() {
        let mut backoff = Backoff::new(3);
        assert!(backoff.wait(&Status::unavailable("")).await);
        assert!(backoff.wait(&Status::resource_exhausted("")).await);
        assert!(!backoff.wait(&Status::unavailable("")).await);
        for refusal in [Code::InvalidArgument, Code::NotFound, Code::PermissionDenied, Code::DataLoss, Code::Internal] {
            assert!(!Backoff::new(3).wait(&Status::new(refusal, "")).await, "{refusal:?}");
        }
    }

    #[test]
    fn delays_double_up_to_a_bound_and_follow_the_server() {
        let delay = |failed, status: &Status| Backoff { attempts: 99, failed }.delay(status);
        let plain = Status::unavailable("");
        for (failed, full_millis) in [(1, 100), (2, 200), (4, 800), (40, 5000)] {
            let millis = delay(failed, &plain).as_millis();
            assert!(millis <= full_millis && millis >= full_millis * 3 / 4, "{failed}: {millis}");
        }
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(2)));
        let asked = Status::with_error_details(Code::Unavailable, "", details);
        assert!(delay(1, &asked) >= Duration::from_millis(1500));
    }
}
