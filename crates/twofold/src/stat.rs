use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use reapi::client::{Capabilities, RemoteStore};
use serde_json::json;

use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold stat
  twofold stat --remote grpc://cache.example:8980 --json

The exit code is 0 when the cache answers, 1 when it does not.";

/// Calls that the round-trip time is the median of.
const ROUNDS: usize = 9;

/// Settings of `twofold stat`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints what the cache offers and how far away it is.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let remote = match args.remote.connect().await {
        Ok(remote) => remote,
        Err(error) if args.remote.json => {
            let remote = args.remote.remote.to_string();
            println!("{}", json!({ "remote": remote, "reachable": false, "error": format!("{error:#}") }));
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error),
    };
    let round_trip = round_trip(&remote).await.context("the cache answered once and then no more")?;
    if args.remote.json {
        println!("{}", as_json(&args.remote, remote.capabilities(), round_trip));
    } else {
        print_text(&args.remote, remote.capabilities(), round_trip);
    }
    Ok(ExitCode::SUCCESS)
}

async fn round_trip(remote: &RemoteStore) -> anyhow::Result<Duration> {
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        times.push(remote.round_trip().await?);
    }
    times.sort();
    Ok(times.get(ROUNDS / 2).copied().unwrap_or_default())
}

fn functions(capabilities: &Capabilities) -> Vec<&'static str> {
    capabilities.digest_functions.iter().map(|function| function.name()).collect()
}

fn as_json(args: &RemoteArgs, capabilities: &Capabilities, round_trip: Duration) -> serde_json::Value {
    json!({
        "remote": args.remote.to_string(),
        "reachable": true,
        "round_trip_seconds": round_trip.as_secs_f64(),
        "api_versions": { "low": capabilities.low.to_string(), "high": capabilities.high.to_string() },
        "digest_functions": functions(capabilities),
        "zstd": { "streams": capabilities.stream_zstd, "batches": capabilities.batch_zstd },
        "max_batch_bytes": capabilities.max_batch_bytes,
        "max_blob_bytes": capabilities.max_blob_bytes,
        "chunking": {
            "split": capabilities.split,
            "splice": capabilities.splice,
            "fastcdc_2020_average_bytes": capabilities.avg_chunk_bytes,
        },
        "action_results_writable": capabilities.update_enabled,
    })
}

fn print_text(args: &RemoteArgs, capabilities: &Capabilities, round_trip: Duration) {
    let yes_no = |yes| if yes { "yes" } else { "no" };
    println!("remote             {}, reachable", args.remote);
    println!("round trip         {:.2} ms", round_trip.as_secs_f64() * 1000.0);
    println!("API versions       {} to {}", capabilities.low, capabilities.high);
    println!("digest functions   {}", functions(capabilities).join(", "));
    println!(
        "zstd               streams {}, batches {}",
        yes_no(capabilities.stream_zstd),
        yes_no(capabilities.batch_zstd)
    );
    println!("largest batch      {} bytes", capabilities.max_batch_bytes);
    match capabilities.max_blob_bytes {
        Some(max) => println!("largest blob       {max} bytes"),
        None => println!("largest blob       no limit stated"),
    }
    let average =
        capabilities.avg_chunk_bytes.map_or(String::new(), |bytes| format!(", FastCDC 2020 at {bytes} bytes"));
    println!(
        "chunks             split {}, splice {}{average}",
        yes_no(capabilities.split),
        yes_no(capabilities.splice)
    );
    println!("action results     {}", if capabilities.update_enabled { "may be written" } else { "read only" });
}
