//! `twofold bench`: the same build cold, warm and hot, measured side by side in one run.

mod compare;
mod edit;
mod lab;
mod measure;
mod phases;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use edit::Edit;
use phases::Run;
use report::Report;

const EXAMPLES: &str = "\
Examples:
  twofold bench ci --json figures.json
  twofold bench ci --baseline figures.json --runs 5
      fails when ratios got worse by more than chance, or when more is compiled or run than before

Each run copies the workspace, so nothing is shared but the cache:
  plain   cargo alone, nothing built before
  cold    twofold cargo, empty cache: what recording costs
  warm    elsewhere, after a model wrote the same change in other words: the content layer alone
  hot     elsewhere, after the prompt layer gave back the words of the first time
Verdicts of all tests are compared before any time counts.";

/// Settings of `twofold bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a small workspace, and compare with figures of an earlier run
    Ci(CiArgs),
}

/// Settings of `twofold bench ci`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
struct CiArgs {
    /// Workspace to build
    #[arg(long, value_name = "DIR", default_value = "fixtures/cargo-workspace")]
    workspace: PathBuf,

    /// Folder with edits.json, request.json, request-again.json and response.json: what is changed, and how it is asked for
    #[arg(long, value_name = "DIR", default_value = "fixtures/bench")]
    edits: PathBuf,

    /// Runs of all phases
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Figures of an earlier run to compare with
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// Where to write the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

/// Measures and prints.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let Command::Ci(args) = args.command;
    tokio::task::spawn_blocking(move || ci(&args)).await?
}

fn ci(args: &CiArgs) -> anyhow::Result<ExitCode> {
    if !args.workspace.join("Cargo.toml").is_file() {
        bail!("{} is no workspace; name one with --workspace", args.workspace.display());
    }
    let edits = Edit::read(&args.edits.join("edits.json"))?;
    let baseline = args.baseline.as_deref().map(Report::read).transpose()?;
    let bar = ProgressBar::new(u64::from(args.runs) * phases::steps(edits.len()));
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let mut runs = Vec::new();
    for _ in 0..args.runs {
        runs.push(Run::measure(&args.workspace, &args.edits, &edits, &bar)?);
    }
    bar.finish_and_clear();
    let report = Report::of(runs);
    print!("{}", report.table());
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
    }
    let Some(baseline) = baseline else {
        return Ok(ExitCode::SUCCESS);
    };
    let regressions = compare::regressions(&baseline, &report);
    for line in &regressions {
        println!("worse than the baseline: {line}");
    }
    if regressions.is_empty() {
        println!("no worse than the baseline");
    }
    Ok(if regressions.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
