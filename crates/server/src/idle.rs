use std::time::Duration;

use tokio::time::Instant;

use crate::transport::Transport;

/// How often connections are counted while one waits for a server to be idle: this share of the time, a second at most.
const LOOKS: u32 = 10;

/// Waits until no connection was open for `after`; for ever when that is `None`.
pub(crate) async fn idle(transport: &Transport, after: Option<Duration>) {
    let Some(after) = after else {
        return std::future::pending().await;
    };
    let every = (after / LOOKS).clamp(Duration::from_millis(1), Duration::from_secs(1));
    let mut since = Instant::now();
    while since.elapsed() < after {
        tokio::time::sleep(every).await;
        if transport.open_connections() > 0 {
            since = Instant::now();
        }
    }
}
