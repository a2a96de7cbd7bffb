use std::process::ExitCode;

use prompt_cache::proto::ExplainResponse;

use super::lookup::print_reason;
use super::question::QuestionArgs;
use super::wire;

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
    question: QuestionArgs,

    /// Print the nearest result's request too, if it was recorded with --keep-text
    #[arg(long)]
    text: bool,
}

/// Explains and prints.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.question.remote).await?;
    let mut request = args.question.request()?;
    request.text = args.text;
    let mut answer = client.explain(request.clone()).await.map_err(wire::said)?.into_inner();
    let tree = args.question.tree.as_deref();
    if args.question.add_states(&mut request, tree, &answer.needs)? {
        answer = client.explain(request).await.map_err(wire::said)?.into_inner();
    }
    match args.question.remote.json {
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
    for one in &answer.suggestions {
        let advice = if one.rule.is_empty() { "take it out of the prompt" } else { &one.rule };
        println!("changes each time: {} {} ({}, {:?}): {advice}", one.component, one.pointer, one.kind, one.span);
    }
    answer.why.iter().for_each(print_reason);
    if !answer.nearest_request.is_empty() {
        println!("{}", String::from_utf8_lossy(&answer.nearest_request));
    }
}
