use std::collections::BTreeSet;
use std::str::FromStr;

use anyhow::bail;
use clap::ValueEnum;

use super::phases::Phase;

/// The phases of cargo alone, and those that need what the cold phase leaves in the cache.
const ALONE: &[Phase] = &[Phase::Plain, Phase::Unchanged, Phase::Incremental];
const CACHED: &[Phase] = &[Phase::Control, Phase::Warm, Phase::Hot];

/// A phase as people name it: of all edits, or of one, as in `warm:2`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Named {
    phase: Phase,
    edit: Option<usize>,
}

impl FromStr for Named {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (name, edit) = text.split_once(':').map_or((text, None), |(name, edit)| (name, Some(edit)));
        let phase = Phase::from_str(name, false).map_err(|_| format!("{name} is no step"))?;
        let number = |edit: &str| match edit.parse::<usize>() {
            Ok(edit @ 1..) if phase.is_of_an_edit() => Ok(edit - 1),
            _ => Err(format!("{text} is no step of a change; warm:1 is that of the first")),
        };
        Ok(Self { phase, edit: edit.map(number).transpose()? })
    }
}

impl Named {
    fn names(self, phase: Phase, edit: Option<usize>) -> bool {
        self.phase == phase && (self.edit.is_none() || self.edit == edit)
    }
}

/// What is measured: by phase, and by edit where the phase has one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    steps: BTreeSet<(Phase, Option<usize>)>,
    once: Vec<Named>,
}

impl Plan {
    /// What was asked for, all phases where none is named, and what that needs. After the first run, without what is
    /// measured once.
    pub(super) fn new(only: &[Named], once: &[Named], edits: usize) -> anyhow::Result<Self> {
        if only.iter().chain(once).any(|named| named.edit.is_some_and(|edit| edit >= edits)) {
            bail!("there are {edits} changes, so no step is of a later one");
        }
        let all = Phase::value_variants().iter().flat_map(|phase| {
            let edits: Vec<_> = if phase.is_of_an_edit() { (0..edits).map(Some).collect() } else { vec![None] };
            edits.into_iter().map(|edit| (*phase, edit))
        });
        let named = |(phase, edit): &(Phase, Option<usize>)| only.iter().any(|named| named.names(*phase, *edit));
        let steps = all.filter(|step| only.is_empty() || named(step)).collect();
        let mut plan = Self { steps, once: once.to_vec() };
        plan.complete(true);
        Ok(plan)
    }

    /// The plan of a later run: without what is measured once, where that was measured and counts.
    pub(super) fn again(&self, counted: &BTreeSet<(Phase, Option<usize>)>) -> Self {
        let mut plan = self.clone();
        let once = |(phase, edit): &(Phase, Option<usize>)| self.once.iter().any(|named| named.names(*phase, *edit));
        plan.steps.retain(|step| !once(step) || !counted.contains(step));
        plan.complete(!self.shares_the_cache() || !counted.contains(&(Phase::Cold, None)));
        plan
    }

    /// Whether all runs work on what the cold phase left in the cache once.
    pub(super) fn shares_the_cache(&self) -> bool {
        self.once.iter().any(|named| named.names(Phase::Cold, None))
    }

    fn complete(&mut self, cold: bool) {
        if self.any(ALONE) {
            self.steps.insert((Phase::Plain, None));
        }
        if cold && self.any(CACHED) {
            self.steps.insert((Phase::Cold, None));
        }
    }

    pub(super) fn any(&self, phases: &[Phase]) -> bool {
        self.steps.iter().any(|(phase, _)| phases.contains(phase))
    }

    pub(super) fn has(&self, phase: Phase, edit: Option<usize>) -> bool {
        self.steps.contains(&(phase, edit))
    }

    /// How many steps, for the progress.
    pub(super) fn len(&self) -> u64 {
        self.steps.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(text: &str) -> Vec<Named> {
        text.split(',').filter(|text| !text.is_empty()).map(|text| text.parse().expect("a step")).collect()
    }

    fn steps(plan: &Plan) -> String {
        let name = |(phase, edit): &(Phase, Option<usize>)| match edit {
            Some(edit) => format!("{}:{}", phase.name(), edit + 1),
            None => phase.name().to_owned(),
        };
        plan.steps.iter().map(name).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_steps_need_is_measured_too_and_what_is_measured_once_is_in_the_first_run_alone() {
        let plan = |only, once| Plan::new(&named(only), &named(once), 2).expect("a plan");
        let again = |plan: &Plan| plan.again(&plan.steps);
        let all =
            "plain unchanged incremental:1 incremental:2 sccache:1 sccache:2 cold control warm:1 warm:2 hot:1 hot:2";
        assert_eq!(steps(&plan("", "")), all);
        assert_eq!(steps(&again(&plan("", ""))), all);
        assert_eq!(steps(&plan("hot:2,incremental:1", "")), "plain incremental:1 cold hot:2");
        // One cache for all runs needs to be filled once.
        let shared = plan("warm,hot", "cold,warm:1");
        assert_eq!(steps(&shared), "cold warm:1 warm:2 hot:1 hot:2");
        assert_eq!(steps(&again(&shared)), "warm:2 hot:1 hot:2");
        // What does not count is measured again.
        assert_eq!(shared.again(&BTreeSet::new()), shared);
        // A cache for each run is filled in each.
        assert_eq!(steps(&again(&plan("warm,hot", "warm:1"))), "cold warm:2 hot:1 hot:2");
        assert_eq!(steps(&again(&plan("incremental", "plain"))), "plain incremental:1 incremental:2");
        for wrong in ["cold:1", "warm:0", "warm:x", "tepid"] {
            assert!(wrong.parse::<Named>().is_err(), "{wrong}");
        }
        assert!(Plan::new(&named("warm:3"), &[], 2).is_err());
    }
}
