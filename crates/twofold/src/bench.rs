//! `twofold bench`: the same tests by cargo alone, cold, warm and hot, measured side by side in one run.

mod compare;
mod edit;
mod lab;
mod measure;
mod phases;
mod plan;
mod plot;
mod report;
mod tokio_crates;
mod verdicts;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::Subcommand;
use indicatif::{ProgressBar, ProgressStyle};

use edit::Edit;
use phases::Bench;
use plan::{Named, Plan};
use report::Report;

const STEPS: &str = "\
Each step has a copy of the workspace of its own, so nothing is shared but the cache:
  plain        cargo alone, nothing built before
  unchanged    cargo alone once more, nothing changed
  incremental  cargo alone once more, after a model wrote one of the changes in other words
  sccache      RUSTC_WRAPPER=sccache with what a first build left in its cache, elsewhere, after that change
  cold         twofold cargo, empty cache: what recording costs
  control      twofold cargo elsewhere, nothing changed
  warm         twofold cargo elsewhere, after that change: the content layer alone
  hot          twofold cargo elsewhere, after the prompt layer gave back the words of the first time
Verdicts of all tests are compared before any time counts.";

/// Settings of `twofold bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Measure a small workspace, in a minute or two
    #[command(after_help = format!("\
Examples:
  twofold bench ci --json figures.json
  twofold bench ci --baseline figures.json --runs 5
      fails when ratios got worse by more than chance, or when more is compiled or run than before

{STEPS}"))]
    Ci {
        /// Workspace to build
        #[arg(long, value_name = "DIR", default_value = "fixtures/cargo-workspace")]
        workspace: PathBuf,

        /// What is changed: file, text, and what a model writes in its place the first and the second time
        #[arg(long, value_name = "FILE", default_value = "fixtures/bench/edits.json")]
        edits: PathBuf,

        #[command(flatten)]
        common: CommonArgs,
    },
    /// Measure the Tokio crates, which cargo gets from the registry: an hour and 20 GB of disk
    #[command(after_help = format!("\
Examples:
  twofold bench tokio --json figures.json --plot figures.svg
  twofold bench tokio --once plain,unchanged,incremental,sccache,cold,warm:1,warm:2
      what takes minutes is measured once, the rest three times on one cache
  twofold bench tokio --only cold,hot -- test -p tokio-stream --features full,test-util --locked --offline

{STEPS}
The test fs_try_exists is left out: it fails for root, to whom every file is readable."))]
    Tokio {
        /// A clone of Tokio's repository, in place of the published crates
        #[arg(long, value_name = "DIR")]
        workspace: Option<PathBuf>,

        /// What is changed: file, text, and what a model writes in its place the first and the second time
        #[arg(long, value_name = "FILE", default_value = "fixtures/bench/tokio/edits.json")]
        edits: PathBuf,

        #[command(flatten)]
        common: CommonArgs,
    },
}

#[derive(clap::Args)]
struct CommonArgs {
    /// Folder with request.json, request-again.json and response.json: how a model is asked for a change
    #[arg(long, value_name = "DIR", default_value = "fixtures/bench")]
    requests: PathBuf,

    /// Runs of all steps
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    runs: u32,

    /// Steps to measure, such as cold,warm:1; what they need runs too
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    only: Vec<Named>,

    /// Steps that are measured until they count once, for those that take long; with cold, all runs share one cache
    #[arg(long, value_name = "STEPS", value_delimiter = ',')]
    once: Vec<Named>,

    /// Figures of an earlier run to compare with
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,

    /// The share of a ratio of the baseline that must be kept, in hundredths; less on another machine than the baseline's
    #[arg(long, value_name = "PERCENT", default_value_t = 90, value_parser = clap::value_parser!(u8).range(1..=100))]
    share: u8,

    /// Where to write the figures
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// Where to draw the figures
    #[arg(long, value_name = "FILE.svg")]
    plot: Option<PathBuf>,

    /// Folder to work in, with room for two target folders [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    scratch: Option<PathBuf>,

    /// Arguments of cargo, in place of those for all tests
    #[arg(last = true, value_name = "CARGO ARGUMENTS")]
    cargo: Vec<String>,
}

/// Measures and prints.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    tokio::task::spawn_blocking(move || match args.command {
        Command::Ci { workspace, edits, common } => {
            bench(&workspace, &edits, common, &["test", "--workspace", "--offline"])
        }
        Command::Tokio { workspace: Some(workspace), edits, common } => {
            bench(&workspace, &edits, common, tokio_crates::CARGO_ARGUMENTS)
        }
        Command::Tokio { workspace: None, edits, common } => {
            let published = tokio_crates::assemble(&edits.with_file_name("Cargo.lock"))?;
            bench(published.path(), &edits, common, tokio_crates::CARGO_ARGUMENTS)
        }
    })
    .await?
}

fn bench(workspace: &Path, edits: &Path, args: CommonArgs, arguments: &[&str]) -> anyhow::Result<ExitCode> {
    if !workspace.join("Cargo.toml").is_file() {
        bail!("{} is no workspace; name one with --workspace", workspace.display());
    }
    let edits = Edit::read(edits)?;
    let baseline = args.baseline.as_deref().map(Report::read).transpose()?;
    let mut cargo = args.cargo;
    if cargo.is_empty() {
        cargo = arguments.iter().map(ToString::to_string).collect();
    }
    let scratch = args.scratch.unwrap_or_else(std::env::temp_dir);
    let bench = Bench { workspace, edits: &edits, requests: &args.requests, cargo: &cargo, scratch: &scratch };
    let bar = ProgressBar::no_length();
    bar.set_style(ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}")?);
    let plan = Plan::new(&args.only, &args.once, edits.len())?;
    let runs = usize::try_from(args.runs)?;
    if let Some(edit) = edits.iter().find(|edit| plan.shares_the_cache() && edit.texts() < runs) {
        bail!("{:?} is written in {} ways, so one cache is good for no more runs", edit.name, edit.texts());
    }
    let mut report = Report::new(&cargo, edits.iter().map(|edit| edit.name.clone()).collect());
    bench.run(&plan, runs, &bar, |run| {
        report.runs.push(run);
        // A run can take half an hour, so what is known is kept.
        if let Some(file) = &args.json {
            let text = serde_json::to_string_pretty(&report)?;
            std::fs::write(file, text + "\n").with_context(|| format!("cannot write {}", file.display()))?;
        }
        Ok(())
    })?;
    bar.finish_and_clear();
    print!("{}", report.table());
    if let Some(file) = &args.plot {
        std::fs::write(file, plot::svg(&report)).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let mut faults = report.refused();
    if let Some(baseline) = baseline {
        let worse = compare::regressions(&baseline, &report, f64::from(args.share) / 100.0);
        if worse.is_empty() {
            println!("no worse than the baseline");
        }
        faults.extend(worse.iter().map(|line| format!("worse than the baseline: {line}")));
    }
    for line in &faults {
        println!("{line}");
    }
    Ok(if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
