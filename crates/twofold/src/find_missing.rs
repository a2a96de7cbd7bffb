use std::io::BufRead;
use std::process::ExitCode;

use anyhow::Context;
use cache_types::Digest;
use store::BlobStore;

use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold find-missing 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/5
  twofold put *.o | awk '{print $1}' | twofold find-missing -
      one digest a line on standard input

Prints the digests that the cache lacks. The exit code is 0 when it lacks none, 1 when it lacks some, 2 when it could
not be asked.";

/// Some are missing.
const SOME: u8 = 1;
/// It could not be found out.
const FAILED: u8 = 2;

/// Settings of `twofold find-missing`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Digests, each HASH/SIZE or FUNCTION/HASH/SIZE; - reads them from standard input, one a line
    #[arg(required = true, value_name = "DIGEST")]
    digests: Vec<String>,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks and prints what is missing.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    match ask(&args).await {
        Ok(missing) => {
            print(&missing, args.remote.json);
            Ok(if missing.is_empty() { ExitCode::SUCCESS } else { SOME.into() })
        }
        Err(error) => {
            eprintln!("twofold: {error:#}");
            Ok(FAILED.into())
        }
    }
}

async fn ask(args: &Args) -> anyhow::Result<Vec<Digest>> {
    let mut digests = Vec::new();
    for text in &args.digests {
        if text == "-" {
            for line in std::io::stdin().lock().lines() {
                let line = line.context("cannot read standard input")?;
                let text = line.trim();
                if !text.is_empty() {
                    digests.push(args.remote.digest(text)?);
                }
            }
        } else {
            digests.push(args.remote.digest(text)?);
        }
    }
    let remote = args.remote.connect().await?;
    remote.find_missing(&digests).await.context("cannot ask the cache what it has")
}

fn print(missing: &[Digest], json: bool) {
    if json {
        let digests: Vec<String> = missing.iter().map(Digest::to_string).collect();
        println!("{}", serde_json::json!({ "missing": digests }));
        return;
    }
    for digest in missing {
        println!("{digest}");
    }
}
