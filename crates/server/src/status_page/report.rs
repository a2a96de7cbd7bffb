use std::collections::BTreeMap;

use reapi::observer::{Outcome, Tally};
use serde::Serialize;
use serde_json::{Value, json};

use super::history::{History, Sample};
use crate::metrics::{Process, Sources};

/// So many instances, tools and mnemonics are listed.
const MAX_LISTED: usize = 10;

/// One line of a list.
#[derive(Serialize)]
struct Listed<'a> {
    name: &'a str,
    hits: u64,
    misses: u64,
}

/// All that the page draws.
pub(super) fn report(sources: &Sources, history: &History, now: &Sample, ready: &str) -> Value {
    let stats = sources.stats();
    let tallies = sources.observer.actions().tallies();
    let reasons = Outcome::ALL.into_iter().filter_map(|outcome| {
        let count = sources.observer.actions().total(outcome);
        Some(json!({ "reason": outcome.reason()?, "count": count }))
    });
    let process = Process::now();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": ready,
        "uptime_seconds": sources.since.elapsed().as_secs(),
        "hits": now.hits,
        "misses": now.misses,
        "miss_reasons": reasons.collect::<Vec<_>>(),
        "instances": listed(&tallies, |tally| &tally.instance),
        "tools": listed(&tallies, |tally| &tally.tool),
        "mnemonics": listed(&tallies, |tally| &tally.mnemonic),
        "store": {
            "max_bytes": stats.max_bytes,
            "used_bytes": stats.used_bytes,
            "blobs": stats.blobs,
            "records": stats.records,
            "leases": stats.leases,
            "lease_seconds": stats.lease.as_secs(),
            "youngest_evicted_seconds": stats.youngest_evicted.map(|age| age.as_secs()),
            "evicted_blobs": stats.evicted_blobs,
            "evicted_bytes": stats.evicted_bytes,
            "disk_is_full": stats.disk_is_full,
        },
        "connections": (sources.connections)(),
        "uploads": sources.observer.uploads_in_flight(),
        "resident_bytes": process.map(|process| process.resident_bytes),
        "hour": history.fine(now),
        "day": history.coarse(now),
    })
}

/// The names with the most answers, most first.
fn listed<'a>(tallies: &'a [Tally], name: impl Fn(&'a Tally) -> &'a str) -> Vec<Listed<'a>> {
    let mut sums = BTreeMap::<&str, (u64, u64)>::new();
    for tally in tallies {
        let (hits, misses) = sums.entry(name(tally)).or_default();
        *hits += tally.count(Outcome::Hit);
        *misses += Outcome::ALL.into_iter().skip(1).map(|miss| tally.count(miss)).sum::<u64>();
    }
    let mut listed: Vec<_> = sums.into_iter().map(|(name, (hits, misses))| Listed { name, hits, misses }).collect();
    listed.sort_by_key(|line| std::cmp::Reverse(line.hits + line.misses));
    listed.truncate(MAX_LISTED);
    listed
}
