use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Where the engine gets the time of day from.
pub trait Clock: Send + Sync {
    /// The time since the start of 1970.
    fn now(&self) -> Duration;
}

/// The machine's clock.
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> Duration {
        // A clock before 1970 is as good as one at 1970: entries only look old.
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }
}
