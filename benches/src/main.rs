//! `reapi-bench`: drives a running `twofold serve` and a *floor* through the RPCs of the cache, in turns, in one run.
//!
//! The floor is a bare tonic server that answers the same RPCs from a hash map: no hashing, no storage. How far the
//! server is from it is the one figure that another machine will confirm.

mod call;
mod data;
mod floor;
mod load;
mod prompts;
mod report;
mod run;
mod target;
mod work;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

/// Measures a running `twofold serve` beside a floor: a bare tonic server that answers from a hash map
#[derive(Parser)]
#[command(name = "reapi-bench", args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,

    #[command(flatten)]
    options: Options,
}

#[derive(Subcommand)]
enum Command {
    /// Serve the floor on a free port until standard input ends
    Floor,
    /// Lookups of the prompt cache beside FindMissingBlobs of the same size, on one server
    Prompts(prompts::Options),
}

/// What is measured, and how long.
#[derive(clap::Args, Clone)]
struct Options {
    /// Built program to measure [default: twofold beside this program]
    #[arg(long, value_name = "PATH")]
    server: Option<PathBuf>,

    /// Folder for the servers' data; its file system is part of what is measured [default: the folder for temporary files]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,

    /// Measure only work whose name contains this
    #[arg(long, value_name = "PATTERN", default_value = "", hide_default_value = true)]
    only: String,

    /// Calls at once, one column of the table each
    #[arg(long, value_name = "COUNT", value_delimiter = ',', default_value = "1,16,64")]
    concurrency: Vec<usize>,

    /// Seconds that each server is driven, per work, concurrency and round
    #[arg(long, value_name = "SECONDS", default_value_t = 1.5)]
    seconds: f64,

    /// Turns that each server gets per work and concurrency
    #[arg(long, value_name = "COUNT", default_value_t = 2)]
    rounds: usize,

    /// One short round at 1 and 16: says that everything runs, not how fast
    #[arg(long)]
    quick: bool,

    /// Write all figures there
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl Options {
    fn duration(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }

    fn shortened(mut self) -> Self {
        if self.quick {
            self.seconds = 0.25;
            self.rounds = 1;
            self.concurrency = vec![1, 16];
        }
        self
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let cli = Cli::parse();
    match cli.command {
        Some(Command::Floor) => floor::serve().await,
        Some(Command::Prompts(options)) => prompts::run(&options).await,
        None => run::run(cli.options.shortened()).await,
    }
}
