//! `twofold prompt`: the prompt layer on the command line.

mod apply;
mod attest;
mod explain;
mod folder;
mod invalidate;
mod key;
mod lookup;
mod question;
mod record;
mod report;
mod request;
mod savings;
mod state;
mod verify;
mod wire;

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
    /// Ask for the recorded result of a request or of a task, and apply its files
    Lookup(Box<lookup::Args>),
    /// Store the result of a request: the response, and the files that came of it
    Record(Box<record::Args>),
    /// Report how a build or a test with a result ended
    Report(report::Args),
    /// Say what a lookup missed by
    Explain(Box<explain::Args>),
    /// Make results unfit for replay
    Invalidate(invalidate::Args),
    /// What an hour of an agent costs, with and without caches
    Savings(Box<savings::Args>),
    /// Print the signed statement of how a result came about
    Attest(attest::Args),
    /// Say which recorded result produced exactly these files, and whether its signature holds
    Verify(verify::Args),
}

/// Runs the command.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match args.command {
        Command::Key(args) => key::run(&args),
        Command::Lookup(args) => lookup::run(*args).await,
        Command::Record(args) => record::run(*args).await,
        Command::Report(args) => report::run(args).await,
        Command::Explain(args) => explain::run(*args).await,
        Command::Invalidate(args) => invalidate::run(args).await,
        Command::Savings(args) => savings::run(&args).await,
        Command::Attest(args) => attest::run(args).await,
        Command::Verify(args) => verify::run(args).await,
    }
}
