//! What two versions of a closure take on disk, pushed one after the other.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, ensure};
use serde_json::{Value, json};

use crate::server::Twofold;
use crate::{Options, machine};

const MIB: f64 = 1024.0 * 1024.0;

/// Three derivations in two versions. What a version changes is what an update of a package at the bottom does: its own
/// files, a few files of the library, and everywhere the hashes in the paths that are named in files.
const CLOSURE: &str = r##"
cat > closure.nix <<'END'
{ version, tree, file }:
let
  make = name: script: derivation {
    inherit name; system = builtins.currentSystem; builder = "/bin/sh"; args = [ "-euc" script ]; PATH = "/usr/bin:/bin";
  };
  base = make "base" "mkdir $out; cp /bin/sh $out/sh; echo ${version} > $out/version";
  library = make "library" ''
    cp -r ${tree} $out; chmod -R u+w $out
    find $out -type f | LC_ALL=C sort | awk 'NR % 10 == 0' | while read -r file; do echo "# ${base}/sh" >> "$file"; done
    find $out -type f | LC_ALL=C sort | awk 'NR % 50 == 1' | while read -r file; do echo "# ${version}" >> "$file"; done
  '';
  app = make "app" ''
    mkdir $out; cp ${file} $out/app; chmod u+w $out/app
    size=$(stat -c %s $out/app)
    for part in 1 2 3 4 5 6 7 8 9; do
      printf %s ${library} | dd of=$out/app bs=1 seek=$((size / 10 * part)) conv=notrunc status=none
    done
    echo ${base}/sh > $out/uses
  '';
in app
END
"##;

/// Pushes both versions to a new server, and to a folder as NARs packed with zstd; prints and answers the sizes.
pub fn measure(server: &Path, file: &Path, work: &Path, options: &Options) -> anyhow::Result<Value> {
    let data = work.join("disk");
    let packed = work.join("packed");
    let mut twofold = Twofold::start(server, &data, &[])?;
    let build = format!(
        "{CLOSURE}
        build() {{ nix-build --no-out-link closure.nix --argstr version $1 --argstr tree {} --argstr file {}; }}",
        options.tree.display(),
        file.display()
    );
    let mut rows = Vec::new();
    println!("{:<24} {:>12} {:>18} {:>18}", "on disk, MiB", "plain NARs", "zstd, each NAR", "twofold");
    for versions in [&["1"][..], &["1", "2"]] {
        let url = twofold.url();
        let last = versions.last().context("a version")?;
        let script = format!(
            "{build}
            for version in {}; do roots=\"${{roots:-}} $(build $version)\"; done
            last=$(build {last})
            nix copy --to '{url}?compression=zstd' $last >&2
            nix copy --to 'file://{}?compression=zstd' $last >&2
            nix-store --query --size $(nix-store --query --requisites $roots | sort -u)",
            versions.join(" "),
            packed.display()
        );
        let sizes = machine::run(&script)?;
        let plain = sizes.lines().map(str::parse::<u64>).sum::<Result<u64, _>>()?;
        // Ended and begun again, so that nothing waits to be written or swept.
        twofold = twofold.restart()?;
        let (zstd, ours) = (bytes_of_files(&packed.join("nar"))?, bytes_on_disk(&data)?);
        ensure!(plain > 0 && zstd > 0 && ours > 0, "nothing was pushed");
        println!(
            "{:<24} {:>12.1} {:>18.1} {:>18.1}",
            format!("{} version(s)", versions.len()),
            plain as f64 / MIB,
            zstd as f64 / MIB,
            ours as f64 / MIB
        );
        rows.push(json!({
            "versions": versions.len(), "plain_bytes": plain, "zstd_bytes": zstd, "twofold_bytes": ours,
        }));
    }
    twofold.stop()?;
    Ok(rows.into())
}

fn bytes_of_files(folder: &Path) -> anyhow::Result<u64> {
    let sizes = fs::read_dir(folder)?.map(|entry| Ok(entry?.metadata()?.len()));
    sizes.sum()
}

/// All that the folder takes, its index and logs too.
fn bytes_on_disk(folder: &Path) -> anyhow::Result<u64> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes_on_disk(&entry.path())? } else { metadata.blocks() * 512 };
    }
    Ok(sum)
}
