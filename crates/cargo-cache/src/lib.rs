//! cargo over a build cache: each call of rustc, each documentation test and each run of a test executable is an action of
//! the Remote Execution API. The calls come by wrapper processes, which ask the session of the command that started cargo.

mod dep_info;
mod doc_test;
mod file_digests;
mod forks;
mod inputs;
mod key;
mod links;
mod local_server;
mod manifest;
mod outputs;
mod path_map;
mod put_back;
mod reason;
mod run;
mod rustc;
mod rustc_call;
mod seen;
mod session;
mod snapshot;
mod standin;
mod stats;
mod test_run;
mod toolchain;
mod tree;
mod wire;
mod workspace;
mod wrapper;

use std::ffi::OsString;
use std::process::ExitCode;

pub use run::{CargoError, Ended, Options, run};
pub use stats::{Counts, Stats};

/// Acts as the tool that the program's name says, when cargo or the system started us by such a name; `None` when we were
/// started by our own.
pub fn act_as_tool(mut arguments: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let program = arguments.next()?;
    let name = std::path::Path::new(&program).file_name()?.to_str()?.to_owned();
    if name == standin::PROGRAM {
        return Some(standin::run(arguments.collect()));
    }
    Some(wrapper::run(wrapper::tool(&name)?, arguments.collect()))
}
