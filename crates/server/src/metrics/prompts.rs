use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::Sources;
use super::families::{Families, to_f64};

/// The prompt cache: what it answered, and what that spared.
#[derive(Debug)]
pub(super) struct Prompts(pub(super) Sources);

impl Collector for Prompts {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut families = Families(encoder);
        let savings = self.0.prompts.savings();
        let answers = [
            ("hit", savings.hits),
            ("prefix", savings.prefixes),
            ("miss", savings.misses),
            ("uncacheable", savings.uncacheable),
        ];
        let answers = answers.map(|(outcome, count)| (vec![("outcome", outcome)], to_f64(count)));
        families.counters("twofold_prompt_lookups", "Lookups of the prompt cache", answers)?;
        families.counter("twofold_prompt_recorded", "Results of model calls that were recorded", savings.recorded)?;
        families.counter("twofold_prompt_refused", "Results that were not fit to be recorded", savings.refused)?;
        families.counter(
            "twofold_prompt_backend_drifts",
            "Results whose system fingerprint was another than the model's last one",
            savings.backend_drifts,
        )?;
        let tokens = [("input", savings.input_tokens), ("output", savings.output_tokens)];
        let tokens = tokens.map(|(kind, count)| (vec![("kind", kind)], to_f64(count)));
        families.counters("twofold_prompt_saved_tokens", "Tokens of model calls that hits spared", tokens)?;
        let usd = |micros: i64| [(Vec::new(), micros as f64 / 1e6)];
        families.counters(
            "twofold_prompt_saved_usd",
            "What these calls cost, in US dollars",
            usd(savings.saved_microusd),
        )?;
        families.counters(
            "twofold_prompt_recorded_usd",
            "What the calls cost whose results were recorded, in US dollars",
            usd(savings.recorded_microusd),
        )?;
        let seconds = [(Vec::new(), savings.saved_ms as f64 / 1e3)];
        families.counters("twofold_prompt_saved_seconds", "Time that these calls took, where it was recorded", seconds)
    }
}
