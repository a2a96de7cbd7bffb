use std::collections::BTreeMap;
use std::time::Duration;

use parking_lot::Mutex;
use serde::Serialize;

use crate::reason::Reason;
use crate::wire::Tool;

/// What one command did, counted.
#[derive(Default)]
pub(crate) struct Counters(Mutex<BTreeMap<Tool, Counts>>);

/// The counts of one tool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// Calls by cargo.
    pub calls: u64,
    /// Calls that were answered from the cache.
    pub hits: u64,
    /// Calls that ran and were put on record, by reason.
    pub misses: BTreeMap<String, u64>,
    /// Calls that ran and were not, by reason.
    pub not_cached: BTreeMap<String, u64>,
    /// Hits that were run all the same, and gave the same bytes.
    pub verified: u64,
    /// Hits that were run all the same, and gave other bytes.
    pub differed: Vec<String>,
    /// Bytes written from the cache.
    pub bytes_restored: u64,
    /// Bytes on record for the first time.
    pub bytes_recorded: u64,
    /// How long the calls took that were answered from the cache, when they ran.
    pub seconds_saved: f64,
}

/// The counts of one command: rustc, rustdoc and test executables.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Compilations.
    pub rustc: Counts,
    /// Documentation tests.
    pub rustdoc: Counts,
    /// Runs of test executables.
    pub tests: Counts,
    /// Files of the target folder of an earlier run that were put back before cargo began.
    pub snapshot_files: u64,
}

impl Counters {
    /// Counts by `count`.
    pub(crate) fn count(&self, tool: Tool, count: impl FnOnce(&mut Counts)) {
        count(self.0.lock().entry(tool).or_default());
    }

    /// Counts a call that was answered.
    pub(crate) fn hit(&self, tool: Tool, took: Option<Duration>, bytes_restored: u64) {
        self.count(tool, |counts| {
            counts.calls += 1;
            counts.hits += 1;
            counts.bytes_restored += bytes_restored;
            counts.seconds_saved += took.unwrap_or_default().as_secs_f64();
        });
    }

    /// Counts a call that runs and will be on record.
    pub(crate) fn miss(&self, tool: Tool, reason: &Reason) {
        self.count(tool, |counts| {
            counts.calls += 1;
            *counts.misses.entry(reason.to_string()).or_default() += 1;
        });
    }

    /// Counts a call that runs and will not be.
    pub(crate) fn not_cached(&self, tool: Tool, reason: &Reason) {
        self.count(tool, |counts| {
            counts.calls += 1;
            *counts.not_cached.entry(reason.to_string()).or_default() += 1;
        });
    }

    /// The counts so far.
    pub(crate) fn stats(&self) -> Stats {
        let counts = self.0.lock();
        let of = |tool| counts.get(&tool).cloned().unwrap_or_default();
        Stats { rustc: of(Tool::Rustc), rustdoc: of(Tool::Rustdoc), tests: of(Tool::Runner), snapshot_files: 0 }
    }
}

impl Counts {
    fn line(&self, what: &str) -> String {
        let total = |reasons: &BTreeMap<String, u64>| reasons.values().sum::<u64>();
        let (misses, not_cached) = (total(&self.misses), total(&self.not_cached));
        format!("{} {what}: {} hits, {misses} misses, {not_cached} not cached", self.calls, self.hits)
    }
}

impl Stats {
    /// One line for people.
    pub fn line(&self) -> String {
        let all = [(&self.rustc, "rustc calls"), (&self.tests, "test runs"), (&self.rustdoc, "documentation tests")];
        let lines: Vec<String> =
            all.iter().filter(|(counts, _)| counts.calls > 0).map(|(counts, what)| counts.line(what)).collect();
        let first =
            (self.snapshot_files > 0).then(|| format!("{} files of an earlier run put back", self.snapshot_files));
        let lines: Vec<String> = first.into_iter().chain(lines).collect();
        if lines.is_empty() { "nothing was compiled or run".to_owned() } else { lines.join("; ") }
    }

    /// All that was counted, for people.
    pub fn table(&self) -> String {
        let mut table = String::new();
        if self.snapshot_files > 0 {
            table.push_str(&format!("{} files of the target folder of an earlier run put back\n", self.snapshot_files));
        }
        for (counts, what) in
            [(&self.rustc, "rustc calls"), (&self.tests, "test runs"), (&self.rustdoc, "documentation tests")]
        {
            if counts.calls == 0 {
                continue;
            }
            table.push_str(&format!("{}\n", counts.line(what)));
            for (kind, reasons) in [("miss", &counts.misses), ("not cached", &counts.not_cached)] {
                for (reason, n) in reasons {
                    table.push_str(&format!("  {n:>6}  {kind}: {reason}\n"));
                }
            }
            let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
            table.push_str(&format!(
                "  {:.1} MiB restored, {:.1} MiB recorded, {:.1} s of earlier runs not repeated\n",
                mib(counts.bytes_restored),
                mib(counts.bytes_recorded),
                counts.seconds_saved
            ));
            if counts.verified > 0 || !counts.differed.is_empty() {
                table.push_str(&format!("  {} hits ran again and were the same\n", counts.verified));
            }
            for what in &counts.differed {
                table.push_str(&format!("  ran again and was not the same: {what}\n"));
            }
        }
        table
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_hits_misses_or_not_cached() {
        let counters = Counters::default();
        counters.hit(Tool::Rustc, Some(Duration::from_secs(2)), 10);
        counters.miss(Tool::Rustc, &Reason::New);
        counters.not_cached(Tool::Runner, &Reason::TestCacheOff);
        let stats = counters.stats();
        assert_eq!(
            stats.line(),
            "2 rustc calls: 1 hits, 1 misses, 0 not cached; 1 test runs: 0 hits, 0 misses, 1 not cached"
        );
        assert!(stats.table().contains("1  miss: not seen before") && stats.table().contains("2.0 s of earlier runs"));
        assert_eq!(Stats::default().line(), "nothing was compiled or run");
    }
}
