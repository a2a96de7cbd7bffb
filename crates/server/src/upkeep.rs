//! Upkeep of a store: eviction on request, checking, purging; of the store that is served, or of one that no server uses.

mod event;
mod fsck;
mod gc;
mod purge;
mod request;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use backends::{Embedded, Eviction, Settings, Work};
use futures::{Stream, StreamExt, stream};

pub use event::{Event, FsckReport, GcReport, PurgeReport, Report, TallyReport};
pub use request::{Fsck, Gc, Purge, Request, RequestError};

/// How often it is told how far the work is.
const TELL_EVERY: Duration = Duration::from_millis(250);

/// Has the work end early when nobody waits for it any more.
struct CallOff(Arc<Work>);

impl Drop for CallOff {
    fn drop(&mut self) {
        self.0.call_off();
    }
}

/// Does what is asked and tells how far it is; ends with a report or an error.
pub(crate) fn run(store: Arc<Embedded>, request: Request) -> impl Stream<Item = Event> + Send + 'static {
    let work = Arc::new(Work::default());
    events(Arc::clone(&work), async move { answer(&store, request, work).await })
}

fn events(
    work: Arc<Work>,
    running: impl Future<Output = anyhow::Result<Report>> + Send + 'static,
) -> impl Stream<Item = Event> + Send + 'static {
    let state = Some((Box::pin(running), CallOff(work)));
    stream::unfold(state, |state| async move {
        let (mut running, call_off) = state?;
        let event = tokio::select! {
            ended = &mut running => {
                let event = match ended {
                    Ok(report) => Event::Report(report),
                    Err(error) => Event::Error(format!("{error:#}")),
                };
                return Some((event, None));
            }
            () = tokio::time::sleep(TELL_EVERY) => Event::Progress { done: call_off.0.done(), total: call_off.0.total() },
        };
        Some((event, Some((running, call_off))))
    })
}

async fn answer(store: &Embedded, request: Request, work: Arc<Work>) -> anyhow::Result<Report> {
    Ok(match request {
        Request::Gc(gc) => Report::Gc(gc::run(store, &gc, work).await?),
        Request::Fsck(fsck) => Report::Fsck(fsck::run(store, &fsck, work).await?),
        Request::Purge(purge) => Report::Purge(purge::run(store, &purge, &work).await?),
    })
}

/// Does what is asked on a store that no server uses. `lease` is how long its server keeps its promises.
///
/// # Errors
/// There is no store in the folder, or a server uses it.
pub async fn run_offline(
    data: &Path,
    lease: Duration,
    request: Request,
) -> anyhow::Result<impl Stream<Item = Event> + Send + 'static> {
    if !data.join("packs").is_dir() {
        bail!("there is no store in {}", data.display());
    }
    let settings = Settings {
        data: data.to_owned(),
        // The bound is the server's; nothing is evicted here unless it is asked for.
        max_size_bytes: u64::MAX / 4,
        lease,
        evict_floor: Duration::ZERO,
        eviction: Eviction::OnRequest,
        durability: backends::Durability::PowerLoss,
    };
    let work = Arc::new(Work::default());
    let running = offline(settings, request, Arc::clone(&work));
    Ok(events(work, running).boxed())
}

async fn offline(settings: Settings, request: Request, work: Arc<Work>) -> anyhow::Result<Report> {
    let folder = settings.data.clone();
    let mends = matches!(request, Request::Fsck(Fsck { dry_run: false }));
    let opening = Arc::clone(&work);
    let opened = tokio::task::spawn_blocking(move || {
        if mends { Embedded::open_mending(settings, &opening) } else { Ok((Embedded::open(settings)?, None)) }
    });
    let (store, rebuilt) = opened.await?.with_context(|| format!("cannot open the store in {}", folder.display()))?;
    let mut report = answer(&store, request, work).await;
    if let (Ok(Report::Fsck(report)), Some(rebuilt)) = (&mut report, rebuilt) {
        report.add_rebuilt(&rebuilt);
    }
    tokio::task::spawn_blocking(move || store.close()).await?;
    report
}
