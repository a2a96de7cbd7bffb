use std::collections::HashSet;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use cache_types::{Digest, InstanceName};
use store::StoreError;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::send::{Sender, is_away, is_passing};
use crate::action_cache::ActionName;
use crate::client::Link;

/// What is sent together, so that the far server is asked once what it lacks.
const BATCH: usize = 256;

/// How long a writer waits for room in a full queue while the far server takes in.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two tries at what the far server could not take.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
const MAX_PAUSE: Duration = Duration::from_secs(30);

/// How often a far server that answers may have no room for a batch before what is left of it is dropped.
const MAX_REFUSED: u32 = 6;

/// Something near that the far server is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Blob(Digest),
    Action(ActionName),
}

impl std::fmt::Display for Entry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Blob(digest) => digest.fmt(f),
            Self::Action(name) => write!(f, "the result of {}", name.hash),
        }
    }
}

impl Entry {
    /// A line of the file of what is unsent; `None` for a result whose action has no size, which cannot be sent.
    fn to_line(&self) -> Option<String> {
        match self {
            Self::Blob(digest) => Some(format!("blob {}", written(digest))),
            Self::Action(name) => {
                let action = Digest::new(name.hash, name.size_bytes?).ok()?;
                Some(format!("action {} {}", written(&action), name.instance))
            }
        }
    }

    fn parse(line: &str) -> Option<Self> {
        let (kind, rest) = line.split_once(' ')?;
        match kind {
            "blob" => rest.parse().ok().map(Self::Blob),
            "action" => {
                let (action, instance) = rest.split_once(' ')?;
                let action: Digest = action.parse().ok()?;
                Some(Self::Action(ActionName::of(InstanceName::parse(instance).ok()?, &action)))
            }
            _ => None,
        }
    }
}

/// A digest with its function, whichever it is.
fn written(digest: &Digest) -> String {
    format!("{}/{}/{}", digest.function().name(), digest.hash(), digest.size_bytes())
}

/// What waits to be sent: bounded, in order, in memory, and in a file between two runs.
///
/// A writer that finds it full waits a while when the far server is up; when it is not, or the wait was in vain, its entry is
/// dropped. That costs the far server a blob, which an action result that names it brings along later, or an action result.
pub(super) struct Queue {
    sender: Arc<Sender>,
    entries: Mutex<Option<mpsc::Sender<Entry>>>,
    stop: watch::Sender<bool>,
    work: Mutex<Option<JoinHandle<Vec<Entry>>>>,
    file: PathBuf,
}

impl Queue {
    /// A queue that starts with what `file` holds.
    pub(super) fn start(sender: Arc<Sender>, bound: usize, file: PathBuf) -> Arc<Self> {
        let (entries, waiting) = mpsc::channel(bound.max(1));
        let stop = watch::Sender::new(false);
        let left = read_left(&file);
        let work = tokio::spawn(Work { sender: sender.clone(), waiting, stop: stop.subscribe() }.run(left));
        let entries = Mutex::new(Some(entries));
        Arc::new(Self { sender, entries, stop, work: Mutex::new(Some(work)), file })
    }

    /// Has `entry` sent later.
    pub(super) async fn push(&self, entry: Entry) {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let Some(entries) = entries else {
            return self.drop_one();
        };
        match entries.try_send(entry) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(entry)) if self.sender.far().link() == Link::Up => {
                if entries.send_timeout(entry, PATIENCE).await.is_err() {
                    self.drop_one();
                }
            }
            Err(_) => self.drop_one(),
        }
    }

    fn drop_one(&self) {
        if self.sender.counts().drop_one() {
            tracing::warn!("the queue for the far server is full; what is written now stays near, and is counted");
        }
    }

    pub(super) fn len(&self) -> usize {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.as_ref().map_or(0, |entries| entries.max_capacity() - entries.capacity())
    }

    /// Takes nothing more, sends what waits for no longer than `limit`, and writes down what is left.
    pub(super) async fn drain(&self, limit: Duration) {
        drop(self.entries.lock().unwrap_or_else(PoisonError::into_inner).take());
        let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).take();
        let Some(mut work) = work else {
            return;
        };
        let down = self.sender.far().link() == Link::Down;
        let limit = if down { Duration::ZERO } else { limit };
        let left = match tokio::time::timeout(limit, &mut work).await {
            Ok(left) => left,
            Err(_elapsed) => {
                self.stop.send_replace(true);
                work.await
            }
        };
        match left {
            Ok(left) => self.write_left(&left),
            Err(error) => tracing::error!(%error, "the queue for the far server broke"),
        }
    }

    fn write_left(&self, left: &[Entry]) {
        if left.is_empty() {
            return;
        }
        let lines: String = left.iter().filter_map(Entry::to_line).map(|line| line + "\n").collect();
        match std::fs::write(&self.file, lines) {
            Ok(()) => {
                tracing::warn!(entries = left.len(), "not all was sent to the far server; the next start goes on")
            }
            Err(error) => {
                tracing::error!(entries = left.len(), %error, "what was not sent to the far server is lost to it")
            }
        }
    }
}

impl Drop for Queue {
    fn drop(&mut self) {
        if let Some(work) = self.work.get_mut().unwrap_or_else(PoisonError::into_inner).take() {
            work.abort();
        }
    }
}

/// What the last run left, which is this run's now.
fn read_left(file: &PathBuf) -> Vec<Entry> {
    let text = match std::fs::read_to_string(file) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "what was not sent to the far server cannot be read");
            return Vec::new();
        }
    };
    if let Err(error) = std::fs::remove_file(file) {
        tracing::warn!(file = %file.display(), %error, "the list of what was not sent stays behind");
    }
    text.lines().filter_map(Entry::parse).collect()
}

/// The sending side of the queue.
struct Work {
    sender: Arc<Sender>,
    waiting: mpsc::Receiver<Entry>,
    stop: watch::Receiver<bool>,
}

impl Work {
    /// Sends until no more can come, or it is told to stop; what is left then.
    async fn run(mut self, mut batch: Vec<Entry>) -> Vec<Entry> {
        loop {
            if batch.is_empty() && self.waiting.recv_many(&mut batch, BATCH).await == 0 {
                return batch;
            }
            let sent = tokio::select! {
                () = send(&self.sender, &mut batch) => true,
                // An error means that the queue is gone, and with it whoever could stop this.
                Ok(_) = self.stop.wait_for(|stop| *stop) => false,
            };
            if !sent {
                while let Ok(entry) = self.waiting.try_recv() {
                    batch.push(entry);
                }
                return batch;
            }
        }
    }
}

/// Sends a batch until nothing of it is left that another try could help. Entries leave the batch when they are done, so it
/// is right at any time.
async fn send(sender: &Sender, batch: &mut Vec<Entry>) {
    let mut pause = FIRST_PAUSE;
    let mut refused = 0;
    while !batch.is_empty() {
        sender.far().until_up().await;
        if try_send(sender, batch).await.is_ok() {
            refused += 1;
        }
        if refused == MAX_REFUSED {
            batch.drain(..).for_each(|entry| sender.give_up(&entry, &no_room()));
        }
        if !batch.is_empty() {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

fn no_room() -> StoreError {
    StoreError::Full { needed_bytes: 0, reason: "the far server has none".to_owned() }
}

/// The far server went away in the middle.
struct Away;

/// One try, blobs before action results. What the far server had no room for stays in the batch.
async fn try_send(sender: &Sender, batch: &mut Vec<Entry>) -> Result<(), Away> {
    let blob = |entry: &Entry| if let Entry::Blob(digest) = entry { Some(*digest) } else { None };
    let blobs: HashSet<Digest> = batch.iter().filter_map(blob).collect();
    let again = match sender.send_batch(&blobs).await {
        Ok(again) => again.into_iter().collect(),
        Err(error) if is_away(&error) => return Err(Away),
        Err(error) => {
            blobs.iter().for_each(|digest| sender.give_up(digest, &error));
            HashSet::new()
        }
    };
    batch.retain(|entry| blob(entry).is_none_or(|digest| again.contains(&digest)));
    let actions: Vec<Entry> = batch.iter().filter(|entry| matches!(entry, Entry::Action(_))).cloned().collect();
    for entry in actions {
        let Entry::Action(name) = &entry else { continue };
        match sender.send_action(name).await {
            Ok(()) => {}
            Err(error) if is_away(&error) => return Err(Away),
            Err(error) if is_passing(&error) => continue,
            Err(error) => sender.give_up(&name.hash, &error),
        }
        batch.retain(|other| *other != entry);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn what_is_unsent_reads_back_from_its_line() {
        for function in DigestFunction::ALL {
            let digest = Digest::of(function, b"text");
            let mut entries = vec![Entry::Blob(digest)];
            for instance in ["", "team/a", "with space"] {
                let instance = InstanceName::parse(instance).expect("a name");
                entries.push(Entry::Action(ActionName::of(instance, &digest)));
            }
            for entry in entries {
                let line = entry.to_line().expect("a line");
                assert_eq!(Entry::parse(&line), Some(entry), "{line}");
            }
        }
        for line in ["", "blob", "blob x", "action sha256/ab/1 ", "other x y"] {
            assert_eq!(Entry::parse(line), None, "{line}");
        }
    }
}
