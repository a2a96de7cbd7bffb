use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use parking_lot::Mutex;

use crate::file_digests::FileDigests;
use crate::forks;
use crate::key::KeyHasher;
use crate::reason::Reason;

/// What a linker brings into every executable beside what it is given.
const START_FILES: &[&str] =
    &["crt1.o", "Scrt1.o", "crti.o", "crtbeginS.o", "libc.so.6", "libc_nonshared.a", "libgcc.a"];

/// Identities of compilers and linkers, each found once.
#[derive(Default)]
pub(crate) struct Toolchains {
    compilers: Mutex<HashMap<Vec<String>, String>>,
    linkers: Mutex<HashMap<Vec<String>, String>>,
}

impl Toolchains {
    /// What tells this compiler from every other: its version and the libraries that it consists of.
    pub(crate) fn compiler(&self, rustc: &str, environment: &BTreeMap<String, String>) -> Result<String, Reason> {
        let chosen = ["RUSTUP_TOOLCHAIN", "RUSTUP_HOME", "PATH"].map(|name| environment.get(name).cloned());
        let question: Vec<String> = std::iter::once(rustc.to_owned()).chain(chosen.into_iter().flatten()).collect();
        if let Some(known) = self.compilers.lock().get(&question) {
            return Ok(known.clone());
        }
        let version = ask(rustc, &["-vV"], environment)?;
        if !version.starts_with("rustc ") {
            return Err(Reason::OtherCompiler);
        }
        let sysroot = PathBuf::from(ask(rustc, &["--print", "sysroot"], environment)?.trim());
        let mut key = KeyHasher::new("compiler-1");
        key.part("version", version.as_bytes());
        let libraries = sysroot.join("lib/rustlib");
        let mut folders = vec![sysroot.join("lib")];
        folders.extend(names(&libraries).iter().map(|target| libraries.join(target).join("lib")));
        for folder in folders {
            for name in names(&folder) {
                let size = std::fs::metadata(folder.join(&name)).map(|file| file.len()).unwrap_or_default();
                key.part(&name, &size.to_le_bytes());
            }
        }
        let identity = key.finish();
        self.compilers.lock().insert(question, identity.clone());
        Ok(identity)
    }

    /// What tells this linker from every other: its driver, the linker proper, and the files that they add.
    pub(crate) fn linker(
        &self,
        named: Option<&str>,
        environment: &BTreeMap<String, String>,
        digests: &FileDigests,
    ) -> Result<String, Reason> {
        let driver = named.unwrap_or("cc");
        let path = environment.get("PATH").map(String::as_str).unwrap_or_default();
        let question = vec![driver.to_owned(), path.to_owned()];
        if let Some(known) = self.linkers.lock().get(&question) {
            return Ok(known.clone());
        }
        let mut key = KeyHasher::new("linker-1");
        let unreadable = |name: &str| Reason::Unreadable(format!("the linker {name}"));
        let program = find(driver, path).ok_or_else(|| unreadable(driver))?;
        key.file(driver, &digests.of(&program).map_err(|_| unreadable(driver))?);
        for part in ["ld", "collect2"] {
            let said = ask(driver, &[&format!("-print-prog-name={part}")], environment).unwrap_or_default();
            if let Some(digest) = find(said.trim(), path).and_then(|part| digests.of(&part).ok()) {
                key.file(part, &digest);
            }
        }
        for part in START_FILES {
            let said = ask(driver, &[&format!("-print-file-name={part}")], environment).unwrap_or_default();
            if let Ok(digest) = digests.of(Path::new(said.trim())) {
                key.file(part, &digest);
            }
        }
        let identity = key.finish();
        self.linkers.lock().insert(question, identity.clone());
        Ok(identity)
    }
}

/// What a program prints.
pub(crate) fn ask(program: &str, arguments: &[&str], environment: &BTreeMap<String, String>) -> Result<String, Reason> {
    let mut command = Command::new(program);
    command.args(arguments).env_clear().envs(environment);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let unreadable = |_| Reason::Unreadable(program.to_owned());
    let child = forks::spawn(&mut command).map_err(unreadable)?;
    let output = child.wait_with_output().map_err(unreadable)?;
    String::from_utf8(output.stdout).map_err(|_| Reason::Text)
}

/// The names in a folder, sorted; none when there is no such folder.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

/// The file that a program's name stands for.
fn find(program: &str, path: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program)).filter(|program| program.is_file());
    }
    std::env::split_paths(path).map(|folder| folder.join(program)).find(|program| program.is_file())
}
