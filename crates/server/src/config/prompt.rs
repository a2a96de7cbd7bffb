use std::path::PathBuf;

use prompt_cache::Signer;
use toml::{Table, Value};

use super::Fault;
use super::raw::RawPrompt;

/// What was said of the prompt cache.
#[derive(Clone, Debug, Default)]
pub struct PromptSettings {
    /// A price table in place of the one that is built in.
    pub prices: Option<PathBuf>,
    /// Whose signatures count.
    pub signers: Vec<Signer>,
}

/// Checks the section.
pub(super) fn check(raw: RawPrompt, faults: &mut Vec<Fault>) -> PromptSettings {
    let mut signers = Vec::new();
    for (name, key) in &raw.signers {
        match Signer::new(name, key) {
            Ok(signer) => signers.push(signer),
            Err(error) => faults.push(Fault::new(format!("prompt.signers.{name}"), error)),
        }
    }
    PromptSettings { prices: raw.prices, signers }
}

/// The section as TOML.
pub(super) fn show(settings: &PromptSettings) -> Table {
    let mut section = Table::new();
    if let Some(file) = &settings.prices {
        section.insert("prices".to_owned(), file.display().to_string().into());
    }
    let signers = settings.signers.iter().map(|signer| (signer.name().to_owned(), Value::from(signer.public_key())));
    section.insert("signers".to_owned(), Table::from_iter(signers).into());
    section
}
