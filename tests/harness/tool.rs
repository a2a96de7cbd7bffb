//! Real clients as child processes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What a client's run gave.
pub struct Run {
    /// Its exit code; -1 when a signal ended it.
    pub code: i32,
    /// Standard output and standard error, one after the other.
    pub output: String,
}

impl Run {
    /// The run itself, if the client was content.
    pub fn expect_success(self) -> Self {
        assert_eq!(self.code, 0, "{}", self.output);
        self
    }

    /// The first line that holds `text`.
    pub fn line_with(&self, text: &str) -> &str {
        self.output
            .lines()
            .find(|line| line.contains(text))
            .unwrap_or_else(|| panic!("no line with {text:?}:\n{}", self.output))
    }
}

/// Runs a command to its end.
pub fn run(command: &mut Command) -> Run {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    Run { code: output.status.code().unwrap_or(-1), output: String::from_utf8_lossy(&text).into_owned() }
}

/// The first of `places` that is there. There is no test without its client: a missing one fails the test.
pub fn installed(name: &str, places: &[PathBuf]) -> PathBuf {
    places.iter().find(|place| place.is_file()).cloned().unwrap_or_else(|| {
        panic!("{name} is not installed (looked at {places:?}); `tools/setup --tests` installs it");
    })
}

/// The folder of the checkout.
pub fn checkout() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

/// Where `PATH` has `name`, if it does.
pub fn on_path(name: &str) -> Vec<PathBuf> {
    std::env::var_os("PATH")
        .map(|path| std::env::split_paths(&path).map(|folder| folder.join(name)).collect())
        .unwrap_or_default()
}

/// Copies a folder and all below it.
pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a folder in a temporary folder");
    for entry in std::fs::read_dir(from).expect("a folder of the checkout") {
        let entry = entry.expect("a folder of the checkout");
        let target = to.join(entry.file_name());
        // Links that a build left behind are not followed.
        match entry.file_type().expect("a file's type") {
            kind if kind.is_dir() => copy_folder(&entry.path(), &target),
            kind if kind.is_file() => {
                std::fs::copy(entry.path(), target).expect("a copy");
            }
            _ => {}
        }
    }
}
