//! A small script in place of a test executable whose result is known: it names the executable's digest, and when it is
//! run, the executable takes its place first.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, ExitCode};

use cache_types::Digest;

use crate::{local_server, outputs};

/// The program that runs stand-ins, a name of the one binary.
pub(crate) const PROGRAM: &str = "twofold-standin";
/// What the second line starts with.
const DIGEST: &str = "# twofold stand-in: ";
/// What the third line starts with.
const SERVER: &str = "# served by: ";
/// No stand-in is longer.
const MAX_BYTES: u64 = 4096;

/// What a stand-in says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StandIn {
    /// The executable.
    pub(crate) digest: Digest,
    /// The address of the server that has it.
    pub(crate) server: String,
}

impl StandIn {
    /// The script; `folder` is where [`PROGRAM`] is.
    pub(crate) fn script(&self, folder: &Path) -> String {
        let program = folder.join(PROGRAM);
        format!(
            "#!{}\n{DIGEST}{}\n{SERVER}{}\n# Its test result was known, so the executable was not fetched. Run it, and it will be.\n",
            program.display(),
            self.digest,
            self.server
        )
    }

    /// Reads a script; `None` for any other file.
    pub(crate) fn parse(script: &str) -> Option<Self> {
        let mut lines = script.lines();
        lines.next()?.strip_prefix("#!")?;
        let digest = lines.next()?.strip_prefix(DIGEST)?.parse().ok()?;
        let server = lines.next()?.strip_prefix(SERVER)?.to_owned();
        Some(Self { digest, server })
    }

    /// What the file at `path` says, if it is a stand-in.
    pub(crate) fn at(path: &Path) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        if file.metadata()?.len() > MAX_BYTES {
            return Ok(None);
        }
        let mut script = Vec::new();
        file.take(MAX_BYTES).read_to_end(&mut script)?;
        Ok(std::str::from_utf8(&script).ok().and_then(Self::parse))
    }
}

/// Runs an executable, or what a stand-in stands for. A stand-in is a script, so the system knows what to do.
pub(crate) fn run_in_place(program: &OsStr, arguments: &[OsString]) -> ExitCode {
    let error = Command::new(program).args(arguments).exec();
    eprintln!("twofold: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}

/// Acts as the interpreter of a stand-in: fetches what it stands for, puts that in its place, and becomes it.
pub(crate) fn run(arguments: Vec<OsString>) -> ExitCode {
    let Some((script, arguments)) = arguments.split_first() else {
        eprintln!("twofold: this program runs stand-ins of test executables; cargo and the system call it");
        return ExitCode::FAILURE;
    };
    let path = Path::new(script);
    let fetched = match StandIn::at(path) {
        Ok(Some(standin)) => fetch(&standin, path),
        Ok(None) => Ok(()), // Somebody else has put it in place meanwhile.
        Err(error) => Err(error.to_string()),
    };
    match fetched {
        Ok(()) => run_in_place(script, arguments),
        Err(why) => {
            eprintln!("twofold: {} is a stand-in, and what it stands for cannot be had: {why}", path.display());
            eprintln!("twofold: delete it and build again, or build with `twofold cargo --materialize all`");
            ExitCode::FAILURE
        }
    }
}

fn fetch(standin: &StandIn, path: &Path) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| error.to_string())?;
    runtime.block_on(async {
        let server = local_server::at(&standin.server).await.map_err(|error| error.to_string())?;
        match outputs::restore(&server, &standin.digest, path, true).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(format!("{} no longer has {}", standin.server, standin.digest)),
            Err(error) => Err(error.to_string()),
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::file_digests::FUNCTION;

    #[test]
    fn scripts_read_back_and_other_files_do_not() {
        let standin = StandIn { digest: Digest::of(FUNCTION, b"executable"), server: "unix:/run/x y".to_owned() };
        assert_eq!(StandIn::parse(&standin.script(Path::new("/bin folder"))), Some(standin));
        for other in ["", "#!/bin/sh\n", "#!/bin/sh\n# twofold stand-in: x/1\n# served by: y\n", "\u{7f}ELF"] {
            assert_eq!(StandIn::parse(other), None);
        }
    }

    proptest! {
        #[test]
        fn any_script_is_read_or_refused(script in "(#!|\n|# twofold stand-in: |# served by: |[a-f0-9/]){0,20}") {
            let _read = StandIn::parse(&script);
        }
    }
}
