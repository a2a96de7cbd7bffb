//! Opt-in rules: each normalises what may matter, so a caller names it, and its name is a part of the key. Spec: prompt-key §4.

mod defaults;
mod masks;
mod texts;
mod tools;

use std::fmt;
use std::str::FromStr;

pub use self::masks::Masks;
use crate::{Invocation, Json, Options, Uncacheable};

/// A named, versioned rule that is off unless asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// Tools with `defer_loading` that no `tool_reference` names are left out.
    DropDeferredTools,
    /// Thinking signatures and encrypted reasoning are left out.
    DropSignatures,
    /// A field that says its default is left out.
    ExplicitDefaults,
    /// Dates in date lines become `⟨date⟩`. Its keys are good for a day.
    MaskDate,
    /// Platform, operating system and shell lines of the environment block become placeholders.
    MaskEnv,
    /// The block of git status and recent commits becomes `⟨git⟩`. Its keys need a tree or a read-set.
    MaskGit,
    /// Given paths become placeholders, in system, messages and tool results.
    MaskPaths,
    /// Line ends, trailing space and Unicode composition of system and user text are made one.
    NormaliseText,
}

impl Rule {
    /// All of them, in order of their names.
    pub const ALL: [Self; 8] = [
        Self::DropDeferredTools,
        Self::DropSignatures,
        Self::ExplicitDefaults,
        Self::MaskDate,
        Self::MaskEnv,
        Self::MaskGit,
        Self::MaskPaths,
        Self::NormaliseText,
    ];

    /// The rule's name and version.
    pub fn name(self) -> &'static str {
        match self {
            Self::DropDeferredTools => "drop-deferred-tools@1",
            Self::DropSignatures => "drop-signatures@1",
            Self::ExplicitDefaults => "explicit-defaults@1",
            Self::MaskDate => "mask-date@1",
            Self::MaskEnv => "mask-env@1",
            Self::MaskGit => "mask-git@1",
            Self::MaskPaths => "mask-paths@1",
            Self::NormaliseText => "normalise-text@1",
        }
    }
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Rule {
    type Err = RuleError;

    fn from_str(name: &str) -> Result<Self, RuleError> {
        Self::ALL.into_iter().find(|rule| rule.name() == name).ok_or_else(|| RuleError::Unknown(name.to_owned()))
    }
}

/// Why a rule, or what it is given, was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// No rule has this name.
    #[error("no rule is called `{0}`; there are {names}", names = Rule::ALL.map(Rule::name).join(", "))]
    Unknown(String),
    /// A path too short to tell from other text.
    #[error("the path `{0}` is shorter than 6 bytes")]
    Short(String),
    /// A placeholder name of other characters.
    #[error("`{0}` is no name for a placeholder: lower-case letters, digits and -")]
    Name(String),
    /// Two masks with one name or one path: the way back would be a guess.
    #[error("two masks share `{0}`")]
    Ambiguous(String),
}

/// Applies the rules of the profile.
pub(crate) fn apply(invocation: &mut Invocation, options: &Options) -> Result<(), Uncacheable> {
    options.profile.rules().iter().try_for_each(|rule| apply_one(*rule, invocation, options))
}

/// Applies one rule.
pub(crate) fn apply_one(rule: Rule, invocation: &mut Invocation, options: &Options) -> Result<(), Uncacheable> {
    match rule {
        Rule::DropDeferredTools => tools::drop_deferred(invocation),
        Rule::DropSignatures => tools::drop_signatures(invocation),
        Rule::ExplicitDefaults => defaults::drop(invocation, options.api),
        Rule::MaskDate => texts::mask(invocation, rule, texts::date)?,
        Rule::MaskEnv => texts::mask(invocation, rule, texts::env)?,
        Rule::MaskGit => texts::mask(invocation, rule, texts::git)?,
        Rule::MaskPaths => options.masks.apply(invocation)?,
        Rule::NormaliseText => texts::normalise(invocation),
    }
    Ok(())
}

/// A text without what a rule masks.
type MaskText = fn(&str) -> String;

/// The rules that mask lines of a text, and how.
pub(crate) fn by_line() -> [(Rule, MaskText); 3] {
    [(Rule::MaskDate, texts::date), (Rule::MaskEnv, texts::env), (Rule::MaskGit, texts::git)]
}

/// Every string of a value but the names of members.
fn strings(value: &mut Json, visit: &mut impl FnMut(&mut String)) {
    match value {
        Json::String(text) => visit(text),
        Json::Array(items) => items.iter_mut().for_each(|item| strings(item, visit)),
        Json::Object(members) => members.values_mut().for_each(|value| strings(value, visit)),
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// Every string of the system blocks and the messages.
fn all_strings(invocation: &mut Invocation, visit: &mut impl FnMut(&mut String)) {
    invocation.system.iter_mut().for_each(|block| strings(block, visit));
    invocation.links.iter_mut().for_each(|link| strings(&mut link.block, visit));
}

/// Refuses a request that holds a placeholder already: the way back would change it.
fn refuse_placeholder(invocation: &mut Invocation, rule: Rule, placeholders: &[String]) -> Result<(), Uncacheable> {
    let mut found = None;
    all_strings(invocation, &mut |text| {
        found = found
            .take()
            .or_else(|| placeholders.iter().find(|placeholder| text.contains(placeholder.as_str())).cloned());
    });
    match found {
        None => Ok(()),
        Some(placeholder) => {
            Err(Uncacheable::Rule { rule: rule.name(), why: format!("the request holds the text {placeholder}") })
        }
    }
}

#[cfg(test)]
mod tests;
