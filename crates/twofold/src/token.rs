use std::process::ExitCode;

use anyhow::{Context, ensure};
use serde_json::json;
use server::identity::{TokenLine, grants};

const EXAMPLES: &str = "\
Examples:
  twofold token new --name ci --role read --role cas-write --role ac-write@team/a
      may read everywhere, store blobs everywhere, and store action results for team/a and below it

The token is shown this once. The line goes into the file that --tokens-file names, or into auth.tokens of the
configuration; it holds a hash, and no way back to the token.";

/// Commands about tokens.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Make a token, and the line that lets the server know it
    New(New),
}

/// Settings of `twofold token new`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct New {
    /// Who will hold it: one word, kept with what it writes
    #[arg(long, value_name = "NAME")]
    name: String,

    /// What it allows: ROLE, or ROLE@INSTANCE for that instance and those below it; may be given again. Roles are read,
    /// cas-write, ac-write, prompt-write, nix-push, admin; each brings read
    #[arg(long, value_name = "ROLE", required = true)]
    role: Vec<String>,

    /// The tenant of its holder
    #[arg(long, value_name = "NAME")]
    tenant: Option<String>,

    /// Print JSON for machines
    #[arg(long)]
    json: bool,
}

/// Makes a token.
pub fn run(Command::New(args): Command) -> anyhow::Result<ExitCode> {
    let tenant = args.tenant.unwrap_or_default();
    ensure!(TokenLine::is_name(&args.name), "--name {:?} is not one word", args.name);
    ensure!(tenant.is_empty() || TokenLine::is_name(&tenant), "--tenant {tenant:?} is not one word");
    let grants = grants::parse(args.role.iter().map(String::as_str)).context("--role")?;
    let spoils = |prefix: &str| prefix.contains([',', ' ']) || prefix.chars().any(char::is_whitespace);
    ensure!(!grants.iter().any(|grant| spoils(grant.prefix.as_str())), "--role: an instance without spaces and commas");
    let (token, line) = TokenLine::generate(&args.name, &tenant, grants).context("no randomness for a token")?;
    if args.json {
        println!("{}", json!({ "token": token, "line": line.to_string() }));
    } else {
        println!("token: {token}");
        println!("line:  {line}");
    }
    Ok(ExitCode::SUCCESS)
}
