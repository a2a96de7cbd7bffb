//! The one binary.

mod cli;
mod find_missing;
mod get;
mod progress;
mod prompt;
mod put;
mod remote;
mod serve;
mod stat;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

#[tokio::main]
async fn main() -> ExitCode {
    let cli = Cli::parse();
    match run(cli).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("twofold: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(args).await,
        Command::Put(args) => put::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::FindMissing(args) => find_missing::run(args).await,
        Command::Stat(args) => stat::run(args).await,
        Command::Prompt(args) => prompt::run(*args).await,
    }
}
