use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use store::StoreError;
use tokio::sync::oneshot;
use ulid::Ulid;

use super::rebuild::Rebuilt;
use super::verify::{Fault, Unverified, verify};
use super::{Job, Work};
use crate::engine::{Engine, PackState};
use crate::failure::{Failure, LEVEL, blocking};
use crate::group::record_bytes;
use crate::index::{Totals, View};
use crate::key::Key;
use crate::op::{Change, Op, Why};
use crate::pack::read_frame;
use crate::row::{BlobRow, Life, Place, RecordRow, decode_list};

/// So many faults are described one by one.
const MAX_EXAMPLES: usize = 100;

/// Whether a check sets right what it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mending {
    /// Damage is put aside, rows without bytes are dropped, files that nothing names are removed, sums are set right.
    Mend,
    /// Nothing is changed.
    LookOnly,
}

/// What a check of the whole store read and found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Blobs that were read and are whole.
    pub blobs: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Records that were read and are whole.
    pub records: u64,
    /// Blobs whose bytes fail their checksum or are not those of the hash.
    pub damaged_blobs: u64,
    /// Blobs whose bytes are gone.
    pub lost_blobs: u64,
    /// Records that fail their checksum.
    pub damaged_records: u64,
    /// Rows of the index that are none.
    pub broken_rows: u64,
    /// Entries that eviction would not have found.
    pub unlisted: u64,
    /// Sums of the index that were wrong.
    pub wrong_sums: u64,
    /// Files that nothing names.
    pub orphan_files: u64,
    /// Parts of the index that cannot be read; only a store that no server uses can be mended there.
    pub unreadable_parts: u64,
    /// Lists whose chunks were evicted, which is no fault: they read as missing.
    pub incomplete_lists: u64,
    /// What the index was made anew from, if it had to be.
    pub rebuilt: Option<Rebuilt>,
    /// Whether it was called off before its end.
    pub called_off: bool,
    /// The first hundred faults in words.
    pub examples: Vec<String>,
}

impl Checked {
    /// How many faults were found.
    pub fn faults(&self) -> u64 {
        let rebuilt = u64::from(self.rebuilt.is_some());
        let bytes = self.damaged_blobs + self.lost_blobs + self.damaged_records + self.orphan_files;
        bytes + self.broken_rows + self.unlisted + self.wrong_sums + self.unreadable_parts + rebuilt
    }

    pub(super) fn describe(&mut self, fault: impl FnOnce() -> String) {
        if self.examples.len() < MAX_EXAMPLES {
            self.examples.push(fault());
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a check is under way already")]
struct UnderWay;

impl Engine {
    /// Reads every blob and record, and checks every stored checksum, every hash, and the index against itself.
    pub(crate) async fn check_all(self: &Arc<Self>, mending: Mending, work: Arc<Work>) -> Result<Checked, StoreError> {
        let engine = Arc::clone(self);
        blocking(move || {
            let Some(_only) = engine.checking.try_lock() else {
                return Err(StoreError::Unavailable { level: LEVEL, source: UnderWay.into() });
            };
            Ok(Check { engine: &engine, mending, work: &work, found: Checked::default(), live: HashMap::new() }
                .run()?)
        })
        .await
    }

    /// Has the committer do nothing while `work` runs.
    pub(crate) fn while_paused<T>(&self, work: impl FnOnce() -> T) -> Result<T, Failure> {
        let (tell, ready) = oneshot::channel();
        // Dropped at the end, which lets the committer go on.
        let (_resume, resumed) = oneshot::channel();
        self.queue.push(Op::Pause { ready: tell, resumed });
        ready.blocking_recv().map_err(|_dropped| Failure::Closed)?;
        Ok(work())
    }

    /// Waits until what the committer works on is done, and the touches that wait are written.
    pub(crate) fn barrier(&self) -> Result<(), Failure> {
        self.while_paused(|| ())
    }
}

/// The sums that the index keeps, as they were at the moment of the view.
struct Kept {
    totals: Totals,
    packs: HashMap<Ulid, PackState>,
}

struct Check<'a> {
    engine: &'a Arc<Engine>,
    mending: Mending,
    work: &'a Work,
    found: Checked,
    /// Bytes of each pack that rows point at.
    live: HashMap<Ulid, u64>,
}

impl Check<'_> {
    fn run(mut self) -> Result<Checked, Failure> {
        let engine = Arc::clone(self.engine);
        let (view, kept) = engine.while_paused(|| {
            let kept = Kept { totals: *engine.totals.lock(), packs: engine.packs.table.lock().clone() };
            (engine.index.view(), kept)
        })?;
        self.work.expect(kept.totals.blobs + kept.totals.records);
        let mut totals = Totals::default();
        let mut files = HashSet::new();
        let whole = self.blobs(&view, &mut totals, &mut files)?
            & self.lists(&view)?
            & self.records(&view, &mut totals)?
            & self.readable(&view)?;
        // Sums over a part of the rows say nothing.
        if whole && !self.is_over() {
            self.sums(&kept, &totals)?;
            self.files(&view, &files)?;
            self.orphans()?;
        }
        self.found.called_off = self.work.is_called_off();
        Ok(self.found)
    }

    fn is_over(&self) -> bool {
        self.work.is_called_off() || self.engine.stopping.load(Ordering::Acquire)
    }

    fn mend(&self, changes: Vec<Change>) -> Result<(), Failure> {
        if self.mending == Mending::Mend && !changes.is_empty() {
            self.engine.commit_blocking(changes)?;
        }
        Ok(())
    }

    /// Goes through a family; `false` when a part of it cannot be read, and what is behind that was not seen.
    fn each(
        &mut self,
        view: &View<'_>,
        family: &'static str,
        mut see: impl FnMut(&mut Self, &[u8], &[u8]) -> Result<(), Failure>,
    ) -> Result<bool, Failure> {
        for row in view.rows(family) {
            if self.is_over() {
                return Ok(true);
            }
            match row {
                Ok((key, value)) => see(self, &key, &value)?,
                Err(failure) if failure.is_corruption() => {
                    self.found.unreadable_parts += 1;
                    self.found.describe(|| format!("the index cannot be read in its part '{family}': {failure:?}"));
                    return Ok(false);
                }
                Err(failure) => return Err(failure),
            }
        }
        Ok(true)
    }

    fn blobs(&mut self, view: &View<'_>, totals: &mut Totals, files: &mut HashSet<Ulid>) -> Result<bool, Failure> {
        self.each(view, "blob", |this, raw, value| {
            this.work.advance(1);
            let (Some(key), Some(row)) = (Key::parse_blob(raw), BlobRow::decode(value)) else {
                return this.broken("blob", raw);
            };
            totals.blobs += 1;
            match &row.place {
                Place::Inline { bytes, .. } => totals.inline_bytes += bytes.len() as u64,
                Place::Pack(pack) => *this.live.entry(pack.segment).or_default() += record_bytes(&key, pack),
                Place::File(file) => {
                    totals.file_bytes += file.file_len;
                    files.insert(file.segment);
                }
                Place::Chunks { .. } => {}
            }
            this.listed(view, row.life, &key)?;
            this.blob(&key)
        })
    }

    /// Reads a blob as the index has it now, since it may have moved or gone after the view was taken.
    fn blob(&mut self, key: &Key) -> Result<(), Failure> {
        let mut tried = None;
        loop {
            let Some(row) = self.engine.index.blob(key)? else { return Ok(()) };
            match verify(self.engine, key, &row) {
                Ok(bytes) => {
                    self.found.blobs += 1;
                    self.found.bytes += bytes;
                    return Ok(());
                }
                Err(Unverified::Failed(failure)) => return Err(failure),
                Err(Unverified::Fault(fault)) if tried == Some((row.place.clone(), fault)) => {
                    return self.faulty(key, row, fault);
                }
                Err(Unverified::Fault(fault)) => tried = Some((row.place, fault)),
            }
        }
    }

    fn faulty(&mut self, key: &Key, row: BlobRow, fault: Fault) -> Result<(), Failure> {
        let is_list = matches!(row.place, Place::Chunks { .. });
        let why = match fault {
            Fault::Gone if is_list => {
                self.found.incomplete_lists += 1;
                return Ok(());
            }
            Fault::Gone => {
                self.found.lost_blobs += 1;
                Why::Gone
            }
            Fault::Damaged => {
                self.found.damaged_blobs += 1;
                self.put_aside(&row.place);
                Why::Damaged
            }
        };
        let name = key.blob_hash().map(|hash| format!("{hash:?}/{}", row.size_bytes)).unwrap_or_default();
        self.found.describe(|| match fault {
            Fault::Gone => format!("the bytes of blob {name} are gone"),
            Fault::Damaged => format!("blob {name} is damaged"),
        });
        self.mend(vec![Change::Drop { key: key.clone(), place: row.place, why }])
    }

    /// Keeps the damaged frame of a pack for whoever wants to look; files are put aside by the housekeeper.
    fn put_aside(&self, place: &Place) {
        let (Place::Pack(pack), Mending::Mend) = (place, self.mending) else { return };
        let space = &self.engine.space;
        let len = u64::from(pack.stored_len);
        if space.quarantine.load(Ordering::Acquire) + len > space.sizing.quarantine {
            return;
        }
        let frame = self.engine.packs.file(pack.segment).and_then(|file| read_frame(&file, pack));
        let name = self.engine.dir.quarantine().join(Ulid::generate().to_string());
        match frame.and_then(|frame| std::fs::write(name, &frame.stored)) {
            Ok(()) => {
                space.quarantine.fetch_add(len, Ordering::AcqRel);
            }
            Err(error) => tracing::debug!(%error, "a damaged blob could not be put aside"),
        }
    }

    fn broken(&mut self, family: &'static str, raw: &[u8]) -> Result<(), Failure> {
        self.found.broken_rows += 1;
        self.found.describe(|| format!("a row of the part '{family}' of the index is none"));
        self.mend(vec![Change::DropRow { family, key: raw.into() }])
    }

    /// Whether eviction will find the entry; if not, it does from now on.
    fn listed(&mut self, view: &View<'_>, life: Life, key: &Key) -> Result<(), Failure> {
        if view.is_listed(life, key)? {
            return Ok(());
        }
        self.found.unlisted += 1;
        self.found.describe(|| format!("eviction would not have found {key:?}"));
        self.mend(vec![Change::List { key: key.clone() }])
    }

    fn lists(&mut self, view: &View<'_>) -> Result<bool, Failure> {
        self.each(view, "list", |this, raw, value| {
            let key = Key::parse_blob(raw).filter(|_| decode_list(value).is_some());
            let row = key.map(|key| view.blob(&key)).transpose()?.flatten();
            match row {
                Some(BlobRow { place: Place::Chunks { .. }, .. }) => Ok(()),
                _ => this.broken("list", raw),
            }
        })
    }

    fn records(&mut self, view: &View<'_>, totals: &mut Totals) -> Result<bool, Failure> {
        self.each(view, "record", |this, raw, value| {
            this.work.advance(1);
            let Some(row) = RecordRow::decode(value) else {
                return this.broken("record", raw);
            };
            totals.records += 1;
            let key = Key::of_record(raw);
            this.listed(view, row.life, &key)?;
            if row.is_whole() {
                this.found.records += 1;
                return Ok(());
            }
            this.found.damaged_records += 1;
            this.found.describe(|| format!("record {key:?} is damaged"));
            this.mend(vec![Change::DropRecord { key }])
        })
    }

    /// The parts that are not looked at row by row.
    fn readable(&mut self, view: &View<'_>) -> Result<bool, Failure> {
        let mut whole = true;
        for family in ["lru", "seg", "meta"] {
            whole &= self.each(view, family, |_, _, _| Ok(()))?;
        }
        Ok(whole)
    }

    fn sums(&mut self, kept: &Kept, totals: &Totals) -> Result<(), Failure> {
        let mut packs = Vec::new();
        let segments: HashSet<Ulid> = kept.packs.keys().chain(self.live.keys()).copied().collect();
        for segment in segments {
            let live = self.live.get(&segment).copied().unwrap_or(0);
            let kept = kept.packs.get(&segment).map(|pack| pack.live);
            if kept != Some(live) {
                self.found.wrong_sums += 1;
                self.found.describe(|| format!("pack {segment} has {live} live bytes, its sum says {kept:?}"));
                packs.push((segment, signed(live) - signed(kept.unwrap_or(0))));
            }
        }
        let wrong = *totals != kept.totals;
        if wrong {
            self.found.wrong_sums += 1;
            self.found.describe(|| format!("the store holds {totals:?}, its sums say {:?}", kept.totals));
        }
        if packs.is_empty() && !wrong {
            return Ok(());
        }
        let (is, was) = (totals.numbers(), kept.totals.numbers());
        let totals = std::array::from_fn(|at| signed(is[at]) - signed(was[at]));
        self.mend(vec![Change::Adjust { packs, totals }])
    }

    /// The rows that keep files from being swept.
    fn files(&mut self, view: &View<'_>, files: &HashSet<Ulid>) -> Result<(), Failure> {
        let named: HashSet<Ulid> = view.files()?.into_iter().collect();
        for segment in files.difference(&named) {
            self.found.wrong_sums += 1;
            self.found.describe(|| format!("the file {segment} of a blob would have been swept"));
            self.mend(vec![Change::NameFile { segment: *segment }])?;
        }
        for segment in named.difference(files) {
            self.found.wrong_sums += 1;
            self.found.describe(|| format!("no blob is in the file {segment} that the index names"));
            self.mend(vec![Change::UnnameFile { segment: *segment }])?;
        }
        Ok(())
    }

    fn orphans(&mut self) -> Result<(), Failure> {
        let (done, answer) = oneshot::channel();
        self.engine.ask_housekeeper(Job::Sweep { mending: self.mending, done });
        let orphans = answer.blocking_recv().map_err(|_dropped| Failure::Closed)??;
        self.found.orphan_files = orphans.len() as u64;
        for path in orphans {
            self.found.describe(|| format!("nothing names the file {}", path.display()));
        }
        Ok(())
    }
}

fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
