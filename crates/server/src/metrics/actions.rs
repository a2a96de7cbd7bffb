use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use reapi::observer::{Outcome, Tally};

use super::Sources;
use super::families::{Families, Labels, to_f64};

/// Hits and misses of the action cache alone: what decides whether a build does its work again.
#[derive(Debug)]
pub(super) struct Actions(pub(super) Sources);

fn labels(tally: &Tally) -> Labels<'_> {
    vec![("instance_name", &*tally.instance), ("tool", &*tally.tool), ("mnemonic", &*tally.mnemonic)]
}

impl Collector for Actions {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut families = Families(encoder);
        let tallies = self.0.observer.actions().tallies();
        families.counters(
            "twofold_action_cache_hits",
            "Action results that were found, with all that they name",
            tallies.iter().map(|tally| (labels(tally), to_f64(tally.count(Outcome::Hit)))),
        )?;
        let misses = tallies.iter().flat_map(|tally| {
            Outcome::ALL.into_iter().filter(|outcome| tally.count(*outcome) > 0).filter_map(|outcome| {
                let mut labels = labels(tally);
                labels.push(("reason", outcome.reason()?));
                Some((labels, to_f64(tally.count(outcome))))
            })
        });
        families.counters("twofold_action_cache_misses", "Action results that were asked for and not given", misses)
    }
}
