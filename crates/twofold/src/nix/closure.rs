use std::collections::HashSet;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use cache_types::Hash;
use cache_types::nix::{ContentAddress, Signature, StoreDir, StorePath, parse_hash_text};
use serde_json::Value;

/// What Nix knows of a store path.
#[derive(Clone, Debug)]
pub struct PathInfo {
    /// The path.
    pub path: StorePath,
    /// SHA-256 of its NAR.
    pub nar_hash: Hash,
    /// Bytes of its NAR.
    pub nar_size: u64,
    /// The paths it refers to.
    pub references: Vec<StorePath>,
    /// The derivation that made it.
    pub deriver: Option<StorePath>,
    /// Signatures it has.
    pub signatures: Vec<Signature>,
    /// How its path follows from its content, where it does.
    pub content_address: Option<ContentAddress>,
}

/// The paths and all that they refer to, references first.
///
/// Asks the `nix` on the PATH, whatever its version.
pub fn of(paths: &[String], dir: &StoreDir) -> anyhow::Result<Vec<PathInfo>> {
    let output = Command::new("nix")
        .args(["--extra-experimental-features", "nix-command", "path-info", "--json", "--recursive", "--"])
        .args(paths)
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run nix, which knows the closure; is it on the PATH?")?;
    if !output.status.success() {
        bail!("nix path-info failed ({}); are these paths of the store of this machine?", output.status);
    }
    let infos = parse(&output.stdout, dir).context("cannot read what nix path-info says")?;
    Ok(sorted(infos))
}

/// Reads the list of old versions of Nix, the map of newer ones, and the map within `info` of the newest.
fn parse(json: &[u8], dir: &StoreDir) -> anyhow::Result<Vec<PathInfo>> {
    let value: Value = serde_json::from_slice(json)?;
    let map = value.get("info").unwrap_or(&value);
    match map {
        Value::Array(list) => {
            list.iter().map(|info| path_info(info["path"].as_str().context("no path")?, info, dir)).collect()
        }
        Value::Object(map) => map.iter().map(|(path, info)| path_info(path, info, dir)).collect(),
        _ => bail!("neither a list nor a map"),
    }
}

fn path_info(path: &str, info: &Value, dir: &StoreDir) -> anyhow::Result<PathInfo> {
    let read = |text: &str| match text.starts_with('/') {
        true => dir.parse_path(text),
        false => StorePath::parse(text),
    };
    let path = read(path).with_context(|| format!("{path}: the cache is of another store than this machine's"))?;
    let texts = |key: &str| info[key].as_array().into_iter().flatten().filter_map(Value::as_str).collect::<Vec<_>>();
    Ok(PathInfo {
        nar_hash: parse_hash_text(info["narHash"].as_str().with_context(|| format!("{path} is not a valid path"))?)?,
        nar_size: info["narSize"].as_u64().context("no narSize")?,
        references: texts("references").into_iter().map(read).collect::<Result<_, _>>()?,
        deriver: info["deriver"].as_str().and_then(|deriver| read(deriver).ok()),
        signatures: texts("signatures").into_iter().filter_map(|text| Signature::parse(text).ok()).collect(),
        content_address: info["ca"].as_str().filter(|ca| !ca.is_empty()).map(ContentAddress::parse).transpose()?,
        path,
    })
}

/// References before what refers to them.
fn sorted(infos: Vec<PathInfo>) -> Vec<PathInfo> {
    let mut waiting = infos;
    let mut done: HashSet<StorePath> = HashSet::new();
    let mut order = Vec::with_capacity(waiting.len());
    while !waiting.is_empty() {
        let in_closure: HashSet<&StorePath> = waiting.iter().map(|info| &info.path).collect();
        let is_ready = |info: &PathInfo| {
            info.references.iter().all(|path| *path == info.path || done.contains(path) || !in_closure.contains(path))
        };
        let ready: Vec<bool> = waiting.iter().map(is_ready).collect();
        let mut ready = ready.into_iter();
        let (now, later): (Vec<PathInfo>, Vec<PathInfo>) =
            waiting.into_iter().partition(|_| ready.next().unwrap_or_default());
        if now.is_empty() {
            // References of a valid store have no circles.
            order.extend(later);
            break;
        }
        done.extend(now.iter().map(|info| info.path.clone()));
        order.extend(now);
        waiting = later;
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "an573i3k6x2sjlwsdmgllhwch18xq4mg-a";
    const B: &str = "faq2j1z6jrkqk23mhzq65iy3ghv0zrj8-b";

    #[test]
    fn every_form_of_path_info_is_read_and_sorted() {
        let hash = "sha256-HDfQGvQL4ugGkd48w99EN3ppmvuxfGjwgJZLL9Bx/BM=";
        let b = format!(r#""narHash":"{hash}","narSize":120,"references":["/nix/store/{A}","/nix/store/{B}"],"ca":"""#);
        let a =
            format!(r#""narHash":"{hash}","narSize":120,"references":[],"deriver":"/nix/store/{B}","signatures":[]"#);
        let list = format!(r#"[{{"path":"/nix/store/{B}",{b}}},{{"path":"/nix/store/{A}",{a}}}]"#);
        let map = format!(r#"{{"/nix/store/{B}":{{{b}}},"/nix/store/{A}":{{{a}}}}}"#);
        let newest = format!(r#"{{"version":2,"info":{{"{B}":{{{b}}},"{A}":{{{a}}}}}}}"#);
        for text in [list, map, newest] {
            let infos = sorted(parse(text.as_bytes(), &StoreDir::default()).expect(&text));
            let names: Vec<String> = infos.iter().map(|info| info.path.to_string()).collect();
            assert_eq!(names, [A, B]);
            assert_eq!((infos[0].nar_size, infos[0].deriver.is_some()), (120, true));
        }
        let invalid = format!(r#"{{"/nix/store/{A}":null}}"#);
        assert!(parse(invalid.as_bytes(), &StoreDir::default()).is_err());
    }
}
