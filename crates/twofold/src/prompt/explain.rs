use std::path::PathBuf;
use std::process::ExitCode;

use prompt_cache::proto::{ExplainResponse, LookupRequest};

use super::lookup::print_reason;
use super::state;
use super::wire::{self, InvocationArgs};
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt explain --api anthropic.messages request.json
  twofold prompt explain --api anthropic.messages --task --repo github.com/me/app --tree . request.json

Prints the nearest result, what drifted from it, and the opt-in rules with which it would have been a hit.";

/// Settings of `twofold prompt explain`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    invocation: InvocationArgs,

    /// Explain the lookup of the task rather than of the call
    #[arg(long, requires = "repo")]
    task: bool,

    /// Evidence that a hit would need
    #[arg(long, value_name = "POLICY", default_value = "", hide_default_value = true)]
    policy: String,

    /// Folder whose files the result would have to fit
    #[arg(long, value_name = "DIR")]
    tree: Option<PathBuf>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Explains and prints.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let mut request = LookupRequest {
        invocation: Some(args.invocation.read()?),
        task: args.task,
        policy: args.policy.clone(),
        ..LookupRequest::default()
    };
    let mut answer = client.explain(request.clone()).await.map_err(wire::said)?.into_inner();
    if let (Some(folder), false) = (&args.tree, answer.needs.is_empty()) {
        request.tree = state::of(folder, &answer.needs, args.remote.digest_function())?;
        answer = client.explain(request).await.map_err(wire::said)?.into_inner();
    }
    match args.remote.json {
        true => wire::print_json(&answer)?,
        false => print(&answer),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(answer: &ExplainResponse) {
    if !answer.uncacheable.is_empty() {
        println!("uncacheable: {}", answer.uncacheable);
        return;
    }
    println!("key {}", answer.key);
    if !answer.nearest.is_empty() {
        println!("nearest {}", answer.nearest);
    }
    println!("common prefix {} of {} links", answer.common_prefix, answer.of);
    for drift in &answer.drift {
        println!("drift {} {} {}", drift.component, drift.item, drift.fields.join(", "));
    }
    for rule in &answer.would_hit_with {
        println!("would hit with {rule}");
    }
    answer.why.iter().for_each(print_reason);
}
