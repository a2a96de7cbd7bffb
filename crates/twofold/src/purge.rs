use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::bail;
use server::upkeep::{Purge, PurgeReport, Report, Request};

use crate::upkeep::StoreArgs;

const EXAMPLES: &str = "\
Examples:
  twofold purge --writer ci-runner-7 --after 2026-03-01T08:00:00Z --dry-run
      tells how much that runner wrote since then
  twofold purge --instance team/a
      everything of that instance and of those below it
  twofold purge --digest 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/5
      the results of that action in every instance, and the blob of that digest
  twofold purge --after 2h
      what was written in the last two hours

What is given counts together: a purge drops what all of it names, leased or not. Blobs have no writer and belong to all
instances, so only their digest alone names them; a result that names a purged blob is a miss. Records from before writers
were kept are named by digest and instance only. The exit code is 0 when it was done, 1 when it failed.";

/// Settings of `twofold purge`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// An action or a blob: HASH, HASH/SIZE, or either behind FUNCTION/
    #[arg(long, value_name = "DIGEST")]
    digest: Option<String>,

    /// What this caller wrote
    #[arg(long, value_name = "NAME")]
    writer: Option<String>,

    /// What was written before this time, such as 2026-03-01T08:00:00Z, or longer ago than this, such as 2h
    #[arg(long, value_name = "TIME", value_parser = time)]
    before: Option<SystemTime>,

    /// What was written at or after this time, or in the last so much time
    #[arg(long, value_name = "TIME", value_parser = time)]
    after: Option<SystemTime>,

    /// Change nothing, tell how much would go
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// A time, or how long ago.
fn time(text: &str) -> Result<SystemTime, String> {
    if let Ok(ago) = humantime::parse_duration(text) {
        return SystemTime::now().checked_sub(ago).ok_or_else(|| "that is before all time".to_owned());
    }
    humantime::parse_rfc3339_weak(text)
        .map_err(|_error| "write 2026-03-01T08:00:00Z, or 2h for two hours ago".to_owned())
}

/// Purges and reports.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let text = |time: SystemTime| humantime::format_rfc3339_millis(time).to_string();
    let instance = args.store.remote.instance.as_str();
    let purge = Purge {
        digest: args.digest,
        instance: Some(instance.to_owned()).filter(|name| !name.is_empty()),
        writer: args.writer,
        before: args.before.map(text),
        after: args.after.map(text),
        dry_run: args.dry_run,
    };
    let Report::Purge(report) = args.store.run(Request::Purge(purge), server::DEFAULT_LEASE).await? else {
        bail!("the server reports on something else")
    };
    if args.store.remote.json {
        println!("{}", serde_json::to_string(&report)?);
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print(PurgeReport { dry_run, records, blobs, seen }: &PurgeReport) {
    let verb = if *dry_run { "would purge" } else { "purged" };
    println!("{verb} {records} of {seen} records, {blobs} blobs");
}
