//! `nix-bench`: the Nix cache beside nginx over the same files, in one run; and what two versions of a closure take on disk.

mod client;
mod disk;
mod download;
mod folder;
mod machine;
mod narinfo;
mod server;

use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Parser;
use serde_json::json;
use tempfile::TempDir;

use crate::folder::Paths;
use crate::server::{Nginx, Twofold};

/// Measures the Nix cache. Needs nix (nix-bin), nginx and unshare, and root or user namespaces.
#[derive(Parser)]
struct Options {
    /// The server; `twofold` beside this program when not given.
    #[arg(long)]
    server: Option<PathBuf>,
    /// Where the files of the run lie.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// A folder of many files, which becomes a store path and a part of the closure.
    #[arg(long, default_value = "/usr/lib/python3")]
    tree: PathBuf,
    /// A large file, which does too; the server itself when not given.
    #[arg(long)]
    file: Option<PathBuf>,
    /// Times that the server is started anew and all is downloaded.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Requests for a narinfo in each round.
    #[arg(long, default_value_t = 3000)]
    requests: usize,
    /// Where the figures go as JSON.
    #[arg(long)]
    json: Option<PathBuf>,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let server = match &options.server {
        Some(path) => path.clone(),
        None => std::env::current_exe()?.with_file_name("twofold"),
    };
    ensure!(server.is_file(), "{} is not there; build it: cargo build --release -p twofold", server.display());
    let file = options.file.as_deref().unwrap_or(&server);
    let work = TempDir::new_in(options.dir.clone().unwrap_or_else(std::env::temp_dir))?;
    let about = machine::about(&server);
    println!("{about}");

    let speed = speed(&server, file, work.path(), &options)?;
    let disk = disk::measure(&server, file, work.path(), &options).context("two versions of a closure")?;
    let Some(out) = &options.json else { return Ok(()) };
    let all = json!({ "about": about, "speed": speed, "disk": disk });
    std::fs::write(out, format!("{all:#}\n")).with_context(|| format!("cannot write {}", out.display()))
}

/// Downloads and narinfo files, from both servers by turns.
fn speed(server: &Path, file: &Path, work: &Path, options: &Options) -> anyhow::Result<serde_json::Value> {
    let nginx = Nginx::start(&work.join("cache"), work)?;
    let mut twofold = Twofold::start(server, &work.join("speed"), &["--nix-cache", "default,transfer=plain"])?;
    let paths = Paths::make(file, options, work, &twofold)?;
    let mut downloads = download::Figures::default();
    let mut lookups = narinfo::Figures::default();
    for round in 0..options.rounds {
        // A server that has just been started has nothing in memory.
        twofold = twofold.restart()?;
        downloads.round(&paths, &nginx, &twofold, round)?;
        lookups.round(&paths, &nginx, &twofold, options.requests)?;
    }
    Ok(json!({ "downloads": downloads.report(), "narinfo": lookups.report() }))
}
