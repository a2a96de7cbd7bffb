use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::runtime::{Handle, RuntimeFlavor};

use super::Client;

/// How long the server may take to say where it listens, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);

/// One run of `twofold serve` and the folder that it keeps its data in. Killed when dropped.
///
/// The folder outlives `kill` and `terminate`, so that `restart` finds what the run before it left.
pub struct Server {
    child: Child,
    listener: Listener,
    folder: PathBuf,
    args: Vec<String>,
    log: PathBuf,
    // Last: the folders go after the process.
    _owned: TempDir,
}

/// Where a server listens, as its `listening on` line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Listener {
    /// `127.0.0.1:41234`
    Tcp(String),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl Server {
    /// Starts a server on a new folder and a free port. `args` follow those that say so.
    pub fn start(args: &[&str]) -> Self {
        let owned = TempDir::new().expect("a temporary folder");
        let folder = owned.path().join("data");
        Self::launch(owned, folder, "127.0.0.1:0", args)
    }

    /// As [`Server::start`], with the data in a folder of the caller's own, such as one on another file system.
    pub fn start_in(folder: &Path, args: &[&str]) -> Self {
        let owned = TempDir::new().expect("a temporary folder");
        Self::launch(owned, folder.to_owned(), "127.0.0.1:0", args)
    }

    /// As [`Server::start`], listening on a Unix socket.
    pub fn start_unix(args: &[&str]) -> Self {
        let owned = TempDir::new().expect("a temporary folder");
        let folder = owned.path().join("data");
        let listen = format!("unix:{}", owned.path().join("socket").display());
        Self::launch(owned, folder, &listen, args)
    }

    fn launch(owned: TempDir, folder: PathBuf, listen: &str, args: &[&str]) -> Self {
        let log = owned.path().join("log");
        let args: Vec<String> = ["--listen", listen].iter().chain(args).map(|arg| (*arg).to_owned()).collect();
        let (child, listener) = spawn(&folder, &args, &log);
        Self { child, listener, folder, args, log, _owned: owned }
    }

    /// Starts again on the same data with the same arguments; a port that was picked is picked anew.
    ///
    /// The run before must have ended, by [`Server::kill`] or [`Server::terminate`].
    pub fn restart(&mut self) {
        assert!(self.has_ended(), "the server still runs");
        (self.child, self.listener) = spawn(&self.folder, &self.args, &self.log);
    }

    /// SIGKILL: the process is gone when this returns.
    pub fn kill(&mut self) {
        self.child.kill().expect("a signal to the server");
        self.child.wait().expect("the server's end");
    }

    /// SIGTERM: the server finishes what it has begun and ends; its exit status.
    pub fn terminate(&mut self) -> ExitStatus {
        self.ask_to_stop();
        self.wait_for_end()
    }

    /// Sends SIGTERM and does not wait.
    pub fn ask_to_stop(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("the child's process id");
        kill_process(pid, Signal::TERM).expect("a signal to the server");
    }

    /// Sends SIGHUP.
    pub fn hang_up(&self) {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).expect("the child's process id");
        kill_process(pid, Signal::HUP).expect("a signal to the server");
    }

    /// Waits until the log holds this text so many times.
    pub fn wait_for_log(&self, text: &str, times: usize) {
        aside(|| {
            let deadline = Instant::now() + PATIENCE;
            while self.log().matches(text).count() < times {
                assert!(Instant::now() < deadline, "{text:?} is not in the log:\n{}", self.log());
                std::thread::sleep(Duration::from_millis(10));
            }
        });
    }

    /// Waits for the end that something else brought about; the exit status.
    pub fn wait_for_end(&mut self) -> ExitStatus {
        aside(|| self.poll_end())
    }

    fn poll_end(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the server's state") {
                return status;
            }
            assert!(Instant::now() < deadline, "the server did not stop:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Whether the process has ended by itself or by a signal.
    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the server's state").is_some()
    }

    /// `host:port`. Not for a server on a Unix socket.
    pub fn address(&self) -> &str {
        match &self.listener {
            Listener::Tcp(address) => address,
            Listener::Unix(path) => panic!("the server listens on {}", path.display()),
        }
    }

    /// Where it listens.
    pub fn listener(&self) -> &Listener {
        &self.listener
    }

    /// `grpc://host:port`, as Bazel and moon want it.
    pub fn url(&self) -> String {
        format!("grpc://{}", self.address())
    }

    /// A client with a connection of its own, instance name empty, SHA-256.
    pub fn client(&self) -> Client {
        Client::connect(&self.listener)
    }

    /// The folder with the server's data.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory in bytes, now.
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid())
    }

    /// The most resident memory there ever was in this run, in bytes.
    pub fn peak_resident_bytes(&self) -> u64 {
        status_kib(self.pid(), "VmHWM:") * 1024
    }

    /// What this run and those before it wrote to standard error.
    pub fn log(&self) -> String {
        let bytes = std::fs::read(&self.log).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<&str> = log.lines().collect();
            let from = lines.len().saturating_sub(40);
            eprintln!("the end of the server's log:\n{}", lines[from..].join("\n"));
        }
        // An error means that it has ended already.
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// Resident memory of a process in bytes, now.
pub fn resident_bytes(pid: u32) -> u64 {
    status_kib(pid, "VmRSS:") * 1024
}

fn status_kib(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the process's status");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).expect("a field that Linux always has");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// Runs what blocks so that the tasks of a runtime around it go on: a client that does not answer holds up a drain.
fn aside<T>(blocking: impl FnOnce() -> T) -> T {
    match Handle::try_current().map(|runtime| runtime.runtime_flavor()) {
        Ok(RuntimeFlavor::MultiThread) => tokio::task::block_in_place(blocking),
        _ => blocking(),
    }
}

/// Starts the program and waits for the line that says where it listens.
fn spawn(folder: &Path, args: &[String], log: &Path) -> (Child, Listener) {
    aside(|| start_program(folder, args, log))
}

fn start_program(folder: &Path, args: &[String], log: &Path) -> (Child, Listener) {
    let stderr = File::options().create(true).append(true).open(log).expect("the log file");
    let mut child = Command::new(env!("CARGO_BIN_EXE_twofold"))
        .arg("serve")
        .arg("--data")
        .arg(folder)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(stderr)
        .spawn()
        .expect("the built program");
    let stdout = child.stdout.take().expect("piped above");
    let (tell, told) = mpsc::channel();
    // Ends with the child's standard output.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(at) = line.strip_prefix("listening on ") {
                tell.send(at.to_owned()).ok();
            }
        }
    });
    match told.recv_timeout(PATIENCE) {
        Ok(at) => (child, Listener::parse(&at)),
        Err(_) => {
            child.kill().ok();
            let status = child.wait();
            let log = std::fs::read_to_string(log).unwrap_or_default();
            panic!("the server did not say where it listens ({status:?}):\n{log}");
        }
    }
}

impl Listener {
    fn parse(text: &str) -> Self {
        match text.strip_prefix("unix:") {
            Some(path) => Self::Unix(path.into()),
            None => Self::Tcp(text.to_owned()),
        }
    }
}
