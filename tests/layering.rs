//! The one rule of the house that fails the build: imports go down, never sideways or up, and fenced libraries stay in
//! their room.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::Value;

/// Crate → the crates of ours that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("cache-types", &[]),
    ("prompt-key", &[]),
    ("store", &["cache-types"]),
    ("backends", &["cache-types", "store"]),
    ("reapi", &["cache-types", "store"]),
    ("cargo-cache", &["cache-types", "store", "reapi"]),
    ("nix-cache", &["cache-types", "store"]),
    ("prompt-cache", &["cache-types", "prompt-key", "store"]),
    ("server", &["cache-types", "store", "backends", "nix-cache", "prompt-cache", "reapi"]),
    ("twofold", &["cache-types", "prompt-cache", "prompt-key", "store", "nix-cache", "reapi", "server", "cargo-cache"]),
    ("benches", &["cache-types", "prompt-cache", "prompt-key", "store", "reapi"]),
];

/// Library → the only crates that may name it.
const FENCED: &[(&str, &[&str])] = &[
    ("rocksdb", &["backends"]),
    ("prost", &["prompt-cache", "reapi", "benches"]),
    ("prost-types", &["reapi", "benches"]),
    ("prost-reflect", &["reapi"]),
    ("fastcdc", &["store"]),
    ("anyhow", &["server", "twofold", "benches"]),
];

/// Crate → what it imports outside of tests, by package name.
fn imports() -> BTreeMap<String, Vec<String>> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs this test, so it is there");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).expect("cargo prints JSON");
    let packages = metadata["packages"].as_array().expect("a list of packages");
    packages
        .iter()
        .map(|package| {
            let dependencies = package["dependencies"].as_array().expect("a list of dependencies");
            let names = dependencies
                .iter()
                .filter(|dependency| dependency["kind"].is_null())
                .map(|dependency| dependency["name"].as_str().expect("a name").to_owned())
                .collect();
            (package["name"].as_str().expect("a name").to_owned(), names)
        })
        .collect()
}

#[test]
fn crates_import_only_downward() {
    let imports = imports();
    let ours: Vec<&str> = MAY_IMPORT.iter().map(|(name, _)| *name).collect();
    for (name, imported) in &imports {
        let (_, allowed) = MAY_IMPORT
            .iter()
            .find(|(known, _)| known == name)
            .unwrap_or_else(|| panic!("{name} has no row in the table of tests/layering.rs"));
        for import in imported.iter().filter(|import| ours.contains(&import.as_str())) {
            assert!(allowed.contains(&import.as_str()), "{name} must not import {import}");
        }
    }
    for (name, _) in MAY_IMPORT {
        assert!(imports.contains_key(*name), "the table names {name}, which does not exist");
    }
}

#[test]
fn fenced_libraries_stay_in_their_room() {
    for (name, imported) in imports() {
        for (library, rooms) in FENCED {
            let named = imported.iter().any(|import| import == library);
            assert!(!named || rooms.contains(&name.as_str()), "{name} must not name {library}");
        }
    }
}
