use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use cache_types::nix::{NarInfo, StorePath, StorePathHash};

use super::cache::{Cache, CacheArgs};

const EXAMPLES: &str = "\
Examples:
  twofold nix info
      what the cache is, and the lines for nix.conf
  twofold nix info /nix/store/…-hello
      whether the cache has the path; ends with 1 if not";

/// Settings of `twofold nix info`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Store paths to ask for
    #[arg(value_name = "PATH")]
    paths: Vec<String>,

    #[command(flatten)]
    cache: CacheArgs,
}

/// Shows the cache, or what it knows of the paths.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let cache = args.cache.connect()?;
    let mut out = io::stdout().lock();
    if args.paths.is_empty() {
        about(&cache, args.cache.json, &mut out)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut code = ExitCode::SUCCESS;
    for path in &args.paths {
        let info = cache.narinfo(hash(&cache, path)?)?;
        if info.is_none() {
            code = ExitCode::FAILURE;
        }
        if args.cache.json {
            writeln!(out, "{}", json(&cache, path, info.as_ref()))?;
        } else {
            match info {
                Some(info) => write!(out, "{}", info.print(&cache.store_dir))?,
                None => writeln!(out, "{path}: not in this cache")?,
            }
        }
    }
    Ok(code)
}

fn about(cache: &Cache, json: bool, out: &mut impl Write) -> anyhow::Result<()> {
    let key = cache.text("pubkey")?.map(|key| key.trim().to_owned());
    if json {
        let value = serde_json::json!({ "url": cache.url(), "store_dir": cache.store_dir.as_str(), "public_key": key });
        writeln!(out, "{value}")?;
        return Ok(());
    }
    write!(out, "{}", cache.about)?;
    writeln!(out, "\n# for nix.conf")?;
    writeln!(out, "extra-substituters = {}", cache.url())?;
    match key {
        Some(key) => writeln!(out, "extra-trusted-public-keys = {key}")?,
        None => writeln!(out, "# this cache does not sign: clients trust the keys of those who push")?,
    }
    Ok(())
}

/// The hash part of a full path, a base name, or the part itself.
pub fn hash(cache: &Cache, text: &str) -> anyhow::Result<StorePathHash> {
    let full = std::fs::canonicalize(text).ok().and_then(|path| path.into_os_string().into_string().ok());
    let path = cache.store_dir.parse_path(text).or_else(|error| match &full {
        Some(full) => cache.store_dir.parse_path(full),
        None => Err(error),
    });
    let hash = path.or_else(|_| StorePath::parse(text)).map(|path| path.hash());
    hash.or_else(|error| StorePathHash::parse(text).map_err(|_| error))
        .with_context(|| format!("{text} is no store path"))
}

fn json(cache: &Cache, path: &str, info: Option<&NarInfo>) -> serde_json::Value {
    let Some(info) = info else {
        return serde_json::json!({ "path": path, "present": false });
    };
    serde_json::json!({
        "path": cache.store_dir.join(&info.path),
        "present": true,
        "nar_hash": cache_types::nix::hash_text(&info.nar_hash),
        "nar_size": info.nar_size,
        "references": info.references.iter().map(|path| cache.store_dir.join(path)).collect::<Vec<_>>(),
        "signatures": info.signatures.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}
