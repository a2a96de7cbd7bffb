use std::process::ExitCode;

use anyhow::bail;
use bytesize::ByteSize;
use server::upkeep::{Fsck, FsckReport, Report, Request};

use crate::upkeep::StoreArgs;

const EXAMPLES: &str = "\
Examples:
  twofold fsck
      checks the store of the server on this machine, while it serves
  twofold fsck --data /srv/cache
      checks and mends a store that no server uses, also one that a server refuses to open
  twofold fsck --dry-run --json
      changes nothing

Reads every blob and record and checks the stored checksums, the hashes, and the index against itself. Damage is put aside in
the folder quarantine/, rows without bytes are dropped, files that nothing names are removed. Where the index itself cannot
be read, only --data can mend it: it is made anew from what is left of it and from the bytes. The exit code is 0 when there
was no fault, 1 when there were some, 2 when it could not be checked.";

/// There were faults.
const FAULTS: u8 = 1;
/// It could not be checked.
const FAILED: u8 = 2;

/// Settings of `twofold fsck`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Change nothing, tell what is wrong
    #[arg(long)]
    dry_run: bool,

    #[command(flatten)]
    store: StoreArgs,
}

/// Checks and reports.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match check(&args).await {
        Ok(report) => {
            if args.store.remote.json {
                println!("{}", serde_json::to_string(&report)?);
            } else {
                print(&report, args.store.is_offline());
            }
            let code = if report.called_off { FAILED } else { FAULTS };
            Ok(if report.faults == 0 && !report.called_off { ExitCode::SUCCESS } else { code.into() })
        }
        Err(error) => {
            eprintln!("twofold: {error:#}");
            Ok(FAILED.into())
        }
    }
}

async fn check(args: &Args) -> anyhow::Result<FsckReport> {
    let request = Request::Fsck(Fsck { dry_run: args.dry_run });
    let Report::Fsck(report) = args.store.run(request, server::DEFAULT_LEASE).await? else {
        bail!("the server reports on something else")
    };
    Ok(report)
}

fn print(report: &FsckReport, is_offline: bool) {
    println!("whole             {} blobs ({}), {} records", report.blobs, ByteSize(report.bytes), report.records);
    let counts = [
        ("damaged blobs", report.damaged_blobs),
        ("lost blobs", report.lost_blobs),
        ("damaged records", report.damaged_records),
        ("broken rows", report.broken_rows),
        ("unlisted entries", report.unlisted),
        ("wrong sums", report.wrong_sums),
        ("orphan files", report.orphan_files),
        ("unreadable parts", report.unreadable_parts),
    ];
    for (name, count) in counts.iter().filter(|(_, count)| *count > 0) {
        println!("{name:<17} {count}");
    }
    if let Some(rebuilt) = &report.rebuilt {
        let (kept, found) = (rebuilt.rows_kept, rebuilt.blobs_found);
        println!("index made anew   {kept} rows kept, {found} blobs found among the bytes");
    }
    for example in &report.examples {
        println!("  {example}");
    }
    match report.faults {
        0 => println!("no faults"),
        faults if report.unreadable_parts > 0 && !is_offline => {
            println!("{faults} faults; stop the server and run `twofold fsck --data` with its folder");
        }
        faults if report.dry_run => println!("{faults} faults, nothing was changed"),
        faults => println!("{faults} faults, mended"),
    }
}
