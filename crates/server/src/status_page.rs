//! The page at `/`: how the cache does, drawn in the browser from `/status.json`, with nothing from elsewhere.
//!
//! | module | owns |
//! |---|---|
//! | `history` | a bounded memory of the last day |
//! | `report` | `/status.json` |
//! | `page` | the page itself and what a browser may do on it |

mod history;
mod page;
mod report;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use self::history::{History, Sample};
use crate::metrics::Sources;

pub(crate) use page::Page;

/// How often a point of the history is taken.
const SAMPLE_EVERY: Duration = Duration::from_secs(10);

/// What the page shows.
#[derive(Clone)]
pub(crate) struct Status {
    sources: Sources,
    history: Arc<Mutex<History>>,
}

impl Status {
    pub(crate) fn new(sources: Sources) -> Self {
        let history = History::new(Sample::of(&sources, SystemTime::now()));
        Self { sources, history: Arc::new(Mutex::new(history)) }
    }

    /// Takes a point of the history every few seconds, for ever.
    pub(crate) async fn keep_history(self) {
        let mut ticks = tokio::time::interval(SAMPLE_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            let sample = Sample::of(&self.sources, SystemTime::now());
            self.history.lock().push(sample);
        }
    }

    /// The answer to `/status.json`.
    pub(crate) fn json(&self, ready: &str) -> String {
        let now = Sample::of(&self.sources, SystemTime::now());
        report::report(&self.sources, &self.history.lock(), &now, ready).to_string()
    }
}
