//! Programs started beside files that are being written.
//!
//! A new process has a copy of every open file until it runs its program, and a while beyond the moment at which its parent is
//! told. While one of those is a program open for writing, Linux refuses to run it ("text file busy").

use std::io;
use std::process::{Child, Command};

use parking_lot::RwLock;

static STARTING: RwLock<()> = RwLock::new(());

/// Starts a program of the session, while none is being written.
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let _alone = STARTING.write();
    command.spawn()
}

/// Opens, writes and closes a program, while none is started.
pub(crate) fn unshared<T>(write: impl FnOnce() -> T) -> T {
    let _none_starts = STARTING.read();
    write()
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_program_can_be_run_as_soon_as_it_is_there() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let starts = || {
            let mut quiet = Command::new("/bin/true");
            spawn(quiet.stdin(Stdio::null())).expect("started").wait().expect("ended");
        };
        let writes = |number: usize| {
            let program = dir.path().join(number.to_string());
            let script = std::fs::read("/bin/true").expect("a program");
            crate::outputs::write(&program, &script, true).expect("written");
            Command::new(&program).status().is_ok_and(|status| status.success())
        };
        let ended = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(move || {
                    while !ended.load(Ordering::Relaxed) {
                        starts();
                    }
                });
            }
            let all_ran = (0..200).all(writes);
            ended.store(true, Ordering::Relaxed);
            assert!(all_ran);
        });
    }
}
