use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use futures::task::AtomicWaker;
use hyper::rt::Executor;
use tokio::time::{Instant, Sleep, sleep_until};

/// Runs each call on its connection's own task as far as it goes without waiting, and the rest on a task of its own.
///
/// Most small calls never wait: their request is there with its headers, and their answer in memory. They cost no task,
/// and their answers leave in one write with those of the calls that arrived beside them.
///
/// A call that nothing wakes for `idle` is ended: its peer takes nothing of the answer, whose memory it holds.
#[derive(Clone, Copy)]
pub(crate) struct Calls {
    pub(crate) idle: Duration,
}

thread_local! {
    /// Whether the call that is about to be executed on this thread may rest as long as it likes.
    static MAY_REST: Cell<bool> = const { Cell::new(false) };
}

/// Calls that say something only when something happens.
const RESTING: [&str; 2] = ["/grpc.health.v1.Health/Watch", "/grpc.reflection."];

/// Takes notice of the path of a call, which the same thread executes next.
pub(crate) fn announce(path: &str) {
    MAY_REST.set(RESTING.iter().any(|resting| path.starts_with(resting)));
}

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
                match MAY_REST.get() {
                    true => drop(tokio::spawn(call)),
                    false => drop(tokio::spawn(Awake::new(call, self.idle))),
                }
            }
            Ok(false) => {}
            // As in a task of its own, a defect in one call leaves the others of its connection alone.
            Err(_) => tracing::error!("a call panicked"),
        }
    }
}

/// A call that is ended when nothing has woken it for a while.
struct Awake<F> {
    call: Pin<Box<F>>,
    woken: Arc<Woken>,
    waker: Waker,
    idle: Duration,
    last: Instant,
    limit: Pin<Box<Sleep>>,
}

/// Tells what woke a task: its call, or its limit.
struct Woken {
    by_call: AtomicBool,
    task: AtomicWaker,
}

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.by_call.store(true, Ordering::Release);
        self.task.wake();
    }
}

impl<F> Awake<F> {
    fn new(call: Pin<Box<F>>, idle: Duration) -> Self {
        // It is polled at once.
        let woken = Arc::new(Woken { by_call: AtomicBool::new(true), task: AtomicWaker::new() });
        let last = Instant::now();
        let waker = Waker::from(woken.clone());
        Self { call, woken, waker, idle, last, limit: Box::pin(sleep_until(last + idle)) }
    }
}

impl<F: Future<Output = ()>> Future for Awake<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.woken.task.register(cx.waker());
        if this.woken.by_call.swap(false, Ordering::AcqRel) {
            this.last = Instant::now();
            if this.call.as_mut().poll(&mut Context::from_waker(&this.waker)).is_ready() {
                return Poll::Ready(());
            }
        }
        while this.limit.as_mut().poll(cx).is_ready() {
            let end = this.last + this.idle;
            if Instant::now() >= end {
                tracing::debug!("a call was ended: nothing woke it");
                return Poll::Ready(());
            }
            this.limit.as_mut().reset(end);
        }
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_call_is_ended_when_nothing_wakes_it() {
        let idle = Duration::from_secs(10);
        let start = Instant::now();
        Awake::new(Box::pin(std::future::pending()), idle).await;
        assert_eq!(start.elapsed(), idle);

        let busy = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_secs(9)).await;
            }
            std::future::pending().await
        };
        let start = Instant::now();
        Awake::new(Box::pin(busy), idle).await;
        assert_eq!(start.elapsed(), Duration::from_secs(45) + idle);

        let start = Instant::now();
        Awake::new(Box::pin(tokio::time::sleep(Duration::from_secs(3))), idle).await;
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[test]
    fn only_what_waits_for_news_may_rest() {
        for (path, may) in [
            ("/grpc.health.v1.Health/Watch", true),
            ("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", true),
            ("/grpc.health.v1.Health/Check", false),
            ("/google.bytestream.ByteStream/Read", false),
        ] {
            announce(path);
            assert_eq!(MAY_REST.get(), may, "{path}");
        }
    }
}
