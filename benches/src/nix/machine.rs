//! Real Nix on a machine of its own: a mount namespace with an empty store in memory.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tempfile::TempDir;

const PRELUDE: &str = r#"
mount -t tmpfs none /nix
export HOME="$MACHINE" XDG_CACHE_HOME="$MACHINE/cache" NIX_CONF_DIR="$MACHINE/conf" NIX_REMOTE=local
mkdir -p "$MACHINE/conf"
cat > "$MACHINE/conf/nix.conf" <<END
build-users-group =
sandbox = false
experimental-features = nix-command
substituters =
END
cd "$MACHINE"
"#;

/// Runs a script on a machine that has never been used; what it prints.
pub fn run(script: &str) -> anyhow::Result<String> {
    let folder = TempDir::new()?;
    let mut command = Command::new("unshare");
    let is_root = rustix::process::geteuid().is_root();
    command.args(if is_root { ["-m", "--"] } else { ["-Urm", "--"] });
    command.args(["sh", "-euc", &format!("{PRELUDE}\n{script}")]);
    command.env("MACHINE", folder.path()).env_remove("NIX_PATH");
    let output = command.output().context("cannot start unshare (util-linux)")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "Nix failed (is nix-bin installed, and is there a folder /nix?):\n{said}");
    Ok(String::from_utf8(output.stdout)?)
}

/// What is measured on what.
pub fn about(server: &Path) -> Value {
    let first = |program: &str, args: &[&str]| {
        let output = Command::new(program).args(args).output();
        let text = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        String::from_utf8_lossy(&text).lines().next().unwrap_or_default().to_owned()
    };
    let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).unwrap_or_default();
    json!({
        "cpu": cpu.trim_start_matches(['\t', ' ', ':']),
        "cores": std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        "commit": first("git", &["rev-parse", "--short=12", "HEAD"]),
        "server": first(&server.display().to_string(), &["--version"]),
        "nginx": first("nginx", &["-v"]),
        "nix": first("nix", &["--version"]),
    })
}
