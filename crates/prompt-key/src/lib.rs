//! The prompt key `pk1`: which model invocations are the same one. Pure: no I/O, no async, no protobuf.
//!
//! [`key`] is the one function that makes a key; the gRPC service, the HTTP routes, the command line and every other caller
//! use it. Request bytes → strict JSON ([`json`]) → a provider's adapter → [`Invocation`] → opt-in [`Rule`]s → digests.
//! What cannot be keyed exactly is [`Uncacheable`], never guessed. Spec: prompt-key.

mod adapter;
mod compose;
mod drift;
mod hash;
mod invocation;
pub mod json;
mod options;
mod profile;
mod prompt_key;
mod rules;
mod uncacheable;
mod volatile;

pub use drift::{ComponentDrift, Drift, Part};
pub use hash::{KeyDigest, KeyParseError, PromptKeyId, hash};
pub use invocation::{Invocation, Link, Tool};
pub use json::Json;
pub use options::{Api, Options, UnknownApi};
pub use profile::{Profile, ProfileError};
pub use prompt_key::{Component, Components, FieldDigest, PromptKey, ToolDigest};
pub use rules::{Masks, Rule, RuleError};
pub use uncacheable::{Fault, Uncacheable};
pub use volatile::{Span, SpanKind, volatile_spans};

/// The key of a provider request, given as the bytes that the provider would get.
///
/// # Errors
/// [`Uncacheable`] says why there is no key.
/// Spec: prompt-key §1 to §4.
pub fn key(request: &[u8], options: &Options) -> Result<PromptKey, Uncacheable> {
    key_of_json(json::parse(request)?, options)
}

/// As [`key`], of a request that [`json::parse`] has read already.
///
/// # Errors
/// As [`key`].
pub fn key_of_json(request: Json, options: &Options) -> Result<PromptKey, Uncacheable> {
    let mut invocation = adapter::read(request, options)?;
    rules::apply(&mut invocation, options)?;
    Ok(compose::compose(&invocation, options))
}

/// The keys that the request would have with one more opt-in rule each, and whether the rule changes something in it.
///
/// # Errors
/// As [`key`].
pub fn alternates(request: &[u8], options: &Options) -> Result<Vec<(Rule, PromptKeyId, bool)>, Uncacheable> {
    let mut plain = adapter::read(json::parse(request)?, options)?;
    rules::apply(&mut plain, options)?;
    let mut found = Vec::new();
    for rule in Rule::ALL.into_iter().filter(|rule| !options.profile.rules().contains(rule)) {
        let options = Options { profile: options.profile.clone().with(rule), ..options.clone() };
        let mut changed = plain.clone();
        // A rule that does not fit the request is no alternative.
        if rules::apply_one(rule, &mut changed, &options).is_ok() {
            let changes = changed != plain;
            found.push((rule, compose::compose(&changed, &options).id(), changes));
        }
    }
    Ok(found)
}
