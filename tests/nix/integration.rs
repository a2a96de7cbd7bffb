//! What users copy from `nix-integration/`, and `twofold nix`.

use std::path::PathBuf;

use crate::harness::{Server, say, tool};
use crate::machine::{CHAIN, Machine, lines};
use crate::{TWOFOLD, get, public_key, show, url};

pub fn sample(name: &str) -> PathBuf {
    tool::checkout().join("nix-integration").join(name)
}

/// Puts the folder of the program under test on the PATH.
fn on_path() -> String {
    let folder = std::path::Path::new(TWOFOLD).parent().expect("a program lies in a folder");
    format!("export PATH={}:$PATH\n", folder.display())
}

#[test]
fn the_command_line_makes_keys_pushes_asks_and_pins() {
    let folder = tempfile::TempDir::new().expect("a temporary folder");
    let secret = folder.path().join("secret");
    let keygen = || {
        let mut command = std::process::Command::new(TWOFOLD);
        tool::run(command.args(["nix", "keygen", "cache.example.org-1", "--secret"]).arg(&secret))
    };
    let made = keygen().expect_success();
    let public = made.line_with("cache.example.org-1:").to_owned();
    assert_ne!(keygen().code, 0, "a key that is there is not replaced");
    let server = Server::start(&["--nix-cache", &format!("default,key={}", secret.display())]);
    assert_eq!(public_key(&server), public);
    let cache = url(&server);
    let script = format!(
        "{}{CHAIN} top=$(nix-build --no-out-link chain.nix)
        twofold nix info --cache {cache} $top && exit 1
        twofold nix push --cache {cache} $top
        echo again; twofold nix push --cache {cache} $top
        twofold nix info --cache {cache}; twofold nix info --json --cache {cache} $top
        twofold nix pin --cache {cache} $top; twofold nix pin --cache {cache} --list
        twofold nix pin --cache {cache} --remove $top; twofold nix pin --json --cache {cache} --list",
        on_path()
    );
    let run = Machine::default().run(&script).expect_success();
    show("twofold nix", &run);
    assert_eq!(lines(&run, "3 of 3 paths pushed").len(), 1, "{}", run.output);
    assert_eq!(lines(&run, "0 of 3 paths pushed").len(), 1, "{}", run.output);
    assert!(run.line_with("extra-trusted-public-keys").ends_with(&public), "{}", run.output);
    assert!(run.output.contains("\"present\":true") && run.output.contains("{\"pins\":[]}"), "{}", run.output);
    let script = format!("{CHAIN} sh $(nix-build --no-out-link chain.nix)");
    let built = Machine::trusting(&cache, &public).run(&script).expect_success();
    assert_eq!(lines(&built, "building '").len(), 0, "{}", built.output);
}

#[test]
fn a_push_packed_with_zstd_is_substituted() {
    let server = Server::start(&[]);
    let script = format!(
        "{}{CHAIN} twofold nix push --cache {} --compression zstd $(nix-build --no-out-link chain.nix)",
        on_path(),
        url(&server)
    );
    Machine::default().run(&script).expect_success();
    let script = format!("{CHAIN} sh $(nix-build --no-out-link chain.nix)");
    let built = Machine::trusting(&url(&server), &public_key(&server)).run(&script).expect_success();
    assert_eq!(lines(&built, "building '").len(), 0, "{}", built.output);
}

#[test]
fn the_post_build_hook_pushes_what_was_built() {
    let server = Server::start(&[]);
    let hook = sample("post-build-hook.sh");
    let script = format!("{}{CHAIN} nix-build --no-out-link chain.nix", on_path());
    let machine = Machine::default()
        .with(&format!("post-build-hook = {}", hook.display()))
        .variable("TWOFOLD_NIX_CACHE", url(&server));
    let built = machine.run(&script).expect_success();
    show("post-build hook", &built);
    let path = lines(&built, "/nix/store/").into_iter().find(|line| line.starts_with('/') && line.ends_with("-top"));
    let path = path.unwrap_or_else(|| panic!("no path: {}", built.output)).trim_start_matches("/nix/store/");
    assert_eq!(get(&server, &format!("{}.narinfo", &path[..32])).code, 200);
    // A cache that is away fails no build.
    let machine = Machine::default()
        .with(&format!("post-build-hook = {}", hook.display()))
        .variable("TWOFOLD_NIX_CACHE", "http://127.0.0.1:1/nix/default");
    machine.run(&script).expect_success();
}

#[test]
fn the_sample_of_nix_conf_makes_a_machine_substitute() {
    let server = Server::start(&[]);
    crate::push_chain(&server, "");
    let sample = std::fs::read_to_string(sample("nix.conf")).expect("the sample");
    let placeholder = "twofold-default-xxxxxxxx:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert!(sample.contains(placeholder));
    let conf =
        sample.replace("http://127.0.0.1:8980/nix/default", &url(&server)).replace(placeholder, &public_key(&server));
    // Nothing outside of this machine is asked.
    let script = format!("{CHAIN} nix-build --no-out-link chain.nix");
    let built = Machine::default().with(&conf).run(&script).expect_success();
    assert_eq!(lines(&built, "building '").len(), 0, "{}", built.output);
    say("nix.conf: substituted");
}

#[test]
fn the_module_and_the_flake_are_read_by_nix() {
    // Evaluated with stand-ins for nixpkgs, which is not on this machine.
    let script = format!(
        "cp {} module.nix; cp {} flake.nix; nix-instantiate --parse flake.nix > flake.txt; cat > eval.nix <<'END'
let
  lib = {{
    mkEnableOption = text: {{ default = false; }};
    mkOption = option: option;
    mkIf = condition: value: if condition then value else {{}};
    types = {{ package = null; str = null; path = null; port = null; listOf = type: null; nullOr = type: null; lines = null; }};
    escapeShellArgs = arguments: builtins.concatStringsSep \" \" (map toString arguments);
    concatMap = builtins.concatMap;
    optionals = condition: list: if condition then list else [];
    optional = condition: value: if condition then [ value ] else [];
    getExe = package: \"${{package}}/bin/twofold\";
    literalExpression = text: text;
  }};
  module = import ./module.nix {{
    inherit lib; pkgs = {{}};
    config.services.twofold = {{ enable = true; package = \"/pkg\"; listen = [ \"127.0.0.1:8980\" ]; maxSize = \"10GiB\"; nixCaches = [ \"main,public\" ]; extraArgs = []; }};
  }};
in module.config.systemd.services.twofold.serviceConfig.ExecStart
END
nix-instantiate --eval --strict eval.nix",
        sample("module.nix").display(),
        sample("flake.nix").display()
    );
    let run = Machine::default().run(&script).expect_success();
    let line = run.line_with("/pkg/bin/twofold serve");
    assert!(line.contains("--nix-cache main,public") && line.contains("--max-size 10GiB"), "{line}");
}
