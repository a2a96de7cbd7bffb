//! Documentation tests: one call of rustdoc for each crate, keyed by the crate's sources and what it links.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use crate::inputs::TestInputs;
use crate::key::KeyHasher;
use crate::links::name;
use crate::reason::Reason;
use crate::seen::Files;
use crate::session::{Looked, Session};
use crate::test_run;
use crate::wire::Call;

/// Arguments whose values say where things are or how wide they are printed.
const UNKEYED: &[&str] = &["-L", "--test-runtool", "--test-runtool-arg", "--color", "--diagnostic-width"];

/// Answers a call of rustdoc.
pub(crate) fn look_up(session: &Session, call: &Call) -> Result<Looked, Reason> {
    let (program, arguments) = call.command.split_first().ok_or(Reason::NoCompilation)?;
    if !arguments.iter().any(|argument| argument == "--test") {
        return Err(Reason::NoCompilation);
    }
    if !session.settings.test_cache {
        return Err(Reason::TestCacheOff);
    }
    let folder = call.environment.get("CARGO_MANIFEST_DIR").ok_or(Reason::OtherPackage)?;
    let package = session.workspace.package_in(Path::new(folder)).ok_or(Reason::OtherPackage)?;
    if !package.metadata.twofold.test_cache {
        return Err(Reason::TestCacheOff);
    }
    let read = Arguments::read(arguments)?;
    let here = Path::new(&call.folder);
    let externs: Vec<PathBuf> = read.externs.iter().map(|path| here.join(path)).collect();
    let libraries = session.links.closure(&externs, &session.digests)?;
    let sources = sources(session, package.folder(), &externs)?;
    // What a documentation test includes or reads, it names.
    let named = rust_files_named_in(&sources)?;
    let is_named = |path: &Path| path.file_name().is_none_or(|file| named.contains(file.as_encoded_bytes()));
    let inputs = TestInputs { workspace: &session.workspace, package, digests: &session.digests };
    let mut inputs = inputs.without_targets(is_named)?;
    for path in sources {
        let digest = session.digests.of(&path).map_err(|_| Reason::Unreadable(name(&path)))?;
        inputs.insert(path, Some(digest));
    }
    let mut key = KeyHasher::new("doc-test-1");
    // rustdoc comes with the compiler, whose identity is that of the whole toolchain.
    key.part("compiler", session.toolchains.compiler(&sibling(program), &call.environment)?.as_bytes());
    key.part("linker", session.toolchains.linker(None, &call.environment, &session.digests)?.as_bytes());
    for (path, digest) in &libraries {
        key.file(&name(path), digest);
    }
    let spec = test_run::spec(session, call, &read.keyed, &Files::named(&session.map, inputs)?, key.finish())?;
    test_run::answer(session, spec, || Some(format!("    Replayed doc-tests of {} (passed before)", package.name)))
}

/// rustc beside rustdoc.
fn sibling(rustdoc: &str) -> String {
    match rustdoc.strip_suffix("rustdoc") {
        Some(folder) => format!("{folder}rustc"),
        None => "rustc".to_owned(),
    }
}

/// The sources of the crate itself, also those outside of its package, from when it was compiled.
fn sources(session: &Session, folder: &Path, externs: &[PathBuf]) -> Result<Vec<PathBuf>, Reason> {
    for path in externs {
        let digest = session.digests.of(path).map_err(|_| Reason::Unreadable(name(path)))?;
        let made = session.links.made(&digest).unwrap_or_default();
        if made.sources.iter().any(|source| source.starts_with(folder)) {
            return Ok(made.sources);
        }
    }
    Err(Reason::UnknownDependency(name(folder)))
}

/// The names of all `.rs` files that occur in these files.
fn rust_files_named_in(sources: &[PathBuf]) -> Result<HashSet<Vec<u8>>, Reason> {
    let mut named = HashSet::new();
    for path in sources {
        let text = std::fs::read(path).map_err(|_| Reason::Unreadable(name(path)))?;
        named.extend(rust_files_in(&text).map(<[u8]>::to_vec));
    }
    Ok(named)
}

/// The file names in a text that end in `.rs`, each from the last `/` or quotation mark on.
fn rust_files_in(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    let ends = text.windows(3).enumerate().filter(|(_, three)| *three == b".rs").map(|(at, _)| at);
    ends.filter_map(|at| {
        let before = text.get(..at)?;
        let start = before.iter().rposition(|byte| matches!(byte, b'/' | b'"' | b'\n')).map_or(0, |last| last + 1);
        text.get(start..at + 3)
    })
}

#[derive(Default)]
struct Arguments {
    keyed: Vec<String>,
    externs: Vec<PathBuf>,
}

impl Arguments {
    fn read(arguments: &[String]) -> Result<Self, Reason> {
        let mut read = Self::default();
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            if argument.starts_with('@') {
                return Err(Reason::Argument("an argument file"));
            }
            if UNKEYED.contains(&argument.as_str()) {
                rest.next();
            } else if UNKEYED
                .iter()
                .any(|flag| argument.strip_prefix(flag).is_some_and(|rest| rest.starts_with('=') || *flag == "-L"))
            {
            } else if argument == "--extern" {
                let value = rest.next().ok_or(Reason::NoCompilation)?;
                read.externs.extend(value.split_once('=').map(|(_, path)| PathBuf::from(path)));
                read.keyed.push(format!("--extern {}", value.split_once('=').map_or(value.as_str(), |(name, _)| name)));
            } else {
                read.keyed.push(argument.clone());
            }
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_a_text_names_are_found() {
        let text = b"/// include!(\"../tests/a b.rs\") and tests/sync.rs, `x.rss`\n\"c.rs\"";
        let found: Vec<_> = rust_files_in(text).collect();
        assert_eq!(found, [&b"a b.rs"[..], b"sync.rs", b"sync.rs, `x.rs", b"c.rs"]);
    }

    #[test]
    fn folders_and_widths_are_not_in_the_key() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let text = "--test src/lib.rs --crate-name a -L dependency=/t/deps --extern a=/t/deps/liba-1.rlib \
                    --color=always --test-runtool /x/twofold-runner --edition=2024";
        let read = Arguments::read(&words(text)).expect("arguments");
        let expected = ["--test", "src/lib.rs", "--crate-name", "a", "--extern a", "--edition=2024"];
        assert_eq!(read.keyed, expected);
        assert_eq!(read.externs, [PathBuf::from("/t/deps/liba-1.rlib")]);
        assert!(Arguments::read(&words("--test @args")).is_err());
    }
}
