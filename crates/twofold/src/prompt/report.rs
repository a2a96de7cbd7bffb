use std::process::ExitCode;

use prompt_cache::proto::{Evidence, ReportRequest};

use super::wire;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt report pk1:sha256:3d8d… --exit-code 0 --tests-passed 12
  twofold prompt report pk1:sha256:3d8d… --exit-code 1 --platform linux-x86_64
      a red report demotes the result at once

The exit code is 0 when the result was found, 1 when not.";

/// Settings of `twofold prompt report`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Key of the result
    #[arg(value_name = "KEY")]
    key: String,

    /// How the build or test ended
    #[arg(long, value_name = "CODE", allow_negative_numbers = true)]
    exit_code: i32,

    /// Tests that passed
    #[arg(long, value_name = "N", default_value_t = 0)]
    tests_passed: u32,

    /// Tests that failed
    #[arg(long, value_name = "N", default_value_t = 0)]
    tests_failed: u32,

    /// Digest of the action that was run
    #[arg(long, value_name = "DIGEST", default_value = "", hide_default_value = true)]
    action: String,

    /// Where it ran
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    platform: String,

    /// Namespace within the tenant
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Reports and prints what became of the result.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let evidence = Evidence {
        action: args.action,
        exit_code: args.exit_code,
        tests_passed: args.tests_passed,
        tests_failed: args.tests_failed,
        platform: args.platform,
        ..Evidence::default()
    };
    let request = ReportRequest { key: args.key, evidence: Some(evidence), namespace: args.namespace };
    let answer = client.report(request).await.map_err(wire::said)?.into_inner();
    match (args.remote.json, answer.found, answer.demoted) {
        (true, ..) => wire::print_json(&answer)?,
        (false, false, _) => println!("nothing is recorded under this key"),
        (false, true, true) => println!("demoted: it is replayed no more"),
        (false, true, false) => println!("noted"),
    }
    Ok(if answer.found { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
