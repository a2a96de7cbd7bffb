use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::{Context, bail};

use super::cache::CacheArgs;
use super::info::hash;

const EXAMPLES: &str = "\
Examples:
  twofold nix pin /nix/store/…-release
      kept, with all that it refers to, however full the store is
  twofold nix pin --list
  twofold nix pin --remove /nix/store/…-release";

/// Settings of `twofold nix pin`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Store paths that the cache has
    #[arg(value_name = "PATH", required_unless_present = "list")]
    paths: Vec<String>,

    /// Unpin the paths
    #[arg(long, conflicts_with = "list")]
    remove: bool,

    /// Show what is pinned
    #[arg(long)]
    list: bool,

    #[command(flatten)]
    cache: CacheArgs,
}

/// Pins, unpins, or lists.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cache = args.cache.connect()?;
    if args.list {
        let text = cache.text("pins")?.context("this cache knows no pins")?;
        let mut out = io::stdout().lock();
        if args.cache.json {
            write!(out, "{text}")?;
            return Ok(ExitCode::SUCCESS);
        }
        let value: serde_json::Value = serde_json::from_str(&text)?;
        for pin in value["pins"].as_array().into_iter().flatten() {
            writeln!(out, "{}", pin["path"].as_str().unwrap_or_default())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    for path in &args.paths {
        let hash = hash(&cache, path)?;
        let name = format!("pins/{hash}");
        if args.remove {
            cache.delete(&name)?;
        } else if cache.narinfo(hash)?.is_none() {
            bail!("{path} is not in this cache: push it first");
        } else {
            cache.put(&name, 0, io::empty())?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
