//! The process that cargo starts in place of rustc, of rustdoc, and of a test executable.

use std::ffi::OsString;
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::thread;
use std::time::Instant;

use crate::standin;
use crate::wire::{Answer, Call, Done, Request, Tool, read_frame, read_message, write_frame, write_message};

/// Names the socket of the session to the wrappers.
pub(crate) const SESSION: &str = "TWOFOLD_CARGO_SESSION";

/// Which of our tools a program name stands for; `None` for the command line itself.
pub(crate) fn tool(program: &str) -> Option<Tool> {
    match program {
        "twofold-rustc" => Some(Tool::Rustc),
        "twofold-rustdoc" => Some(Tool::Rustdoc),
        "twofold-runner" => Some(Tool::Runner),
        _ => None,
    }
}

/// Does what cargo wants of `tool`: by the session if it answers, else as if we were not here.
pub(crate) fn run(tool: Tool, arguments: Vec<OsString>) -> ExitCode {
    let mut command = arguments;
    if tool == Tool::Rustdoc {
        // cargo names rustdoc by us; the real one is the toolchain's own.
        command.insert(0, std::env::var_os("TWOFOLD_CARGO_RUSTDOC").unwrap_or_else(|| "rustdoc".into()));
    }
    let Some(call) = call(tool, &command) else {
        return pass(tool, &command);
    };
    let Some(mut session) = std::env::var_os(SESSION).and_then(|path| UnixStream::connect(path).ok()) else {
        return pass(tool, &command);
    };
    match ask(&mut session, call) {
        Ok(Answered::Replay { exit_code, note, stdout, stderr }) => replay(exit_code, note, &stdout, &stderr),
        Ok(Answered::Run(arguments)) => record(session, &command, arguments),
        Ok(Answered::Pass) | Err(_) => pass(tool, &command),
    }
}

/// The call as the session takes it; `None` when it is not all text.
fn call(tool: Tool, command: &[OsString]) -> Option<Call> {
    let text = |text: &OsString| text.to_str().map(str::to_owned);
    let environment: Option<_> = std::env::vars_os().map(|(name, value)| Some((text(&name)?, text(&value)?))).collect();
    Some(Call {
        tool,
        command: command.iter().map(text).collect::<Option<_>>()?,
        folder: std::env::current_dir().ok()?.to_str()?.to_owned(),
        environment: environment?,
    })
}

enum Answered {
    Replay { exit_code: i32, note: Option<String>, stdout: Vec<u8>, stderr: Vec<u8> },
    Run(Option<Vec<String>>),
    Pass,
}

fn ask(session: &mut UnixStream, call: Call) -> io::Result<Answered> {
    write_message(session, &Request::Call(call))?;
    Ok(match read_message(session)? {
        Answer::Replay { exit_code, note } => {
            Answered::Replay { exit_code, note, stdout: read_frame(session)?, stderr: read_frame(session)? }
        }
        Answer::Run { arguments } => Answered::Run(arguments),
        Answer::Pass | Answer::Kept => Answered::Pass,
    })
}

fn replay(exit_code: i32, note: Option<String>, stdout: &[u8], stderr: &[u8]) -> ExitCode {
    if let Some(note) = note {
        eprintln!("{note}");
    }
    // Nobody reads on where these fail.
    let _: io::Result<()> = io::stdout().write_all(stdout);
    let _: io::Result<()> = io::stderr().write_all(stderr);
    ExitCode::from(u8::try_from(exit_code).unwrap_or(1))
}

/// Becomes the command.
fn pass(tool: Tool, command: &[OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        eprintln!("twofold: no command was given");
        return ExitCode::FAILURE;
    };
    if tool == Tool::Runner {
        // Without a session the executable may still be a stand-in, which fetches itself when it is run.
        return standin::run_in_place(program, arguments);
    }
    let error = Command::new(program).args(arguments).exec();
    eprintln!("twofold: cannot run {}: {error}", program.display());
    ExitCode::FAILURE
}

/// Runs the command, passes its output on while it comes, and hands it to the session.
fn record(mut session: UnixStream, command: &[OsString], instead: Option<Vec<String>>) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::FAILURE;
    };
    let arguments = match instead {
        Some(instead) => instead.into_iter().map(OsString::from).collect(),
        None => arguments.to_vec(),
    };
    let started = Instant::now();
    let child =
        Command::new(program).args(arguments).env_remove(SESSION).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) => {
            eprintln!("twofold: cannot run {}: {error}", program.display());
            return ExitCode::FAILURE;
        }
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let stderr = thread::spawn(move || stderr.map(|stderr| tee(stderr, io::stderr())).unwrap_or_default());
    let stdout = stdout.map(|stdout| tee(stdout, io::stdout())).unwrap_or_default();
    let stderr = stderr.join().unwrap_or_default();
    let status = match child.wait() {
        Ok(status) => status,
        Err(error) => {
            eprintln!("twofold: {}: {error}", program.display());
            return ExitCode::FAILURE;
        }
    };
    let done = Done { exit_code: status.code(), took: started.elapsed() };
    let told = write_message(&mut session, &Request::Done(done))
        .and_then(|()| write_frame(&mut session, &stdout))
        .and_then(|()| write_frame(&mut session, &stderr))
        .and_then(|()| read_message::<Answer>(&mut session));
    drop(told); // The result stands whether it is on record or not.
    exit_code(status)
}

/// Passes on what comes, and keeps it.
fn tee(mut from: impl Read, mut to: impl Write) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0; 16 * 1024];
    while let Ok(n @ 1..) = from.read(&mut piece) {
        let piece = &piece[..n];
        kept.extend_from_slice(piece);
        // cargo acts on what it reads while the compiler still runs.
        let _: io::Result<()> = to.write_all(piece).and_then(|()| to.flush());
    }
    kept
}

/// The exit code of a process; for one that a signal ended, what a shell says.
pub(crate) fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
