//! What the servers are asked to do.

use std::sync::Arc;

use reapi::proto::re;

use crate::call::{Call, Clients};
use crate::data::{Blob, Source};
use crate::load::Pool;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Blobs in one batch call.
const BATCH: usize = 100;
/// Calls that are prepared for one round of writing: no more than this many, nor than this many bytes.
const MAX_FRESH_CALLS: usize = 20_000;
const MAX_FRESH_BYTES: usize = 256 * MIB;
/// Of the digests asked for, one in so many is not there.
const ABSENT_ONE_IN: usize = 10;

/// One kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    GetCapabilities,
    GetActionResult,
    UpdateActionResult,
    FindMissing { digests: usize },
    BatchRead { size_bytes: usize },
    BatchUpdate { size_bytes: usize },
    Read { size_bytes: usize },
    Write { size_bytes: usize },
    Mixed,
}

impl Work {
    pub const ALL: [Self; 15] = [
        Self::GetCapabilities,
        Self::GetActionResult,
        Self::UpdateActionResult,
        Self::FindMissing { digests: 1 },
        Self::FindMissing { digests: 100 },
        Self::FindMissing { digests: 1000 },
        Self::BatchRead { size_bytes: 128 },
        Self::BatchRead { size_bytes: KIB },
        Self::BatchRead { size_bytes: 16 * KIB },
        Self::BatchUpdate { size_bytes: 128 },
        Self::BatchUpdate { size_bytes: KIB },
        Self::BatchUpdate { size_bytes: 16 * KIB },
        Self::Read { size_bytes: MIB },
        Self::Read { size_bytes: 16 * MIB },
        Self::Write { size_bytes: MIB },
    ];

    pub fn all() -> impl Iterator<Item = Self> {
        Self::ALL.into_iter().chain([Self::Mixed])
    }

    pub fn name(self) -> String {
        let size = |size_bytes: usize| match size_bytes {
            bytes if bytes >= MIB => format!("{} MiB", bytes / MIB),
            bytes if bytes >= KIB => format!("{} KiB", bytes / KIB),
            bytes => format!("{bytes} B"),
        };
        match self {
            Self::GetCapabilities => "GetCapabilities".to_owned(),
            Self::GetActionResult => "GetActionResult".to_owned(),
            Self::UpdateActionResult => "UpdateActionResult".to_owned(),
            Self::FindMissing { digests } => format!("FindMissingBlobs {digests}"),
            Self::BatchRead { size_bytes } => format!("BatchReadBlobs {BATCH} x {}", size(size_bytes)),
            Self::BatchUpdate { size_bytes } => format!("BatchUpdateBlobs {BATCH} x {}", size(size_bytes)),
            Self::Read { size_bytes } => format!("Read {}", size(size_bytes)),
            Self::Write { size_bytes } => format!("Write {}", size(size_bytes)),
            Self::Mixed => "mixed".to_owned(),
        }
    }

    /// Whether durability matters to it.
    pub fn writes(self) -> bool {
        matches!(self, Self::UpdateActionResult | Self::BatchUpdate { .. } | Self::Write { .. } | Self::Mixed)
    }

    /// What must be on a server before: the same for every server.
    pub fn seeds(self) -> Seeds {
        let mut source = Source::new(1);
        let blobs = match self {
            Self::GetCapabilities => Vec::new(),
            Self::GetActionResult | Self::UpdateActionResult | Self::Mixed => source.blobs(1000, 4 * KIB),
            Self::FindMissing { .. } => source.blobs(10_000, 128),
            Self::BatchRead { size_bytes } => source.blobs(2000, size_bytes),
            Self::BatchUpdate { .. } | Self::Write { .. } => Vec::new(),
            Self::Read { size_bytes } => source.blobs((64 * MIB / size_bytes).min(16), size_bytes),
        };
        let results = match self {
            Self::GetActionResult | Self::Mixed => blobs.chunks(3).map(|outputs| source.action(outputs)).collect(),
            _ => Vec::new(),
        };
        Seeds { blobs, results: results.into_iter().map(|(action, result)| (action, Arc::new(result))).collect() }
    }

    /// The calls of one round; `seed` is new each time, so that what is written is new.
    pub fn calls(self, seeds: &Seeds, seed: u64) -> Pool {
        let mut source = Source::new(seed);
        match self {
            Self::GetCapabilities => Pool::cyclic(vec![Call::Capabilities]),
            Self::GetActionResult => Pool::cyclic(seeds.results.iter().map(get_result).collect()),
            Self::FindMissing { digests } => Pool::cyclic(questions(seeds, digests, &mut source)),
            Self::BatchRead { .. } => Pool::cyclic(batches(&seeds.blobs).map(Call::BatchRead).collect()),
            Self::Read { .. } => Pool::cyclic(seeds.blobs.iter().cloned().map(Call::Read).collect()),
            Self::UpdateActionResult => Pool::once(updates(seeds, MAX_FRESH_CALLS, &mut source)),
            Self::BatchUpdate { size_bytes } => {
                let calls = (MAX_FRESH_BYTES / (BATCH * size_bytes)).min(MAX_FRESH_CALLS / 5);
                Pool::once(batches(&source.blobs(calls * BATCH, size_bytes)).map(Call::BatchUpdate).collect())
            }
            Self::Write { size_bytes } => {
                let blobs = source.blobs(MAX_FRESH_BYTES / size_bytes, size_bytes);
                Pool::once(blobs.into_iter().map(Call::Write).collect())
            }
            Self::Mixed => Pool::once(mixed(seeds, &mut source)),
        }
    }
}

/// What is on a server before it is measured.
pub struct Seeds {
    blobs: Vec<Blob>,
    results: Vec<(re::Digest, Arc<re::ActionResult>)>,
}

impl Seeds {
    /// Uploads all of it.
    pub async fn upload(&self, clients: &mut Clients) -> anyhow::Result<()> {
        for blobs in self.blobs.chunks(BATCH) {
            if blobs.iter().map(|blob| blob.data.len()).sum::<usize>() <= 4_000_000 {
                Call::BatchUpdate(Arc::new(blobs.to_vec())).run(clients).await?;
            } else {
                for blob in blobs {
                    Call::Write(blob.clone()).run(clients).await?;
                }
            }
        }
        for (action, result) in &self.results {
            Call::UpdateResult(action.clone(), result.clone()).run(clients).await?;
        }
        Ok(())
    }
}

fn get_result((action, result): &(re::Digest, Arc<re::ActionResult>)) -> Call {
    Call::GetResult(action.clone(), result.clone())
}

fn batches(blobs: &[Blob]) -> impl Iterator<Item = Arc<Vec<Blob>>> {
    blobs.chunks(BATCH).map(|batch| Arc::new(batch.to_vec()))
}

/// Questions of `digests` each, a tenth of which are not there; single ones by turns.
fn questions(seeds: &Seeds, digests: usize, source: &mut Source) -> Vec<Call> {
    let mut number = 0;
    (0..(10_000 / digests).clamp(10, 1000))
        .map(|_| {
            let (mut asked, mut missing) = (Vec::new(), Vec::new());
            for _ in 0..digests {
                number += 1;
                if number % ABSENT_ONE_IN == 0 {
                    missing.push(source.absent());
                    asked.extend(missing.last().cloned());
                } else {
                    asked.extend(seeds.blobs.get(number % seeds.blobs.len()).map(|blob| blob.digest.clone()));
                }
            }
            Call::FindMissing(Arc::new(asked), Arc::new(missing))
        })
        .collect()
}

/// Results of new actions with outputs that are there.
fn updates(seeds: &Seeds, count: usize, source: &mut Source) -> Vec<Call> {
    let outputs = seeds.blobs.chunks(3).cycle();
    outputs
        .take(count)
        .map(|outputs| {
            let (action, result) = source.action(outputs);
            Call::UpdateResult(action, Arc::new(result))
        })
        .collect()
}

/// Of 20 calls: 10 look an action up, 4 ask for ten digests, 4 read a small blob, 1 writes a new one of 16 KiB, and 1
/// stores a result. As Bazel does, each small blob is a stream of its own.
fn mixed(seeds: &Seeds, source: &mut Source) -> Vec<Call> {
    let mut results = seeds.results.iter().cycle();
    let mut reads = seeds.blobs.iter().cycle();
    let mut asks = questions(seeds, 10, source).into_iter().cycle();
    let mut stores = updates(seeds, MAX_FRESH_CALLS / 20, source).into_iter();
    let mut calls = Vec::with_capacity(MAX_FRESH_CALLS);
    for turn in 0..MAX_FRESH_CALLS {
        calls.extend(match turn % 20 {
            0 | 2 | 4 | 6 | 8 | 10 | 12 | 14 | 16 | 18 => results.next().map(get_result),
            1 | 5 | 9 | 13 => asks.next(),
            3 | 7 | 11 | 15 => reads.next().cloned().map(Call::Read),
            17 => Some(Call::Write(source.blob(16 * KIB))),
            _ => stores.next(),
        });
    }
    calls
}
