use std::collections::BTreeMap;

use serde::Deserialize;

use crate::proto::Usage;

/// The table that is compiled in.
const BUILT_IN: &str = include_str!("../prices.toml");

/// What models cost, by their names.
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
    /// The multiple for input that the cache held, where it is the model's own.
    cache_read: Option<f64>,
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
        let amounts = |listed: &Listed| [listed.input, listed.output, listed.cache_read.unwrap_or_default()];
        match table.models.iter().find(|(_, listed)| !amounts(listed).into_iter().all(is_amount)) {
            Some((model, _)) => Err(PriceError::Amount(model.clone())),
            None => Ok(table),
        }
    }

    /// The rates of a model or of one of its dated snapshots; `None` when the table has no such model: a later version of
    /// one that it has may cost something else.
    pub fn rates(&self, model: &str) -> Option<Rates> {
        let fits = |name: &&String| model.strip_prefix(name.as_str()).is_some_and(is_snapshot);
        let name = self.models.keys().filter(fits).max_by_key(|name| name.len())?;
        let listed = self.models.get(name)?;
        let rates = self.rates_of(listed.input, listed.output);
        Some(Rates { cache_read: listed.cache_read.map_or(rates.cache_read, |own| own * listed.input), ..rates })
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

/// Whether what follows the name of a model is nothing, a date, or that it is the latest.
fn is_snapshot(rest: &str) -> bool {
    let date = rest.strip_prefix(['-', '@']).unwrap_or("");
    let digits = date.bytes().filter(u8::is_ascii_digit).count();
    let is_date = digits == 8 && date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    rest.is_empty() || is_date || date == "latest"
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
