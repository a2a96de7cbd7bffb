//! The order of a run: for each work, all servers are started, checked, and driven in turns.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};

use crate::Options;
use crate::call::Clients;
use crate::load::{Load, drive};
use crate::report::{Figures, Report};
use crate::target::{Kind, Target};
use crate::work::{Seeds, Work};

/// Calls whose answers are compared in full before a server is timed.
const CHECKED_CALLS: usize = 3;

/// Measures all that the options choose, prints a table, and writes the file if asked.
pub async fn run(options: Options) -> anyhow::Result<()> {
    let chosen: Vec<Work> = Work::all().filter(|work| work.name().contains(&options.only)).collect();
    ensure!(!chosen.is_empty(), "no work's name contains {:?}", options.only);
    ensure!(options.concurrency.iter().all(|count| *count > 0), "--concurrency counts from 1");
    let server = match &options.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("twofold"),
    };
    ensure!(server.is_file(), "{} is not there; build it: cargo build --release -p twofold", server.display());
    let mut report = Report::start(&server, &options);
    for work in chosen {
        measure(work, &server, &options, &mut report).await.with_context(|| work.name())?;
    }
    report.finish(options.json.as_deref())
}

async fn measure(work: Work, server: &Path, options: &Options, report: &mut Report) -> anyhow::Result<()> {
    let dir = options.dir.clone().unwrap_or_else(std::env::temp_dir);
    let seeds = work.seeds();
    let mut targets = Vec::new();
    let kinds: &[Kind] =
        if work.writes() { &[Kind::Floor, Kind::Twofold, Kind::TwofoldProcess] } else { &[Kind::Floor, Kind::Twofold] };
    for (kind, seed) in kinds.iter().zip(2..) {
        let target = Target::start(*kind, server, &dir)?;
        prepare(work, &target, &seeds, seed).await.with_context(|| kind.name())?;
        targets.push(target);
    }
    // Seeds so far: 1 for what is there before, then one for each server's check.
    let mut seed = 10;
    for concurrency in &options.concurrency {
        let mut figures: Vec<Figures> =
            targets.iter().map(|target| Figures::new(work, *concurrency, target.kind)).collect();
        for round in 0..options.rounds {
            for turn in 0..targets.len() {
                let at = (turn + round) % targets.len();
                let (Some(target), Some(figures)) = (targets.get(at), figures.get_mut(at)) else { continue };
                seed += 1;
                let pool = Arc::new(work.calls(&seeds, seed));
                one_round(target, pool, options, figures).await.with_context(|| target.kind.name())?;
            }
        }
        report.add(figures);
    }
    Ok(())
}

/// Fills a server and compares its first answers in full.
async fn prepare(work: Work, target: &Target, seeds: &Seeds, seed: u64) -> anyhow::Result<()> {
    let channel = target.connect(1).await?.into_iter().next().context("a connection")?;
    let mut clients = Clients::new(channel);
    seeds.upload(&mut clients).await.context("filling")?;
    let pool = work.calls(seeds, seed);
    // Twenty of the mixed calls hold one of each kind.
    let count = if work == Work::Mixed { 20 } else { CHECKED_CALLS };
    for _ in 0..count {
        pool.next().context("a call")?.check(&mut clients).await.context("checking the answers")?;
    }
    Ok(())
}

async fn one_round(
    target: &Target,
    pool: Arc<crate::load::Pool>,
    options: &Options,
    figures: &mut Figures,
) -> anyhow::Result<()> {
    let channels = target.connect(figures.concurrency).await?;
    let clients: Vec<Clients> = channels.into_iter().map(Clients::new).collect();
    let before = target.usage()?;
    let load: Load = drive(&clients, pool, figures.concurrency, options.duration()).await?;
    let after = target.usage()?;
    figures.add(load, after.cpu_micros - before.cpu_micros, after.resident_bytes);
    Ok(())
}
