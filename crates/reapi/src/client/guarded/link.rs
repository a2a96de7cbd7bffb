use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use store::StoreError;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::client::status::LEVEL;
use crate::client::{Address, RemoteStore, Settings};

/// Failures in a row after which the server is left out.
const FAILURES: u32 = 3;

/// Between two attempts to reach a server that was left out; doubled each time.
const FIRST_DELAY: Duration = Duration::from_millis(500);
const MAX_DELAY: Duration = Duration::from_secs(15);

/// How things stand with a far server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Not reached yet, and not given up.
    Connecting,
    /// It answers.
    Up,
    /// It is left out, and asked in the background whether it is back.
    Down,
}

enum State {
    Connecting,
    Up(RemoteStore),
    Down,
}

/// Lets calls through to a server while it answers.
pub(super) struct Guard {
    budget: Duration,
    state: watch::Sender<State>,
    failures: AtomicU32,
    /// Since the last connection: a call succeeded; a refusal was logged.
    served: AtomicBool,
    told: AtomicBool,
}

impl Guard {
    pub(super) fn new(budget: Duration) -> Self {
        Self {
            budget,
            state: watch::Sender::new(State::Connecting),
            failures: AtomicU32::new(0),
            served: AtomicBool::new(false),
            told: AtomicBool::new(false),
        }
    }

    pub(super) fn budget(&self) -> Duration {
        self.budget
    }

    pub(super) fn link(&self) -> Link {
        match &*self.state.borrow() {
            State::Connecting => Link::Connecting,
            State::Up(_) => Link::Up,
            State::Down => Link::Down,
        }
    }

    pub(super) async fn until_up(&self) {
        let mut state = self.state.subscribe();
        // The sender is this guard's own, so the wait ends with an answer.
        state.wait_for(|state| matches!(state, State::Up(_))).await.ok();
    }

    /// The server, when it may be asked.
    pub(super) async fn remote(&self) -> Result<RemoteStore, StoreError> {
        let mut state = self.state.subscribe();
        let known = timeout(self.budget, state.wait_for(|state| !matches!(state, State::Connecting))).await;
        match known {
            Ok(Ok(state)) => match &*state {
                State::Up(remote) => Ok(remote.clone()),
                _ => Err(StoreError::LeftOut { level: LEVEL }),
            },
            _ => Err(StoreError::LeftOut { level: LEVEL }),
        }
    }

    /// Takes note of how a call ended; after too many failures in a row, no more are let through.
    pub(super) fn note(&self, error: Option<&StoreError>) {
        match error {
            Some(StoreError::LeftOut { .. } | StoreError::Body(_)) => {}
            Some(StoreError::Unavailable { source, .. }) => {
                if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= FAILURES {
                    let down = self.state.send_if_modified(|state| {
                        let was_up = matches!(state, State::Up(_));
                        if was_up {
                            *state = State::Down;
                        }
                        was_up
                    });
                    if down {
                        tracing::warn!(cause = %chain(source.as_ref()), "the far server fails; it is left out until it answers again");
                    }
                }
            }
            Some(StoreError::Internal { source, .. }) => {
                self.failures.store(0, Ordering::Relaxed);
                if !self.told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(cause = %source, "the far server refuses a call; later refusals are not logged");
                }
            }
            Some(_) | None => {
                self.failures.store(0, Ordering::Relaxed);
                self.served.store(true, Ordering::Relaxed);
            }
        }
    }

    fn up(&self, remote: RemoteStore) {
        self.failures.store(0, Ordering::Relaxed);
        self.served.store(false, Ordering::Relaxed);
        self.told.store(false, Ordering::Relaxed);
        self.state.send_replace(State::Up(remote));
    }
}

/// Connects, and again whenever the server was left out. Never ends.
pub(super) async fn watch(guard: Arc<Guard>, address: Address, settings: Settings) {
    let mut state = guard.state.subscribe();
    let mut delay = FIRST_DELAY;
    let mut told = false;
    loop {
        match timeout(guard.budget, RemoteStore::connect(&address, settings.clone())).await {
            Ok(Ok(remote)) => {
                tracing::info!(upstream = %address, "the far server answers");
                guard.up(remote);
                told = true;
                // The sender is the guard's own, which this task holds.
                state.wait_for(|state| matches!(state, State::Down)).await.ok();
                if guard.served.load(Ordering::Relaxed) {
                    delay = FIRST_DELAY;
                }
            }
            failed => {
                if !told {
                    let cause = match failed {
                        Ok(Err(error)) => chain(&error),
                        _ => format!("no answer within {:?}", guard.budget),
                    };
                    tracing::warn!(upstream = %address, %cause, "the far server cannot be reached; it is left out until it answers");
                    told = true;
                }
                guard.state.send_replace(State::Down);
            }
        }
        sleep(delay).await;
        delay = (delay * 2).min(MAX_DELAY);
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}
