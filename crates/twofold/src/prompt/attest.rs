use std::process::ExitCode;

use anyhow::Context;
use prompt_cache::proto::AttestRequest;

use super::wire;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt attest pk1:sha256:3d8d… > provenance.dsse.json
  twofold prompt attest --reuse pk1:sha256:3d8d…
      that the result was given out again, naming the statement of the first time

Prints a DSSE envelope of an in-toto statement, signed by the server when the result was recorded. It says what the
harness claimed: no model provider signs responses.";

/// Settings of `twofold prompt attest`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Key of the result
    #[arg(value_name = "KEY")]
    key: String,

    /// Attest that it is used again
    #[arg(long)]
    reuse: bool,

    /// Namespace within the tenant
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the envelope; with --json the server's public key too.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let request = AttestRequest { key: args.key, reuse: args.reuse, namespace: args.namespace };
    let answer = client.attest(request).await.map_err(wire::said)?.into_inner();
    if answer.envelope.is_empty() {
        anyhow::bail!("nothing is recorded under this key, or its statement is gone");
    }
    match args.remote.json {
        true => wire::print_json(&answer)?,
        false => println!("{}", std::str::from_utf8(&answer.envelope).context("the envelope is no text")?),
    }
    Ok(ExitCode::SUCCESS)
}
