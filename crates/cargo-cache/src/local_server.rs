//! The server of this machine: one for all commands, started when it is needed.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use reapi::client::{Address, ConnectError, RemoteStore, Settings};

/// How often a server that is just being started by somebody else is tried.
const TRIES: u32 = 50;
const BETWEEN_TRIES: Duration = Duration::from_millis(100);

/// Why there is no cache.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoServer {
    #[error("this user has no folder for caches")]
    NoFolder,
    #[error("cannot start a server")]
    Start(#[source] std::io::Error),
    #[error("the server that was started ended at once; {} says why", log.display())]
    Ended { log: PathBuf },
    #[error(transparent)]
    Connect(#[from] ConnectError),
    #[error("{0} is no address of a server")]
    Address(String),
}

/// Connects to this user's own server, which is started if it does not run, to end when nobody asked for `idle_exit`.
pub(crate) async fn own(idle_exit: Duration) -> Result<(RemoteStore, String), NoServer> {
    let folder = dirs::cache_dir().ok_or(NoServer::NoFolder)?.join("twofold/cargo");
    std::fs::create_dir_all(&folder).map_err(NoServer::Start)?;
    let address = format!("unix:{}", folder.join("socket").display());
    if let Ok(server) = at(&address).await {
        return Ok((server, address));
    }
    let started = start(&folder, &address, idle_exit)?;
    for _ in 0..TRIES {
        if let Ok(server) = at(&address).await {
            return Ok((server, address));
        }
        tokio::time::sleep(BETWEEN_TRIES).await;
    }
    match at(&address).await {
        Ok(server) => Ok((server, address)),
        Err(_) if !started => Err(NoServer::Ended { log: folder.join("log") }),
        Err(error) => Err(error),
    }
}

/// Connects to the server at `address`.
pub(crate) async fn at(address: &str) -> Result<RemoteStore, NoServer> {
    let parsed: Address = address.parse().map_err(|_| NoServer::Address(address.to_owned()))?;
    Ok(RemoteStore::connect(&parsed, Settings { attempts: 2, ..Settings::default() }).await?)
}

/// Starts a server that outlives this command and ends when nobody has asked for a while. `false` when it ended at once,
/// as it does when another command has started one meanwhile.
fn start(folder: &Path, address: &str, idle_exit: Duration) -> Result<bool, NoServer> {
    let log = File::options().create(true).append(true).open(folder.join("log")).map_err(NoServer::Start)?;
    let program = std::env::current_exe().map_err(NoServer::Start)?;
    let mut server = Command::new(program)
        .args(["serve", "--listen", address, "--durability", "process", "--log", "warn", "--data"])
        .arg(folder.join("data"))
        .args(["--idle-exit", &format!("{}s", idle_exit.as_secs().max(1))])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .process_group(0)
        .spawn()
        .map_err(NoServer::Start)?;
    let Some(stdout) = server.stdout.take() else {
        return Ok(false);
    };
    let mut line = String::new();
    let read = BufReader::new(stdout).read_line(&mut line).map_err(NoServer::Start)?;
    Ok(read > 0)
}
