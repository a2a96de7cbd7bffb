use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use store::RecordKey;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How long a caller that said it makes a call holds the others back.
const LEADS_FOR: Duration = Duration::from_secs(600);
/// Calls that are known to be under way. Beyond it nobody waits.
const MAX_FLIGHTS: usize = 10_000;

/// Calls to models that are under way: one caller makes each, the others may wait for what it records.
#[derive(Default)]
pub(crate) struct Flights(Mutex<HashMap<RecordKey, Flight>>);

struct Flight {
    since: Instant,
    landed: Arc<Notify>,
}

/// The part of a caller in a flight.
pub(crate) enum Part {
    /// It makes the call.
    Leader,
    /// Another one makes it; this tells when it has recorded.
    Follower(Arc<Notify>),
}

impl Flights {
    /// Joins the flight of an entry, or begins it.
    pub(crate) fn join(&self, entry: &RecordKey) -> Part {
        let mut flights = self.0.lock();
        let now = Instant::now();
        match flights.get(entry) {
            Some(flight) if now < flight.since + LEADS_FOR => return Part::Follower(flight.landed.clone()),
            _ => {}
        }
        if flights.len() >= MAX_FLIGHTS {
            flights.retain(|_, flight| now < flight.since + LEADS_FOR);
        }
        if flights.len() < MAX_FLIGHTS {
            let flight = Flight { since: now, landed: Arc::new(Notify::new()) };
            // Who waits for a leader that is late waits for the next one no longer.
            if let Some(late) = flights.insert(entry.clone(), flight) {
                late.landed.notify_waiters();
            }
        }
        Part::Leader
    }

    /// Ends the flight: something was recorded, or the leader needed no call.
    pub(crate) fn land(&self, entry: &RecordKey) {
        if let Some(flight) = self.0.lock().remove(entry) {
            flight.landed.notify_waiters();
        }
    }
}
