use std::collections::BTreeMap;
use std::process::ExitCode;

use prompt_key::{FieldDigest, PromptKey, Uncacheable};
use serde::Serialize;

use super::request::RequestArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt key --api anthropic.messages request.json
  twofold prompt key --api openai.chat --slot 1 --json - < request.json
  twofold prompt key --api anthropic.messages --profile claude-code@1 --rule mask-date@1 --repo github.com/me/app -

No server is asked. A request that has no key is answered with the reason. The exit code is 0 in both cases, 1 when the
request cannot be read.";

/// Settings of `twofold prompt key`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    request: RequestArgs,

    /// Tenant. A server takes it from the caller's credential
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    tenant: String,

    /// Repository, for the key of the task too
    #[arg(long, value_name = "NAME")]
    repo: Option<String>,

    /// Print JSON for machines
    #[arg(long)]
    json: bool,
}

/// A key as JSON has it.
#[derive(Serialize)]
struct Printed {
    key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    task: Option<String>,
    model: String,
    profile: String,
    slot: u64,
    components: BTreeMap<&'static str, String>,
    chain: Vec<String>,
    tools: BTreeMap<String, String>,
    system: Vec<String>,
    #[serde(rename = "gen")]
    generation: BTreeMap<String, String>,
}

/// Computes the key and prints it.
pub fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let options = args.request.options(&args.tenant)?;
    let bytes = args.request.read()?;
    match prompt_key::key(&bytes, &options) {
        Ok(key) => {
            let task = args.repo.as_deref().and_then(|repo| key.task_id(repo)).map(|task| task.to_string());
            print(&key, task, &options.profile.to_string(), args.json)?;
        }
        Err(why) => print_uncacheable(&why, args.json),
    }
    Ok(ExitCode::SUCCESS)
}

fn print(key: &PromptKey, task: Option<String>, profile: &str, json: bool) -> anyhow::Result<()> {
    if json {
        let printed = Printed {
            key: key.id().to_string(),
            task,
            model: key.model.clone(),
            profile: profile.to_owned(),
            slot: key.slot,
            components: key.components.iter().map(|(name, digest)| (name.name(), digest.to_string())).collect(),
            chain: key.chain.iter().map(ToString::to_string).collect(),
            tools: key.tools.iter().map(|tool| (tool.name.clone(), tool.digest.to_string())).collect(),
            system: key.system.iter().map(ToString::to_string).collect(),
            generation: by_name(&key.generation),
        };
        println!("{}", serde_json::to_string(&printed)?);
        return Ok(());
    }
    println!("{}", key.id());
    if let Some(task) = task {
        println!("{:<8} {task}", "task");
    }
    for (component, digest) in key.components.iter() {
        println!("{:<8} {digest}", component.name());
    }
    println!("{:<8} {} links", "chain", key.chain.len());
    Ok(())
}

fn by_name(fields: &[FieldDigest]) -> BTreeMap<String, String> {
    fields.iter().map(|field| (field.name.clone(), field.digest.to_string())).collect()
}

fn print_uncacheable(why: &Uncacheable, json: bool) {
    if json {
        println!("{}", serde_json::json!({ "uncacheable": why.reason(), "detail": why.to_string() }));
    } else {
        println!("uncacheable: {why}");
    }
}
