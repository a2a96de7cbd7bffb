//! What `gc`, `fsck` and `purge` share: where the store is, progress, and the exit code.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use futures::{Stream, StreamExt, TryStreamExt};
use reapi::client::PostError;
use server::upkeep::{Event, Report, Request, run_offline};

use crate::progress::Progress;
use crate::remote::RemoteArgs;

/// Whose store it is.
#[derive(clap::Args, Clone)]
pub struct StoreArgs {
    #[command(flatten)]
    pub remote: RemoteArgs,

    /// Work on the store in this folder, which no server may be using, instead of asking a server
    #[arg(long, value_name = "DIR", conflicts_with = "remote")]
    data: Option<PathBuf>,
}

impl StoreArgs {
    /// Whether the work goes on without a server.
    pub fn is_offline(&self) -> bool {
        self.data.is_some()
    }

    /// Does it, and shows how far it is. `lease` counts where no server knows it.
    pub async fn run(&self, request: Request, lease: Duration) -> anyhow::Result<Report> {
        request.check()?;
        let task = request.task();
        match &self.data {
            Some(data) => {
                let opened = run_offline(data, lease, request).await?;
                let events = opened.map(Ok::<Event, anyhow::Error>);
                watch(task, events).await
            }
            None => watch(task, self.ask(&request).await?).await,
        }
    }

    async fn ask(&self, request: &Request) -> anyhow::Result<impl Stream<Item = anyhow::Result<Event>> + use<>> {
        let server = self.remote.connect().await?;
        let posted = server.post_json(&format!("/admin/{}", request.task()), request.body()).await;
        let lines = posted.map_err(|error| match &error {
            PostError::Refused { status, .. } if matches!(status.as_u16(), 404 | 405) => {
                anyhow::Error::new(error).context("the server there is no twofold, or an older one")
            }
            PostError::Refused { status, .. } if matches!(status.as_u16(), 401 | 403) => {
                anyhow::Error::new(error).context("this needs a credential with the role admin")
            }
            _ => anyhow::Error::new(error),
        })?;
        Ok(lines.map_err(anyhow::Error::new).map(|line| {
            line.and_then(|line| serde_json::from_slice(&line).context("the server's answer cannot be read"))
        }))
    }
}

async fn watch(task: &str, events: impl Stream<Item = anyhow::Result<Event>>) -> anyhow::Result<Report> {
    let progress = Progress::of_steps(task);
    let mut events = std::pin::pin!(events);
    while let Some(event) = events.next().await {
        match event? {
            Event::Progress { done, total } => progress.at(done, total),
            Event::Report(report) => {
                progress.finish();
                return Ok(report);
            }
            Event::Error(error) => {
                progress.finish();
                bail!(error);
            }
        }
    }
    bail!("the connection ended before the report came; the work may have been called off")
}
