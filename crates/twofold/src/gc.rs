use std::process::ExitCode;
use std::time::Duration;

use anyhow::bail;
use bytesize::ByteSize;
use server::upkeep::{Gc, GcReport, Report, Request, TallyReport};

use crate::upkeep::StoreArgs;

const EXAMPLES: &str = "\
Examples:
  twofold gc --max-size 50GiB
      the least recently used goes until the store takes 50 GiB; the server's --max-size stays as it is
  twofold gc --unused-for 14d --dry-run
      tells what was not used for two weeks
  twofold gc --max-size 50GiB --data /srv/cache --lease 3h
      while no server runs

What was promised to clients within the server's --lease stays, and what was written within its --evict-floor; the report
says how much that is. The exit code is 0 when it was done, 1 when it failed.";

/// Settings of `twofold gc`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Evict until the store takes no more than this on disk, such as 50GiB
    #[arg(long, value_name = "SIZE", required_unless_present = "unused_for")]
    max_size: Option<ByteSize>,

    /// Evict what was not used for this long, such as 14d
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    unused_for: Option<Duration>,

    /// Change nothing, tell what would go
    #[arg(long)]
    dry_run: bool,

    /// With --data: how long promises are kept, as the server's --lease says
    #[arg(long, value_name = "TIME", default_value = "3h", value_parser = humantime::parse_duration)]
    lease: Duration,

    #[command(flatten)]
    store: StoreArgs,
}

/// Evicts and reports.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let gc = Gc { dry_run: args.dry_run, ..Gc::new(args.max_size, args.unused_for) };
    let report = args.store.run(Request::Gc(gc), args.lease).await?;
    let Report::Gc(report) = report else { bail!("the server reports on something else") };
    if args.store.remote.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(report: &GcReport) {
    let GcReport { dry_run, evicted, held, bytes_before, bytes_after } = report;
    println!("{}  {}", if *dry_run { "would evict" } else { "evicted    " }, tally(evicted));
    println!("held         {}, by leases and by what was just written", tally(held));
    println!("on disk      {} before, {} after", ByteSize(*bytes_before), ByteSize(*bytes_after));
}

fn tally(TallyReport { blobs, records, bytes }: &TallyReport) -> String {
    format!("{blobs} blobs, {records} records, {}", ByteSize(*bytes))
}
