//! Clients that mean harm, or are broken beyond what any protocol foresees: the right refusals, nothing stored, bounded
//! memory, and a well-behaved client beside them that gets right answers all the time. Prints the memory and the latency of
//! that client; `TWOFOLD_LONG=1` holds the latency to twice what it was before the attack.
mod harness;

#[path = "hostile/bodies.rs"]
mod bodies;
#[path = "hostile/bystander.rs"]
mod bystander;
#[path = "hostile/connections.rs"]
mod connections;
#[path = "hostile/messages.rs"]
mod messages;
#[path = "hostile/reads.rs"]
mod reads;
#[path = "hostile/uploads.rs"]
mod uploads;

use std::sync::{Mutex, MutexGuard, PoisonError};

use harness::Server;

/// A server whose tests take turns: each measures memory and latency.
struct Alone {
    server: Server,
    _turn: MutexGuard<'static, ()>,
}

impl std::ops::Deref for Alone {
    type Target = Server;

    fn deref(&self) -> &Server {
        &self.server
    }
}

fn alone() -> Alone {
    static TURN: Mutex<()> = Mutex::new(());
    // A test that failed says so itself.
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    Alone { server: Server::start(&["--max-size", "4GiB"]), _turn: turn }
}
