use std::collections::BTreeMap;

use serde::Deserialize;

use crate::proto::Usage;

/// The table that is compiled in.
const BUILT_IN: &str = include_str!("../prices.toml");

/// What models cost, by the longest name that a model begins with.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PriceTable {
    /// Which table it is.
    pub version: String,
    /// What cached input costs, in multiples of the input price.
    pub multiples: Multiples,
    models: BTreeMap<String, Listed>,
}

/// Prices of cached input, in multiples of the input price.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Multiples {
    /// Input that the provider's cache held.
    pub cache_read: f64,
    /// Input that was put in the provider's cache for five minutes.
    pub cache_write_5m: f64,
    /// The same for an hour.
    pub cache_write_1h: f64,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    input: f64,
    output: f64,
}

/// What one model costs, in US dollars per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rates {
    /// Input that no cache held.
    pub input: f64,
    /// Input that the provider's cache held.
    pub cache_read: f64,
    /// Input that is put in the provider's cache for five minutes.
    pub cache_write_5m: f64,
    /// The same for an hour.
    pub cache_write_1h: f64,
    /// Output.
    pub output: f64,
}

/// A price table that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PriceError {
    /// Not TOML of this form.
    #[error("the price table is not well formed: {0}")]
    Form(#[from] toml::de::Error),
    /// A price that is negative or no number.
    #[error("the price table has a price for {0} that is no amount of money")]
    Amount(String),
}

impl Default for PriceTable {
    fn default() -> Self {
        Self::parse(BUILT_IN).expect("the table that is compiled in is well formed, as a test shows")
    }
}

impl PriceTable {
    /// Reads a table.
    ///
    /// # Errors
    /// [`PriceError`].
    pub fn parse(text: &str) -> Result<Self, PriceError> {
        let table: Self = toml::from_str(text)?;
        let is_amount = |amount: f64| amount.is_finite() && amount >= 0.0;
        let Multiples { cache_read, cache_write_5m, cache_write_1h } = table.multiples;
        if ![cache_read, cache_write_5m, cache_write_1h].into_iter().all(is_amount) {
            return Err(PriceError::Amount("cached input".to_owned()));
        }
        match table.models.iter().find(|(_, listed)| !is_amount(listed.input) || !is_amount(listed.output)) {
            Some((model, _)) => Err(PriceError::Amount(model.clone())),
            None => Ok(table),
        }
    }

    /// The rates of a model; `None` when no name in the table fits it.
    pub fn rates(&self, model: &str) -> Option<Rates> {
        let fits = |name: &&String| {
            model.strip_prefix(name.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '@', '.']))
        };
        let name = self.models.keys().filter(fits).max_by_key(|name| name.len())?;
        let listed = self.models.get(name)?;
        Some(self.rates_of(listed.input, listed.output))
    }

    /// Rates from an input and an output price.
    pub fn rates_of(&self, input: f64, output: f64) -> Rates {
        let Multiples { cache_read, cache_write_5m, cache_write_1h } = self.multiples;
        Rates {
            input,
            cache_read: input * cache_read,
            cache_write_5m: input * cache_write_5m,
            cache_write_1h: input * cache_write_1h,
            output,
        }
    }
}

impl Rates {
    /// What a call cost, in millionths of a US dollar.
    pub fn cost_microusd(&self, usage: &Usage) -> f64 {
        // A price per million tokens is a number of millionths per token.
        usage.input as f64 * self.input
            + usage.cache_read as f64 * self.cache_read
            + usage.cache_write_5m as f64 * self.cache_write_5m
            + usage.cache_write_1h as f64 * self.cache_write_1h
            + usage.output as f64 * self.output
    }
}
