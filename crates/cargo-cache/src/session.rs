use std::collections::{BTreeMap, HashMap};
use std::io;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use bytes::Bytes;
use cache_types::Digest;
use parking_lot::Mutex;
use reapi::action::{Action, InputFile, Outcome};
use reapi::client::RemoteStore;
use store::{BlobStore, StoreError};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::file_digests::FileDigests;
use crate::links::Links;
use crate::manifest::{Manifest, Run};
use crate::outputs::Made;
use crate::path_map::PathMap;
use crate::reason::Reason;
use crate::seen::Seen;
use crate::stats::Counters;
use crate::toolchain::Toolchains;
use crate::wire::{Answer, Call, Done, Request, Tool, read_frame, read_message, write_frame, write_message};
use crate::workspace::Workspace;
use crate::{dep_info, doc_test, rustc, snapshot, test_run};

/// Results on their way to the cache at once.
const MAX_SENDING: usize = 4;

/// What one `twofold cargo` command knows and shares between the calls that cargo makes.
pub(crate) struct Session {
    pub(crate) workspace: Workspace,
    pub(crate) map: PathMap,
    pub(crate) server: RemoteStore,
    /// The address of the server, for stand-ins.
    pub(crate) address: String,
    /// The folder with the names of our program.
    pub(crate) programs: PathBuf,
    pub(crate) settings: Settings,
    pub(crate) digests: FileDigests,
    pub(crate) links: Links,
    pub(crate) seen: Seen,
    pub(crate) toolchains: Toolchains,
    pub(crate) counters: Counters,
    pub(crate) handle: Handle,
    /// Test executables with their digests, and whether they hold a folder of this machine.
    test_executables: Mutex<HashMap<PathBuf, (Digest, bool)>>,
    /// The folders whose files a snapshot has in its key, or cargo does not look at.
    covered: Vec<PathBuf>,
    sending: Arc<Semaphore>,
    sent: Mutex<JoinSet<Result<u64, StoreError>>>,
    server_gone: AtomicBool,
}

/// What a user chose for one command.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings {
    /// Whether results of tests are replayed and recorded.
    pub(crate) test_cache: bool,
    /// Whether every executable is put in place, also where its test result is known.
    pub(crate) materialize_all: bool,
    /// The share of hits that run all the same, in hundredths.
    pub(crate) verify_percent: u8,
}

/// What a call is answered with.
pub(crate) enum Looked {
    /// All is in place.
    Hit { outcome: Outcome, note: Option<String>, bytes_restored: u64 },
    /// It runs, and what it gives goes on record.
    Miss {
        reason: Reason,
        /// The arguments to run with, where they are not those of the call.
        arguments: Option<Vec<String>>,
        pending: Pending,
    },
}

/// What is known of a run before it happens.
pub(crate) enum Pending {
    Rustc(Box<rustc::Pending>),
    Test(Box<test_run::Pending>),
}

impl Session {
    pub(crate) fn new(
        workspace: Workspace,
        map: PathMap,
        (server, address): (RemoteStore, String),
        programs: PathBuf,
        settings: Settings,
        digests: FileDigests,
    ) -> Self {
        let links = Links::load(&links_file(&workspace.target));
        Self {
            workspace,
            map,
            server,
            address,
            programs,
            settings,
            digests,
            links,
            seen: Seen::default(),
            toolchains: Toolchains::default(),
            counters: Counters::default(),
            handle: Handle::current(),
            test_executables: Mutex::default(),
            covered: Vec::new(),
            sending: Arc::new(Semaphore::new(MAX_SENDING)),
            sent: Mutex::default(),
            server_gone: AtomicBool::new(false),
        }
    }

    /// Answers wrappers until the process ends; each on a thread of its own, since they wait on files and on tools.
    pub(crate) fn listen(self: &Arc<Self>, listener: UnixListener) {
        let session = self.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let session = session.clone();
                std::thread::spawn(move || {
                    if let Err(error) = session.answer(stream) {
                        tracing::debug!(%error, "a wrapper went away");
                    }
                });
            }
        });
    }

    fn answer(self: Arc<Self>, mut stream: UnixStream) -> io::Result<()> {
        let Request::Call(call) = read_message(&mut stream)? else {
            return Ok(());
        };
        let tool = call.tool;
        if tool == Tool::Rustc {
            // cargo still builds, and runs build scripts by itself.
            self.seen.moved();
        }
        let found = if self.server_gone.load(Ordering::Relaxed) { Err(Reason::NoServer) } else { self.look_up(&call) };
        match found {
            Ok(Looked::Hit { outcome, note, bytes_restored }) => {
                self.counters.hit(tool, outcome.ran.map(|(_, took)| took), bytes_restored);
                write_message(&mut stream, &Answer::Replay { exit_code: outcome.exit_code, note })?;
                write_frame(&mut stream, &outcome.stdout)?;
                write_frame(&mut stream, &outcome.stderr)
            }
            Ok(Looked::Miss { reason, arguments, pending }) => {
                tracing::debug!(?tool, %reason, command = ?call.command, "miss");
                let running = self.seen.runs();
                write_message(&mut stream, &Answer::Run { arguments })?;
                let ended = read_message(&mut stream);
                // What fails is never on record, so the cache missed nothing.
                match &ended {
                    Ok(Request::Done(done)) if tool == Tool::Rustc && done.exit_code != Some(0) => {
                        self.counters.not_cached(tool, &Reason::Refused);
                    }
                    _ => self.counters.miss(tool, &reason),
                }
                let Request::Done(done) = ended? else {
                    return Ok(());
                };
                running.ended();
                let (stdout, stderr) = (read_frame(&mut stream)?, read_frame(&mut stream)?);
                self.keep(tool, pending, done, stdout.into(), stderr.into());
                write_message(&mut stream, &Answer::Kept)
            }
            Err(reason) => {
                self.counters.not_cached(tool, &reason);
                tracing::debug!(?tool, %reason, command = ?call.command, "not cached");
                if tool != Tool::Rustc {
                    self.seen.runs_unwatched();
                }
                write_message(&mut stream, &Answer::Pass)
            }
        }
    }

    fn look_up(&self, call: &Call) -> Result<Looked, Reason> {
        match call.tool {
            Tool::Rustc => rustc::look_up(self, call),
            Tool::Rustdoc => doc_test::look_up(self, call),
            Tool::Runner => test_run::look_up(self, call),
        }
    }

    fn keep(&self, tool: Tool, pending: Pending, done: Done, stdout: Bytes, stderr: Bytes) {
        if done.exit_code != Some(0) {
            if let Pending::Test(pending) = &pending {
                test_run::failed(self, tool, pending);
            }
            return;
        }
        let ran = SystemTime::now().checked_sub(done.took).map(|start| (start, done.took));
        let outcome = Outcome { stdout, stderr, ran, ..Outcome::default() };
        match pending {
            Pending::Rustc(pending) => rustc::keep(self, tool, *pending, outcome),
            Pending::Test(pending) => test_run::keep(self, tool, *pending, outcome),
        }
    }

    /// Waits for an answer of the cache. A cache that fails is not asked again by this command.
    pub(crate) fn ask<T>(&self, question: impl Future<Output = Result<T, StoreError>>) -> Result<T, Reason> {
        self.handle.block_on(question).map_err(|error| {
            self.lost(&error);
            Reason::NoServer
        })
    }

    /// Says once that the cache is gone.
    fn lost(&self, error: &(dyn std::error::Error + 'static)) {
        if !self.server_gone.swap(true, Ordering::Relaxed) {
            let causes: Vec<String> =
                std::iter::successors(Some(error), |error| error.source()).map(ToString::to_string).collect();
            eprintln!("twofold: the cache at {} failed, going on without it: {}", self.address, causes.join(": "));
        }
    }

    /// Sends a result to the cache in the background: blobs first, then the action, then the manifest that leads to it.
    pub(crate) fn send(&self, tool: Tool, record: Record) {
        let (server, room) = (self.server.clone(), self.sending.clone());
        let bytes: u64 = record.made.iter().map(|made| made.digest.size_bytes()).sum();
        self.counters.count(tool, |counts| counts.bytes_recorded += bytes);
        let sending = async move {
            let Ok(_place) = room.acquire().await else {
                return Ok(0);
            };
            record.send(&server).await?;
            Ok(bytes)
        };
        self.sent.lock().spawn_on(sending, &self.handle);
    }

    fn send_uncounted(&self, record: Record) {
        let server = self.server.clone();
        self.sent.lock().spawn_on(async move { record.send(&server).await.map(|()| 0) }, &self.handle);
    }

    /// Puts the target folder on record under an action, where the sources are still those that the action names.
    pub(crate) fn leave(&self, action: Action, sources: &BTreeMap<String, InputFile>) {
        if self.server_gone.load(Ordering::Relaxed) {
            return;
        }
        let now = snapshot::sources(&self.workspace, &self.map, &self.digests);
        if now.as_ref() != Some(sources) {
            return;
        }
        if let Some(record) = snapshot::record(self, action) {
            self.send_uncounted(record);
        }
    }

    /// How many results are still on their way.
    pub(crate) fn results_on_their_way(&self) -> usize {
        let mut sent = self.sent.lock();
        while let Some(ended) = sent.try_join_next() {
            if let Ok(Err(error)) = ended {
                self.lost(&error);
            }
        }
        sent.len()
    }

    /// Keeps what the next command needs to know of this target folder.
    pub(crate) fn save(&self) {
        if !self.workspace.target.is_dir() {
            return;
        }
        if let Err(error) = self.links.save(&links_file(&self.workspace.target)) {
            tracing::warn!(%error, "what was compiled could not be noted in the target folder");
        }
    }

    /// Notes a test executable, and whether it holds a folder of this machine.
    pub(crate) fn note_test_executable(&self, path: PathBuf, digest: Digest, holds_a_folder: bool) {
        self.test_executables.lock().insert(path, (digest, holds_a_folder));
    }

    /// What is known of a test executable that this command made or put back.
    pub(crate) fn test_executable(&self, path: &Path) -> Option<(Digest, bool)> {
        self.test_executables.lock().get(path).copied()
    }

    /// The folders whose files need no look by a snapshot.
    pub(crate) fn cover(mut self, folders: impl IntoIterator<Item = PathBuf>) -> Self {
        self.covered = folders.into_iter().filter_map(|folder| folder.canonicalize().ok()).collect();
        self
    }

    /// Whether a file, links followed, needs no look by a snapshot.
    pub(crate) fn covered(&self, path: &Path) -> bool {
        let hidden = path.components().any(|part| part.as_os_str() == ".git");
        let built = self.workspace.target.canonicalize().is_ok_and(|target| path.starts_with(target));
        built || !hidden && self.covered.iter().any(|folder| path.starts_with(folder))
    }

    /// A result whose output tells of this machine's folders.
    pub(crate) fn with_real_paths(&self, mut outcome: Outcome) -> Outcome {
        for output in [&mut outcome.stdout, &mut outcome.stderr] {
            if let Ok(text) = std::str::from_utf8(output) {
                *output = Bytes::from(self.map.to_real(text));
            }
        }
        outcome
    }

    /// A result whose output has names in place of this machine's folders; `None` where that would not read back.
    pub(crate) fn with_names(&self, mut outcome: Outcome) -> Option<Outcome> {
        for output in [&mut outcome.stdout, &mut outcome.stderr] {
            match std::str::from_utf8(output) {
                Ok(text) => *output = dep_info::to_names(text, &self.map)?.into(),
                Err(_) if self.map.embedded_in(output).next().is_some() => return None,
                Err(_) => {}
            }
        }
        Some(outcome)
    }

    /// Whether a hit with this action runs all the same.
    pub(crate) fn verifies(&self, action: &Digest) -> bool {
        let first = action.hash().as_bytes().first().copied().unwrap_or_default();
        let second = action.hash().as_bytes().get(1).copied().unwrap_or_default();
        u16::from_be_bytes([first, second]) % 100 < u16::from(self.settings.verify_percent)
    }
}

fn links_file(target: &Path) -> PathBuf {
    target.join(".twofold/links.json")
}

/// A result to put on record.
pub(crate) struct Record {
    pub(crate) action: Action,
    pub(crate) outcome: Outcome,
    pub(crate) made: Vec<Made>,
    /// The manifest that leads to it.
    pub(crate) manifest: Option<(String, Run)>,
}

impl Record {
    async fn send(mut self, server: &RemoteStore) -> Result<(), StoreError> {
        let mut digests: Vec<Digest> = self.made.iter().map(|made| made.digest).collect();
        digests.extend(self.action.blobs.iter().map(|(digest, _)| *digest));
        let missing = server.find_missing(&digests).await?;
        for made in self.made.iter().filter(|made| missing.contains(&made.digest)) {
            made.send(server).await?;
        }
        for (digest, bytes) in &self.action.blobs {
            if missing.contains(digest) {
                server.write(*digest, bytes.clone().into()).await?;
            }
        }
        self.outcome.files.extend(self.made.iter().map(Made::as_output));
        server.put_outcome(&self.action.digest, &self.outcome).await?;
        match self.manifest {
            Some((key, run)) => Manifest::add(server, &key, run).await,
            None => Ok(()),
        }
    }
}
