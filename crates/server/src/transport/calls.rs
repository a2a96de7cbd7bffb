use std::panic::{AssertUnwindSafe, catch_unwind};
use std::task::{Context, Waker};

use hyper::rt::Executor;

/// Runs each call on its connection's own task as far as it goes without waiting, and the rest on a task of its own.
///
/// Most small calls never wait: their request is there with its headers, and their answer in memory. They cost no task,
/// and their answers leave in one write with those of the calls that arrived beside them.
#[derive(Clone, Copy)]
pub(crate) struct Calls;

impl<F> Executor<F> for Calls
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, call: F) {
        let mut call = Box::pin(call);
        // Nobody needs to be woken: a call that waits is polled again at once by its own task.
        let mut nobody = Context::from_waker(Waker::noop());
        match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(&mut nobody).is_pending())) {
            Ok(true) => {
                // The stream it answers is its owner: a call ends when that is reset or its connection gone.
                drop(tokio::spawn(call));
            }
            Ok(false) => {}
            // As in a task of its own, a defect in one call leaves the others of its connection alone.
            Err(_) => tracing::error!("a call panicked"),
        }
    }
}
