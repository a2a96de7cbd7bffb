use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use prompt_cache::proto::{LookupResponse, Outcome, Reason};

use super::question::QuestionArgs;
use super::{apply, wire};

const EXAMPLES: &str = "\
Examples:
  twofold prompt lookup --api anthropic.messages request.json
  twofold prompt lookup --api anthropic.messages --repo github.com/me/app --task --apply . request.json
      writes the recorded files if what was read and changed then is the same here

The exit code is 0 for a hit, 1 for anything else, 2 when it could not be found out.";

/// It could not be found out.
const FAILED: u8 = 2;

/// Settings of `twofold prompt lookup`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    question: QuestionArgs,

    /// Folder to write the recorded files in, if the result fits it
    #[arg(long, value_name = "DIR", conflicts_with = "tree")]
    apply: Option<PathBuf>,

    /// Do not look: another sample is wanted
    #[arg(long)]
    no_cache: bool,

    /// How long to wait for another caller that makes the same call
    #[arg(long, value_name = "TIME", default_value = "0s", value_parser = humantime::parse_duration)]
    wait: std::time::Duration,
}

/// Looks up, applies if asked to, and prints.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match look(&args).await {
        Ok(code) => Ok(code),
        Err(error) => {
            eprintln!("twofold: {error:#}");
            Ok(FAILED.into())
        }
    }
}

async fn look(args: &Args) -> anyhow::Result<ExitCode> {
    let (mut client, store) = wire::connect(&args.question.remote).await?;
    let mut request = args.question.request()?;
    request.no_cache = args.no_cache;
    request.wait_ms = u32::try_from(args.wait.as_millis()).unwrap_or(u32::MAX);
    let mut answer = client.lookup(request.clone()).await.map_err(wire::said)?.into_inner();
    let folder = args.apply.as_ref().or(args.question.tree.as_ref());
    if args.question.add_states(&mut request, folder.map(PathBuf::as_path), &answer.needs)? {
        // This is the same call, not one more of the run.
        if let Some(invocation) = request.invocation.as_mut() {
            invocation.run.clear();
            invocation.slot = answer.slot;
        }
        answer = client.lookup(request).await.map_err(wire::said)?.into_inner();
    }
    let is_hit = answer.outcome() == Outcome::Hit;
    if let (true, Some(folder), Some(result)) = (is_hit, &args.apply, &answer.result) {
        apply::apply(&store, folder, &result.changes).await.context("the recorded files were not all written")?;
    }
    match args.question.remote.json {
        true => wire::print_json(&answer)?,
        false => print(&answer, args.apply.is_some()),
    }
    Ok(if is_hit { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print(answer: &LookupResponse, applied: bool) {
    match (answer.outcome(), &answer.result) {
        (Outcome::Hit, Some(result)) => {
            println!("hit {}", result.key);
            println!("response {}", result.response);
            if !answer.response.is_empty() {
                println!("with the paths of this machine: {}", String::from_utf8_lossy(&answer.response));
            }
            for op in &result.changes {
                println!("{} {}", if applied { "applied" } else { "file" }, op.path);
            }
        }
        (Outcome::Prefix, _) => {
            println!("prefix {} of {} links of {}", answer.common_prefix, answer.of, answer.key);
        }
        _ => println!("miss {}", answer.key),
    }
    answer.why.iter().for_each(print_reason);
}

/// Prints why something is no hit.
pub fn print_reason(reason: &Reason) {
    println!("{}: {}", reason.code, reason.text);
}
