//! `twofold prompt`: the prompt layer on the command line.

mod key;
mod request;

use std::process::ExitCode;

use clap::Subcommand;

/// Settings of `twofold prompt`.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Compute the key of a model request, offline
    Key(key::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Key(args) => key::run(&args),
    }
}
