use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use cargo_cache::Options;

const EXAMPLES: &str = "\
Examples:
  twofold cargo -- test --workspace
  twofold cargo --stats -- build --release
  twofold cargo --server grpc://cache.example:8980 -- test
  twofold cargo --verify 5% -- test

Each call of rustc is looked up by what it reads, and each run of a test executable and each documentation test that
passed before is replayed while nothing that it can tell apart has changed. In [package.metadata.twofold] of a Cargo.toml:
  test-cache = false               its tests always run
  uncached-tests = [\"network\"]     these test targets always run
  test-inputs = [\"../testdata\"]    what its tests read outside of the package
The exit code is cargo's.";

/// Settings of `twofold cargo`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The cache: grpc://HOST:PORT or unix:PATH [default: a server of this user's own, started when it does not run]
    #[arg(long, value_name = "ADDRESS", env = "TWOFOLD_CARGO_SERVER")]
    server: Option<String>,

    /// After how long without a command a server ends that this one starts
    #[arg(long, value_name = "TIME", default_value = "3h", value_parser = humantime::parse_duration)]
    idle_exit: Duration,

    /// Run all tests; neither replay nor record their results
    #[arg(long)]
    no_test_cache: bool,

    /// Which executables to put in place: auto leaves stand-ins for test executables, which fetch themselves when run
    #[arg(long, value_name = "WHICH", value_enum, default_value_t = Materialize::Auto)]
    materialize: Materialize,

    /// Compile unit by unit; neither put back nor record the target folder as a whole
    #[arg(long)]
    no_snapshots: bool,

    /// Run a share of the hits all the same and compare, such as 5%
    #[arg(long, value_name = "PERCENT", default_value = "0%", value_parser = parse_percent)]
    verify: u8,

    /// Print what was counted, with reasons
    #[arg(long)]
    stats: bool,

    /// Write what was counted to a file, as JSON
    #[arg(long, value_name = "FILE")]
    stats_json: Option<PathBuf>,

    /// Arguments of cargo
    #[arg(last = true, required = true, value_name = "CARGO ARGUMENTS")]
    arguments: Vec<OsString>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Materialize {
    /// Those that something needs
    Auto,
    /// All
    All,
}

/// Runs cargo, and says what the cache did for it.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let options = Options {
        arguments: args.arguments,
        server: args.server,
        idle_exit: args.idle_exit,
        test_cache: !args.no_test_cache,
        materialize_all: args.materialize == Materialize::All,
        snapshots: !args.no_snapshots,
        verify_percent: args.verify,
    };
    let ended = cargo_cache::run(options).await?;
    if let Some(stats) = &ended.stats {
        if args.stats {
            eprint!("{}", stats.table());
        } else {
            eprintln!("twofold: {}", stats.line());
        }
    }
    if let Some(file) = &args.stats_json {
        let json = serde_json::to_vec_pretty(&ended.stats)?;
        std::fs::write(file, json).with_context(|| format!("cannot write {}", file.display()))?;
    }
    let differed = ended
        .stats
        .iter()
        .any(|stats| [&stats.rustc, &stats.rustdoc, &stats.tests].iter().any(|counts| !counts.differed.is_empty()));
    if differed {
        eprintln!("twofold: some results were not the same when they ran again; --stats names them");
    }
    Ok(ExitCode::from(ended.exit_code))
}

fn parse_percent(text: &str) -> Result<u8, String> {
    let number = text.strip_suffix('%').unwrap_or(text);
    number.parse().ok().filter(|percent| *percent <= 100).ok_or_else(|| "a percentage from 0% to 100%".to_owned())
}
