use clap::{Parser, Subcommand};

use crate::{bench, cargo, config, find_missing, fsck, gc, get, nix, prompt, purge, put, serve, stat, token};

/// Build caching for software that agents write.
#[derive(Parser)]
#[command(name = "twofold", version, about, propagate_version = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Serve a build cache: the cache half of the Remote Execution API over an embedded store
    Serve(Box<serve::Args>),
    /// Measure a build cold, warm and hot, side by side
    Bench(bench::Args),
    /// Run cargo with its compilations and test runs cached
    Cargo(cargo::Args),
    /// Store files in a cache and print their digests
    Put(put::Args),
    /// Fetch a blob by its digest
    Get(get::Args),
    /// Ask which digests a cache lacks
    FindMissing(find_missing::Args),
    /// Check or show the configuration of `twofold serve`
    #[command(subcommand)]
    Config(config::Command),
    /// Make a token for a caller of `twofold serve`
    #[command(subcommand)]
    Token(token::Command),
    /// Show what a cache offers and how far away it is
    Stat(stat::Args),
    /// Evict down to a size or an age, as far as leases let it
    Gc(gc::Args),
    /// Check every blob and record of a store, and mend what is damaged
    Fsck(fsck::Args),
    /// Drop action results by digest, instance, writer or time, and blobs by digest
    Purge(purge::Args),
    /// Keys of model requests: which invocations are the same one
    Prompt(Box<prompt::Args>),
    /// Keys, pushes and pins of Nix caches
    Nix(nix::Args),
}
