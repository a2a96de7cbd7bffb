use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail};
use serde_json::Value;
use tempfile::TempDir;

/// The published crates, whose packages have their tests with them.
const PACKAGES: &[(&str, &str)] = &[
    ("tokio", "1.54.1"),
    ("tokio-macros", "2.7.2"),
    ("tokio-stream", "0.1.19"),
    ("tokio-test", "0.4.6"),
    ("tokio-util", "0.7.20"),
];

/// All tests but one. Without the features one test target refuses to compile.
pub(super) const CARGO_ARGUMENTS: &[&str] = &[
    "test",
    "--workspace",
    "--features",
    "full,test-util",
    "--locked",
    "--offline",
    "--no-fail-fast",
    "--",
    "--exact",
    "--skip",
    "try_exists",
];

/// Gets the crates by cargo and makes a workspace of them, with the versions of all else as in `lock_file`.
pub(super) fn assemble(lock_file: &Path) -> anyhow::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("twofold-tokio-").tempdir()?;
    let wanted = folder.path().join("wanted");
    std::fs::create_dir_all(wanted.join("src"))?;
    std::fs::write(wanted.join("src/lib.rs"), "")?;
    let dependencies = PACKAGES.iter().map(|(name, version)| format!("{name} = \"={version}\"\n"));
    let manifest = "[package]\nname = \"wanted\"\nedition = \"2024\"\n\n[dependencies]\n".to_owned();
    std::fs::write(wanted.join("Cargo.toml"), dependencies.fold(manifest, |all, line| all + &line))?;
    let described = cargo(&wanted, &["metadata", "--format-version", "1"])?;
    let described: Value = serde_json::from_str(&described).context("what cargo says of the packages")?;
    for (name, version) in PACKAGES {
        let found = described["packages"].as_array().into_iter().flatten().find(|package| package["name"] == *name);
        let manifest = found.and_then(|package| package["manifest_path"].as_str());
        let source = manifest.and_then(|manifest| Path::new(manifest).parent());
        let source = source.with_context(|| format!("cargo does not know where {name} {version} is"))?;
        super::lab::copy(source, &folder.path().join(name))?;
    }
    std::fs::remove_dir_all(&wanted)?;
    let members: Vec<String> = PACKAGES.iter().map(|(name, _)| format!("{name:?}")).collect();
    let patches = PACKAGES.iter().map(|(name, _)| format!("{name} = {{ path = {name:?} }}\n"));
    let manifest = format!("[workspace]\nresolver = \"2\"\nmembers = [{}]\n\n[patch.crates-io]\n", members.join(", "));
    std::fs::write(folder.path().join("Cargo.toml"), patches.fold(manifest, |all, line| all + &line))?;
    std::fs::copy(lock_file, folder.path().join("Cargo.lock"))
        .with_context(|| format!("cannot copy {}", lock_file.display()))?;
    cargo(folder.path(), &["fetch", "--locked"])?;
    Ok(folder)
}

fn cargo(folder: &Path, arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("cargo").args(arguments).current_dir(folder).output().context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    String::from_utf8(output.stdout).context("what cargo prints is not UTF-8")
}
