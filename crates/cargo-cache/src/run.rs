use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::net::UnixListener;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use reapi::action::{Action, InputFile};

use crate::file_digests::FileDigests;
use crate::key::KeyHasher;
use crate::local_server;
use crate::path_map::PathMap;
use crate::session::{Session, Settings};
use crate::standin;
use crate::stats::Stats;
use crate::toolchain::Toolchains;
use crate::workspace::{Workspace, WorkspaceError};
use crate::wrapper::SESSION;
use crate::{put_back, snapshot, test_run};

/// What `twofold cargo` was told.
#[derive(Clone, Debug)]
pub struct Options {
    /// The arguments of cargo.
    pub arguments: Vec<OsString>,
    /// The cache: `grpc://HOST:PORT` or `unix:PATH`; `None` is this user's own, started when it does not run.
    pub server: Option<String>,
    /// After how long without a command a server ends that this one starts.
    pub idle_exit: Duration,
    /// Whether test results are replayed and recorded.
    pub test_cache: bool,
    /// Whether all executables are put in place, also where their result is known.
    pub materialize_all: bool,
    /// Whether the target folder of an earlier run is put back as a whole, and recorded.
    pub snapshots: bool,
    /// The share of hits that run all the same, to compare, in hundredths.
    pub verify_percent: u8,
}

/// How a command ended.
#[derive(Clone, Debug)]
pub struct Ended {
    /// cargo's own status.
    pub exit_code: u8,
    /// What was counted; `None` when there was no cache.
    pub stats: Option<Stats>,
}

/// Why cargo was not run.
#[derive(Debug, thiserror::Error)]
pub enum CargoError {
    /// There is no workspace here, or cargo cannot tell of it.
    #[error("the workspace cannot be found")]
    Workspace(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// An argument that is not UTF-8.
    #[error("{} is not UTF-8", .0.display())]
    Argument(OsString),
    /// cargo itself does not start.
    #[error("cannot run {cargo}")]
    Cargo {
        /// The program.
        cargo: String,
        /// The cause.
        source: std::io::Error,
    },
    /// The session cannot be set up.
    #[error("cannot prepare the command")]
    Prepare(#[source] std::io::Error),
}

/// Runs cargo with our tools in place of rustc, rustdoc and the runner of tests. Without a cache it says so and runs cargo
/// as it is.
///
/// # Errors
/// [`CargoError`] when cargo cannot be run at all.
pub async fn run(options: Options) -> Result<Ended, CargoError> {
    let arguments = options.arguments.iter().map(|argument| argument.to_str().map(str::to_owned));
    let arguments: Option<Vec<String>> = arguments.collect();
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let Some(arguments) = arguments else {
        let other = options.arguments.iter().find(|argument| argument.to_str().is_none());
        return Err(CargoError::Argument(other.cloned().unwrap_or_default()));
    };
    let workspace =
        Workspace::find(&cargo, &arguments).map_err(|error: WorkspaceError| CargoError::Workspace(Box::new(error)))?;
    let mut command = tokio::process::Command::new(&cargo);
    command.args(&arguments);
    let session = match prepare(&options, &arguments, workspace).await {
        Ok(session) => Some(session),
        Err(error) => {
            let causes: Vec<String> =
                std::iter::successors(Some(&*error as &dyn std::error::Error), |error| error.source())
                    .map(ToString::to_string)
                    .collect();
            eprintln!("twofold: no cache, going on without one: {}", causes.join(": "));
            None
        }
    };
    if let Some(prepared) = &session {
        prepared.equip(&mut command);
    }
    let status = wait(command, &cargo).await?;
    let stats = match session {
        Some(prepared) => Some(prepared.finish(status.success()).await),
        None => None,
    };
    Ok(Ended { exit_code: code(status), stats })
}

/// Waits for cargo. An interrupt reaches it by itself; we stay to keep what is done.
async fn wait(mut command: tokio::process::Command, cargo: &str) -> Result<ExitStatus, CargoError> {
    let failed = |source| CargoError::Cargo { cargo: cargo.to_owned(), source };
    let mut child = command.spawn().map_err(failed)?;
    loop {
        tokio::select! {
            status = child.wait() => return status.map_err(failed),
            _interrupt = tokio::signal::ctrl_c() => {}
        }
    }
}

fn code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}

/// A session that listens, and what cargo needs to find it.
struct Prepared {
    session: Arc<Session>,
    folder: tempfile::TempDir,
    programs: PathBuf,
    host: String,
    snapshot: Option<Snapshotting>,
    snapshot_files: u64,
}

/// A snapshot that this command can leave, since it began without a target folder.
struct Snapshotting {
    action: Action,
    sources: BTreeMap<String, InputFile>,
}

type Anything = Box<dyn std::error::Error + Send + Sync>;

async fn prepare(options: &Options, arguments: &[String], workspace: Workspace) -> Result<Prepared, Anything> {
    let server = match &options.server {
        Some(address) => (local_server::at(address).await?, address.clone()),
        None => local_server::own(options.idle_exit).await?,
    };
    let environment: BTreeMap<String, String> = std::env::vars().collect();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let version = crate::toolchain::ask(&rustc, &["-vV"], &environment).map_err(|reason| reason.to_string())?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not say its host")?;
    let sysroot =
        crate::toolchain::ask(&rustc, &["--print", "sysroot"], &environment).map_err(|reason| reason.to_string())?;
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| Some(dirs::home_dir()?.join(".cargo")));
    let home = home.unwrap_or_default();
    let map = PathMap::new([
        (workspace.root.as_path(), "workspace"),
        (workspace.target.as_path(), "target"),
        (home.as_path(), "cargo"),
        (Path::new(sysroot.trim()), "rust"),
    ]);
    let programs = programs()?;
    let settings = Settings {
        test_cache: options.test_cache,
        materialize_all: options.materialize_all,
        verify_percent: options.verify_percent,
    };
    let digests = FileDigests::default();
    let mut snapshot = None;
    let mut snapshot_files = 0;
    if options.snapshots && options.verify_percent == 0 && !options.materialize_all && !workspace.target.exists() {
        snapshot = snapshotting(&workspace, &map, &digests, (&rustc, arguments, &environment));
        if let Some(wanted) = &snapshot {
            let place = (server.1.as_str(), programs.as_path());
            let action = &wanted.action.digest;
            let restored = put_back::restore(&server.0, action, &map, &workspace.target, place, &digests).await;
            if let Some(restored) = restored {
                snapshot = None;
                snapshot_files = restored.files;
                for (path, digest) in restored.digests {
                    digests.note(&path, digest)?;
                }
            }
        }
    }
    let covered = [workspace.root.clone(), home.join("registry"), home.join("git"), PathBuf::from(sysroot.trim())];
    let folder = tempfile::Builder::new().prefix("twofold-cargo-").tempdir()?;
    let listener = UnixListener::bind(folder.path().join("session"))?;
    let session = Session::new(workspace, map, server, programs.clone(), settings, digests).cover(covered);
    let session = Arc::new(session);
    session.listen(listener);
    Ok(Prepared { session, folder, programs, host: host.to_owned(), snapshot, snapshot_files })
}

/// The snapshot of this command on these sources; `None` where something is not sure.
fn snapshotting(
    workspace: &Workspace,
    map: &PathMap,
    digests: &FileDigests,
    (rustc, arguments, environment): (&str, &[String], &BTreeMap<String, String>),
) -> Option<Snapshotting> {
    let sources = snapshot::sources(workspace, map, digests)?;
    let toolchains = Toolchains::default();
    let mut key = KeyHasher::new("snapshot-1");
    key.part("compiler", toolchains.compiler(rustc, environment).ok()?.as_bytes());
    key.part("linker", toolchains.linker(None, environment, digests).ok()?.as_bytes());
    // Build scripts look at the machine, and their runs are put back too.
    key.part("machine", &std::fs::read("/etc/machine-id").unwrap_or_default());
    key.part("host", &std::fs::read("/proc/sys/kernel/hostname").unwrap_or_default());
    key.part("folder", map.to_names(std::env::current_dir().ok()?.to_str()?).as_bytes());
    for argument in arguments {
        key.part("argument", map.to_names(argument).as_bytes());
    }
    for (name, value) in environment.iter().filter(|(name, _)| test_run::is_keyed(name)) {
        key.part(name, map.to_names(value).as_bytes());
    }
    Some(Snapshotting { action: snapshot::action(&key.finish(), sources.clone()), sources })
}

/// The folder in which our program has the names that cargo calls it by.
fn programs() -> Result<PathBuf, Anything> {
    let folder = dirs::cache_dir().ok_or("this user has no folder for caches")?.join("twofold/cargo/programs");
    std::fs::create_dir_all(&folder)?;
    let program = std::env::current_exe()?;
    for name in ["twofold-rustc", "twofold-rustdoc", "twofold-runner", standin::PROGRAM] {
        let link = folder.join(name);
        if std::fs::read_link(&link).is_ok_and(|target| target == program) {
            continue;
        }
        // Another command may make the same link at the same time.
        let aside = tempfile::Builder::new().prefix(".link-").tempdir_in(&folder)?;
        let new = aside.path().join(name);
        std::os::unix::fs::symlink(&program, &new)?;
        std::fs::rename(&new, &link)?;
    }
    Ok(folder)
}

impl Prepared {
    /// Puts our tools in the place of cargo's.
    fn equip(&self, command: &mut tokio::process::Command) {
        if let Some(other) = std::env::var_os("RUSTC_WRAPPER").filter(|other| !other.is_empty()) {
            eprintln!("twofold: RUSTC_WRAPPER={} is set aside for this command", other.display());
        }
        let rustdoc = std::env::var_os("RUSTDOC").unwrap_or_else(|| "rustdoc".into());
        command
            .env(SESSION, self.folder.path().join("session"))
            .env("TWOFOLD_CARGO_RUSTDOC", rustdoc)
            .env("RUSTC_WRAPPER", self.programs.join("twofold-rustc"))
            .env("RUSTDOC", self.programs.join("twofold-rustdoc"))
            .env("CARGO_INCREMENTAL", "0");
        let runner = format!("CARGO_TARGET_{}_RUNNER", self.host.to_uppercase().replace('-', "_"));
        if std::env::var_os(&runner).is_none() {
            command.env(runner, self.programs.join("twofold-runner"));
        }
    }

    /// Waits until all results are on record.
    async fn finish(self, went_well: bool) -> Stats {
        const LOOK_EVERY: Duration = Duration::from_millis(5);
        let session = self.session.clone();
        let snapshot = self.snapshot.filter(|_| went_well);
        // A panic there would only lose what the next command finds out again.
        let _: Result<(), _> = tokio::task::spawn_blocking(move || {
            session.save();
            if let Some(snapshot) = snapshot {
                session.leave(snapshot.action, &snapshot.sources);
            }
        })
        .await;
        let shown = std::io::stderr().is_terminal();
        let mut last = 0;
        loop {
            let left = self.session.results_on_their_way();
            if left == 0 {
                break;
            }
            if shown && left != last {
                eprint!("\rtwofold: {left} results on their way to the cache \x1b[K");
                last = left;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        if last > 0 {
            eprint!("\r\x1b[K");
        }
        Stats { snapshot_files: self.snapshot_files, ..self.session.counters.stats() }
    }
}
