//! `twofold nix`: keys, pushes and pins of Nix caches, this server's or another's.

mod cache;
mod closure;
mod info;
mod keygen;
mod pin;
mod push;

use std::process::ExitCode;

use clap::Subcommand;

/// Settings of `twofold nix`.
#[derive(clap::Args)]
#[command(arg_required_else_help = true)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a key that signs store paths
    Keygen(keygen::Args),
    /// Push store paths and all that they refer to
    Push(push::Args),
    /// Show a cache, what to put into nix.conf for it, and whether it has store paths
    Info(info::Args),
    /// Keep store paths in a cache until they are unpinned
    Pin(pin::Args),
}

/// Runs the subcommand.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    // All of it waits for files and for a cache, one after the other or in threads of its own.
    tokio::task::spawn_blocking(move || match args.command {
        Command::Keygen(args) => keygen::run(args),
        Command::Push(args) => push::run(args),
        Command::Info(args) => info::run(args),
        Command::Pin(args) => pin::run(args),
    })
    .await?
}
