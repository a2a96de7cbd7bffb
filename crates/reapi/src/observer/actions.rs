use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use foldhash::fast::RandomState;
use parking_lot::RwLock;

use super::names::{Names, OTHER_NUMBER};

/// So many instances, tools and mnemonics are told apart.
const MAX_INSTANCES: u16 = 50;
const MAX_TOOLS: u16 = 20;
const MAX_MNEMONICS: u16 = 100;
/// So many combinations of the three are told apart.
const MAX_COMBINATIONS: usize = 1000;

/// What stands for the default instance, whose name is empty.
const DEFAULT_INSTANCE: &str = "(default)";
/// What stands for a tool or mnemonic that a client does not tell.
const UNKNOWN: &str = "unknown";

/// Why there was no action result to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Miss {
    /// It was never written here, or long ago.
    Absent,
    /// It was here and was evicted lately: a larger store would have had it.
    Evicted,
    /// It is here, and a blob that it names is not.
    Incomplete,
    /// What was here cannot be read.
    Malformed,
    /// The hash is here with another size.
    OtherSize,
}

/// What the action cache answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The result.
    Hit,
    /// That there is none.
    Miss(Miss),
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Hit,
        Self::Miss(Miss::Absent),
        Self::Miss(Miss::Evicted),
        Self::Miss(Miss::Incomplete),
        Self::Miss(Miss::Malformed),
        Self::Miss(Miss::OtherSize),
    ];

    fn index(self) -> usize {
        match self {
            Self::Hit => 0,
            Self::Miss(miss) => 1 + miss as usize,
        }
    }

    /// The reason of a miss as a label; `None` for a hit.
    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Hit => None,
            Self::Miss(Miss::Absent) => Some("absent"),
            Self::Miss(Miss::Evicted) => Some("evicted"),
            Self::Miss(Miss::Incomplete) => Some("incomplete"),
            Self::Miss(Miss::Malformed) => Some("malformed"),
            Self::Miss(Miss::OtherSize) => Some("other_size"),
        }
    }
}

/// Who asks, as far as the request says it. Empty where it does not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asker<'a> {
    /// The instance name.
    pub instance: &'a str,
    /// The client program.
    pub tool: &'a str,
    /// What kind of action it is.
    pub mnemonic: &'a str,
}

type Counts = [AtomicU64; Outcome::ALL.len()];

/// The hits and misses of the action cache by instance, tool and mnemonic.
///
/// The first names that come get a count of their own; all that come once the table is full count as [`super::OTHER`].
#[derive(Debug)]
pub struct Actions {
    totals: Counts,
    instances: Names,
    tools: Names,
    mnemonics: Names,
    table: RwLock<HashMap<[u16; 3], Arc<Counts>, RandomState>>,
}

impl Default for Actions {
    fn default() -> Self {
        Self {
            totals: Counts::default(),
            instances: Names::new(MAX_INSTANCES),
            tools: Names::new(MAX_TOOLS),
            mnemonics: Names::new(MAX_MNEMONICS),
            table: RwLock::default(),
        }
    }
}

impl Actions {
    /// Counts one answer.
    pub fn count(&self, asker: Asker<'_>, outcome: Outcome) {
        self.totals[outcome.index()].fetch_add(1, Ordering::Relaxed);
        let key = [
            self.instances.number(named(asker.instance, DEFAULT_INSTANCE)),
            self.tools.number(named(asker.tool, UNKNOWN)),
            self.mnemonics.number(named(asker.mnemonic, UNKNOWN)),
        ];
        if let Some(counts) = self.table.read().get(&key) {
            counts[outcome.index()].fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.enter(key)[outcome.index()].fetch_add(1, Ordering::Relaxed);
    }

    fn enter(&self, key: [u16; 3]) -> Arc<Counts> {
        let mut table = self.table.write();
        let full = table.len() >= MAX_COMBINATIONS && !table.contains_key(&key);
        let key = if full { [OTHER_NUMBER; 3] } else { key };
        Arc::clone(table.entry(key).or_default())
    }

    /// How often there was this answer.
    pub fn total(&self, outcome: Outcome) -> u64 {
        self.totals[outcome.index()].load(Ordering::Relaxed)
    }

    /// The counts of each combination that was met.
    pub fn tallies(&self) -> Vec<Tally> {
        // The table first: its numbers have names by then.
        let table: Vec<_> = self.table.read().iter().map(|(key, counts)| (*key, Arc::clone(counts))).collect();
        let [instances, tools, mnemonics] = [&self.instances, &self.tools, &self.mnemonics].map(Names::list);
        let name = |list: &[Box<str>], number: u16| list.get(usize::from(number)).cloned().unwrap_or_default();
        let tally = |([instance, tool, mnemonic], counts): ([u16; 3], Arc<Counts>)| Tally {
            instance: name(&instances, instance),
            tool: name(&tools, tool),
            mnemonic: name(&mnemonics, mnemonic),
            counts: std::array::from_fn(|outcome| counts[outcome].load(Ordering::Relaxed)),
        };
        let mut tallies: Vec<Tally> = table.into_iter().map(tally).collect();
        tallies.sort_by(|a, b| (&a.instance, &a.tool, &a.mnemonic).cmp(&(&b.instance, &b.tool, &b.mnemonic)));
        tallies
    }
}

fn named<'a>(name: &'a str, none: &'a str) -> &'a str {
    if name.is_empty() { none } else { name }
}

/// The counts of one combination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tally {
    /// The instance name; the default instance has a word for its empty one.
    pub instance: Box<str>,
    /// The client program.
    pub tool: Box<str>,
    /// The kind of action.
    pub mnemonic: Box<str>,
    counts: [u64; Outcome::ALL.len()],
}

impl Tally {
    /// How often there was this answer.
    pub fn count(&self, outcome: Outcome) -> u64 {
        self.counts[outcome.index()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_who_asked() {
        let actions = Actions::default();
        let bazel = Asker { instance: "", tool: "bazel", mnemonic: "CppCompile" };
        actions.count(bazel, Outcome::Hit);
        actions.count(bazel, Outcome::Miss(Miss::OtherSize));
        actions.count(Asker { instance: "team", ..Asker::default() }, Outcome::Hit);
        let tallies = actions.tallies();
        let [first, second] = tallies.as_slice() else { panic!("{tallies:?}") };
        assert_eq!((&*first.instance, &*first.tool, &*first.mnemonic), ("(default)", "bazel", "CppCompile"));
        assert_eq!(Outcome::ALL.map(|outcome| first.count(outcome)), [1, 0, 0, 0, 0, 1]);
        assert_eq!((&*second.instance, &*second.tool, &*second.mnemonic), ("team", "unknown", "unknown"));
        assert_eq!(actions.total(Outcome::Hit), 2);
    }

    #[test]
    fn the_table_stays_bounded_and_loses_no_answer() {
        let actions = Actions::default();
        for n in 0..3000 {
            let (instance, tool, mnemonic) = (format!("i{n}"), format!("t{}", n % 30), format!("m{}", n % 170));
            actions.count(Asker { instance: &instance, tool: &tool, mnemonic: &mnemonic }, Outcome::Hit);
        }
        let tallies = actions.tallies();
        assert!(tallies.len() <= MAX_COMBINATIONS + 1, "{}", tallies.len());
        let distinct =
            |name: fn(&Tally) -> &Box<str>| tallies.iter().map(name).collect::<std::collections::HashSet<_>>().len();
        assert!(distinct(|tally| &tally.instance) <= usize::from(MAX_INSTANCES) + 1);
        assert!(distinct(|tally| &tally.tool) <= usize::from(MAX_TOOLS) + 1);
        assert!(distinct(|tally| &tally.mnemonic) <= usize::from(MAX_MNEMONICS) + 1);
        assert_eq!(tallies.iter().map(|tally| tally.count(Outcome::Hit)).sum::<u64>(), 3000);
    }
}
