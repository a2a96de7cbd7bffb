//! Real Nix on a machine of its own: a mount namespace with an empty store in memory, gone when the script ends.

use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::tool::{self, Run};

/// Mounts the empty store, writes nix.conf, and runs what follows in a folder of its own.
const PRELUDE: &str = r#"
mount -t tmpfs none /nix
export HOME="$MACHINE" XDG_CACHE_HOME="$MACHINE/cache" NIX_CONF_DIR="$MACHINE/conf" NIX_REMOTE=local
mkdir -p "$MACHINE/conf"
cat > "$MACHINE/conf/nix.conf" <<END
build-users-group =
sandbox = false
experimental-features = nix-command
substituters =
$CONF
END
cd "$MACHINE"
"#;

/// What is written into nix.conf beside the essentials.
#[derive(Default)]
pub struct Machine {
    conf: String,
    variables: Vec<(String, String)>,
}

impl Machine {
    /// A machine that substitutes from `url` and trusts only `key`.
    pub fn trusting(url: &str, key: &str) -> Self {
        Self::default().with(&format!("substituters = {url}")).with(&format!("trusted-public-keys = {key}"))
    }

    /// A further line of nix.conf.
    pub fn with(mut self, line: &str) -> Self {
        self.conf.push_str(line);
        self.conf.push('\n');
        self
    }

    /// A variable for the scripts.
    pub fn variable(mut self, name: &str, value: impl AsRef<Path>) -> Self {
        self.variables.push((name.to_owned(), value.as_ref().display().to_string()));
        self
    }

    /// Runs a script of the shell on a machine that has never been used.
    pub fn run(&self, script: &str) -> Run {
        tool::installed("nix", &tool::on_path("nix"));
        assert!(
            Path::new("/nix").is_dir(),
            "there is no folder /nix to mount a store on; `tools/setup --tests` makes it"
        );
        let folder = TempDir::new().expect("a temporary folder");
        let mut command = Command::new("unshare");
        // Without root, a user namespace lets the mount be.
        let is_root = rustix::process::geteuid().is_root();
        command.args(if is_root { ["-m", "--"] } else { ["-Urm", "--"] });
        command.args(["sh", "-euc", &format!("{PRELUDE}\n{script}")]);
        command.env("MACHINE", folder.path()).env("CONF", &self.conf).env_remove("NIX_PATH");
        command.envs(self.variables.iter().map(|(name, value)| (name, value)));
        tool::run(&mut command)
    }
}

/// The lines of a run that hold `text`.
pub fn lines<'a>(run: &'a Run, text: &str) -> Vec<&'a str> {
    run.output.lines().filter(|line| line.contains(text)).collect()
}

/// Three derivations, each built by /bin/sh alone and each holding the path of the one before.
pub const CHAIN: &str = r#"
cat > chain.nix <<'END'
let
  make = name: script: derivation { inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-c" script ]; };
  base = make "base" "i=0; while [ $i -lt 20000 ]; do echo \"line $i of the base\"; i=$((i+1)); done > $out";
  middle = make "middle" "echo ${base} > $out";
in make "top" "echo 'echo hello' > $out; echo '# ${middle}' >> $out"
END
"#;
