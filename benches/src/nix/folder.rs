//! Store paths that both servers have.

use std::path::Path;

use anyhow::{Context, ensure};

use crate::client::Client;
use crate::server::{Cache, Nginx, Twofold};
use crate::{Options, machine};

/// A store path in both caches.
pub struct StorePath {
    /// What it is, for people.
    pub name: &'static str,
    /// `HASH.narinfo`.
    pub narinfo: String,
    /// `nar/HASH.nar`, the same in both.
    pub nar: String,
}

pub struct Paths(pub Vec<StorePath>);

impl Paths {
    /// Adds the paths to a store and copies them into the folder that nginx serves and to the server.
    pub fn make(file: &Path, options: &Options, work: &Path, twofold: &Twofold) -> anyhow::Result<Self> {
        let names = ["a text", "a folder of many files", "one large file"];
        let script = format!(
            "echo hello > text; cp -r {tree} tree; cp {file} file
            for name in text tree file; do
                path=$(nix-store --add $name)
                nix copy --to 'file://{cache}?compression=none' $path >&2
                nix copy --to '{url}?compression=none' $path >&2
                echo $path
            done",
            tree = options.tree.display(),
            file = file.display(),
            cache = work.join("cache").display(),
            url = twofold.url(),
        );
        let made = machine::run(&script)?;
        let mut paths = Vec::new();
        for (name, path) in names.into_iter().zip(made.lines()) {
            let hash =
                path.strip_prefix("/nix/store/").and_then(|name| name.split_once('-')).context("a store path")?.0;
            let narinfo = format!("{hash}.narinfo");
            let text = std::fs::read_to_string(work.join("cache").join(&narinfo))?;
            let nar = text.lines().find_map(|line| line.strip_prefix("URL: ")).context("a URL")?.to_owned();
            paths.push(StorePath { name, narinfo, nar });
        }
        ensure!(paths.len() == names.len(), "Nix added only {made}");
        Ok(Self(paths))
    }

    /// Checks that both servers answer the same NARs, byte for byte, and narinfo files that name them.
    pub fn compare(&self, nginx: &Nginx, twofold: &Twofold) -> anyhow::Result<()> {
        for path in &self.0 {
            let fetch = |cache: &dyn Cache, file: &str| -> anyhow::Result<Vec<u8>> {
                let mut bytes = Vec::new();
                Client::connect(cache)?.get(file, |piece| bytes.extend_from_slice(piece))?;
                Ok(bytes)
            };
            ensure!(fetch(nginx, &path.nar)? == fetch(twofold, &path.nar)?, "{}: the NARs differ", path.name);
            let ours = String::from_utf8(fetch(twofold, &path.narinfo)?)?;
            ensure!(ours.contains(&format!("URL: {}\n", path.nar)), "{}: another URL: {ours}", path.name);
        }
        Ok(())
    }
}
