use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// Starts the log on standard error; coloured on a terminal only.
///
/// `filter` is a level such as `info`, or one for each target: `info,reapi=debug`.
///
/// # Errors
/// The filter cannot be read.
pub fn start(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::builder().parse(filter)?;
    let colour = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(colour).init();
    Ok(())
}
