use std::path::PathBuf;
use std::process::ExitCode;

use serde_json::json;
use server::{Config, ConfigError, RawConfig};

use crate::serve;

/// Commands about the configuration.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Check a configuration file and the files that it names; the exit code is 0 when `twofold serve` would take it
    Check(Check),
    /// Print the settings of `twofold serve` as a configuration file, defaults filled in and hashes of tokens left out
    Show(Box<serve::Args>),
}

/// Settings of `twofold config check`.
#[derive(clap::Args)]
pub struct Check {
    /// The TOML file; without one the defaults and the variables are checked
    #[arg(value_name = "FILE", env = "TWOFOLD_CONFIG")]
    file: Option<PathBuf>,

    /// Print JSON for machines
    #[arg(long)]
    json: bool,
}

/// Checks or shows.
pub fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Check(args) => Ok(check(&args)),
        Command::Show(args) => {
            print!("{}", args.settings()?.show());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(args: &Check) -> ExitCode {
    let outcome = checked(args);
    let faults = outcome.err().map_or(Vec::new(), |error| error.faults);
    if args.json {
        let list = faults.iter().map(|fault| json!({ "key": fault.key, "message": fault.message }));
        println!("{}", json!({ "ok": faults.is_empty(), "faults": list.collect::<Vec<_>>() }));
    } else if faults.is_empty() {
        println!("the configuration is good");
    } else {
        for fault in &faults {
            eprintln!("{fault}");
        }
    }
    if faults.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn checked(args: &Check) -> Result<(), ConfigError> {
    let raw = args.file.as_deref().map(RawConfig::read).transpose()?;
    Config::check(raw.unwrap_or_default())?.check_files()
}
