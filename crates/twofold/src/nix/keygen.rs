use std::path::PathBuf;
use std::process::ExitCode;

const EXAMPLES: &str = "\
Example:
  twofold nix keygen cache.example.org-1 --secret /etc/twofold/nix.secret
      writes the secret key, readable by its owner alone, and prints the public key for trusted-public-keys

Then: twofold serve --nix-cache main,key=/etc/twofold/nix.secret";

/// Settings of `twofold nix keygen`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Name of the key, by convention the host and a number: cache.example.org-1
    #[arg(value_name = "NAME")]
    name: String,

    /// File for the secret key; one that is there is left alone
    #[arg(long, value_name = "FILE")]
    secret: PathBuf,
}

/// Makes the key.
pub fn run(args: Args) -> anyhow::Result<ExitCode> {
    let key = nix_cache::make_key(&args.name)?;
    nix_cache::write_key(&args.secret, &key)?;
    println!("{}", key.public());
    Ok(ExitCode::SUCCESS)
}
