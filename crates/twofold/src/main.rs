//! The one binary.

mod bench;
mod cargo;
mod cli;
mod config;
mod find_missing;
mod fsck;
mod gc;
mod get;
mod nix;
mod progress;
mod prompt;
mod purge;
mod put;
mod remote;
mod serve;
mod stat;
mod token;
mod upkeep;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    // cargo starts this program in rustc's place, hundreds of times a build: that way has no runtime.
    if let Some(code) = cargo_cache::act_as_tool(std::env::args_os()) {
        return code;
    }
    let cli = Cli::parse();
    let ended =
        tokio::runtime::Runtime::new().map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(cli)));
    match ended {
        Ok(code) => code,
        Err(error) => {
            eprintln!("twofold: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> anyhow::Result<ExitCode> {
    match cli.command {
        Command::Serve(args) => serve::run(*args).await,
        Command::Bench(args) => bench::run(args).await,
        Command::Cargo(args) => cargo::run(args).await,
        Command::Put(args) => put::run(args).await,
        Command::Get(args) => get::run(args).await,
        Command::FindMissing(args) => find_missing::run(args).await,
        Command::Config(command) => config::run(command),
        Command::Token(command) => token::run(command),
        Command::Stat(args) => stat::run(args).await,
        Command::Gc(args) => gc::run(args).await,
        Command::Fsck(args) => fsck::run(args).await,
        Command::Purge(args) => purge::run(args).await,
        Command::Prompt(args) => prompt::run(*args).await,
        Command::Nix(args) => nix::run(args).await,
    }
}
