use crate::prices::{Multiples, Rates};

/// An hour of an agent: how often it calls its model, and with how much.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AgentHour {
    /// Calls in the hour.
    pub calls: f64,
    /// Tokens that each call sends.
    pub input_tokens: f64,
    /// Tokens that each call gets back.
    pub output_tokens: f64,
    /// The share of the input that the provider's cache held, 0 to 1.
    pub cached_share: f64,
    /// What the machine costs that the agent works on, in US dollars an hour.
    pub sandbox_usd: f64,
}

impl AgentHour {
    /// What the hour costs, in US dollars.
    pub fn cost_usd(&self, rates: &Rates) -> f64 {
        let input = self.calls * self.input_tokens / 1e6;
        let output = self.calls * self.output_tokens / 1e6;
        input * (1.0 - self.cached_share) * rates.input
            + input * self.cached_share * rates.cache_read
            + output * rates.output
            + self.sandbox_usd
    }

    /// What the hour costs when this share of its calls is answered by recorded results.
    pub fn cost_with_replay_usd(&self, rates: &Rates, replayed_share: f64) -> f64 {
        let fewer = Self { calls: self.calls * (1.0 - replayed_share), ..*self };
        fewer.cost_usd(rates)
    }
}

/// From which use of the same input on a provider's cache is cheaper than none: the first write costs more than plain
/// input, each read less. `None` when it never is.
pub fn pays_from(multiples: Multiples, write: f64) -> Option<u32> {
    if multiples.cache_read >= 1.0 {
        return None;
    }
    (1..=1_000_000).find(|uses| write + f64::from(uses - 1) * multiples.cache_read < f64::from(*uses))
}

/// From which hour of the same work on recorded results have paid for the machine that holds them: the first hour makes
/// every call. `None` when they never do.
pub fn replay_pays_from(hour_usd: f64, hour_with_replay_usd: f64, cache_usd: f64) -> Option<u32> {
    let spared = hour_usd - hour_with_replay_usd;
    (1..=1_000_000).find(|hours| spared * f64::from(hours - 1) >= cache_usd * f64::from(*hours) && spared > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PriceTable;

    fn dollars(amount: f64) -> String {
        format!("{amount:.2}")
    }

    #[test]
    fn the_worked_example_costs_what_it_costs() {
        let rates = PriceTable::default().rates_of(3.0, 15.0);
        let hour = AgentHour {
            calls: 400.0,
            input_tokens: 80_000.0,
            output_tokens: 4_000.0,
            cached_share: 0.60,
            sandbox_usd: 0.10,
        };
        assert_eq!(dollars(hour.cost_usd(&rates)), "68.26");
        assert_eq!(dollars(AgentHour { cached_share: 0.0, ..hour }.cost_usd(&rates)), "120.10");
        assert_eq!(dollars(hour.cost_with_replay_usd(&rates, 0.5)), "34.18");
        assert_eq!(dollars(hour.cost_with_replay_usd(&rates, 0.0)), "68.26");
    }

    #[test]
    fn a_cache_pays_from_the_second_or_third_use_on() {
        let multiples = PriceTable::default().multiples;
        assert_eq!(pays_from(multiples, multiples.cache_write_5m), Some(2));
        assert_eq!(pays_from(multiples, multiples.cache_write_1h), Some(3));
        assert_eq!(pays_from(Multiples { cache_read: 1.0, ..multiples }, 1.25), None);
    }

    #[test]
    fn recorded_results_pay_from_the_second_hour_on_or_later_or_never() {
        assert_eq!(replay_pays_from(68.26, 34.18, 0.10), Some(2));
        // An eighth of a dollar is spared in each hour but the first; three quarters of that are spent in each.
        assert_eq!(replay_pays_from(1.0, 0.875, 0.0625), Some(2));
        assert_eq!(replay_pays_from(1.0, 0.875, 0.09375), Some(4));
        assert_eq!(replay_pays_from(1.0, 0.875, 0.125), None);
        assert_eq!(replay_pays_from(1.0, 1.0, 0.0), None);
    }

    #[test]
    fn a_name_prices_a_model_and_its_snapshots() {
        let text = "version = \"t\"\n[multiples]\ncache_read = 0.1\ncache_write_5m = 1.25\ncache_write_1h = 2.0\n\
                    [models.\"m\"]\ninput = 1.0\noutput = 2.0\n\
                    [models.\"m-2\"]\ninput = 3.0\noutput = 4.0\ncache_read = 0.05\n";
        let table = PriceTable::parse(text).expect("a table");
        let input = |model: &str| table.rates(model).map(|rates| rates.input);
        assert_eq!(
            (input("m-2-20260101"), input("m-2026-01-01"), input("m@20260101")),
            (Some(3.0), Some(1.0), Some(1.0))
        );
        assert_eq!((input("m-latest"), input("m")), (Some(1.0), Some(1.0)));
        // Another version is another model.
        assert_eq!((input("m-3"), input("m.5"), input("mm"), input("x")), (None, None, None, None));
        let cached = |model: &str| table.rates(model).map(|rates| rates.cache_read);
        assert_eq!((cached("m"), cached("m-2")), (Some(0.1), Some(3.0 * 0.05)));
        assert!(PriceTable::parse(&text.replace("3.0", "-3.0")).is_err());
        assert!(PriceTable::parse(&text.replace("version", "name")).is_err());
        let built_in = |model: &str| PriceTable::default().rates(model).map(|rates| (rates.input, rates.output));
        assert_eq!(built_in("claude-opus-4-8"), Some((5.0, 25.0)));
        assert_eq!(built_in("claude-opus-4-1-20250805"), Some((15.0, 75.0)));
        assert_eq!(built_in("gpt-5-2025-08-07"), Some((1.25, 10.0)));
    }
}
