use std::process::ExitCode;
use std::time::SystemTime;

use anyhow::Context;
use prompt_cache::proto::InvalidateRequest;

use super::wire;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt invalidate --writer ci-7
  twofold prompt invalidate --model claude-opus-4-7 --path-prefix src/parser/
  twofold prompt invalidate --before 2026-11-01T00:00:00Z

All that is given has to fit a result. Results that are recorded later are not touched.";

/// Settings of `twofold prompt invalidate`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Results of this model snapshot
    #[arg(long, value_name = "MODEL", default_value = "", hide_default_value = true)]
    model: String,

    /// Results of requests with this tool, by the digest that `twofold prompt key --json` shows
    #[arg(long, value_name = "HEX", default_value = "", hide_default_value = true)]
    tool: String,

    /// Results under this profile
    #[arg(long, value_name = "PROFILE", default_value = "", hide_default_value = true)]
    profile: String,

    /// Results that read or changed files below this path
    #[arg(long, value_name = "PATH", default_value = "", hide_default_value = true)]
    path_prefix: String,

    /// Results that this caller recorded
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    writer: String,

    /// Results recorded before this time [default: now]
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_rfc3339_weak)]
    before: Option<SystemTime>,

    /// Namespace within the tenant
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Invalidates.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let before_ms = match args.before {
        None => 0,
        Some(time) => i64::try_from(time.duration_since(SystemTime::UNIX_EPOCH)?.as_millis()).context("the time")?,
    };
    let request = InvalidateRequest {
        model: args.model,
        tool: args.tool,
        profile: args.profile,
        path_prefix: args.path_prefix,
        writer: args.writer,
        before_ms,
        namespace: args.namespace,
    };
    let answer = client.invalidate(request).await.map_err(wire::said)?.into_inner();
    match args.remote.json {
        true => wire::print_json(&answer)?,
        false => println!("invalidated"),
    }
    Ok(ExitCode::SUCCESS)
}
