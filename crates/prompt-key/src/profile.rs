use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use crate::{Rule, RuleError};

/// Profiles whose rules this build knows.
const KNOWN: &[(&str, u32)] = &[("base", 1), ("claude-code", 1)];

/// A normaliser profile with the opt-in rules that are added to it: `base@1`, `claude-code@1+mask-date@1`.
///
/// Its text is a part of the key, so keys made with other rules never meet. Spec: prompt-key §2, §4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    name: String,
    version: u32,
    rules: BTreeSet<Rule>,
}

impl Default for Profile {
    fn default() -> Self {
        Self { name: "base".to_owned(), version: 1, rules: BTreeSet::new() }
    }
}

impl Profile {
    /// The profile with one more rule.
    pub fn with(mut self, rule: Rule) -> Self {
        self.rules.insert(rule);
        self
    }

    /// The opt-in rules, in order of their names.
    pub fn rules(&self) -> &BTreeSet<Rule> {
        &self.rules
    }

    /// Whether this build knows the rules of the profile. A key of another can be computed and compared, and must not be
    /// recorded: who knows the profile may make it otherwise.
    pub fn is_known(&self) -> bool {
        KNOWN.contains(&(self.name.as_str(), self.version))
    }

    /// Whether its keys may be used only beside a base tree or a read-set.
    pub fn needs_tree(&self) -> bool {
        self.rules.contains(&Rule::MaskGit)
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.name, self.version)?;
        self.rules.iter().try_for_each(|rule| write!(f, "+{rule}"))
    }
}

impl FromStr for Profile {
    type Err = ProfileError;

    /// Reads `NAME@VERSION`, then `+RULE` for each opt-in rule.
    fn from_str(text: &str) -> Result<Self, ProfileError> {
        let mut parts = text.split('+');
        let (name, version) = parts.next().and_then(|base| base.split_once('@')).ok_or(ProfileError::Form)?;
        let is_name = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        let is_version = version.bytes().all(|byte| byte.is_ascii_digit()) && !version.starts_with('0');
        if !is_name || !is_version {
            return Err(ProfileError::Form);
        }
        let version = version.parse().map_err(|_| ProfileError::Form)?;
        let rules = parts.map(Rule::from_str).collect::<Result<_, RuleError>>()?;
        Ok(Self { name: name.to_owned(), version, rules })
    }
}

/// Why a text is no profile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// Neither a name nor a version.
    #[error("a profile is written NAME@VERSION, such as base@1, then +RULE for each opt-in rule")]
    Form,
    /// No such rule.
    #[error(transparent)]
    Rule(#[from] RuleError),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_is_written_as_it_is_read_rules_in_order() {
        let profile: Profile = "claude-code@1+mask-git@1+mask-date@1".parse().expect("a profile");
        assert_eq!(profile.to_string(), "claude-code@1+mask-date@1+mask-git@1");
        assert!(profile.is_known() && profile.needs_tree());
        assert_eq!(Profile::default().to_string(), "base@1");
    }

    #[test]
    fn an_unknown_version_is_read_and_not_known() {
        assert!(!"base@2".parse::<Profile>().expect("a profile").is_known());
        for text in [
            "",
            "base",
            "base@",
            "base@x",
            "base@01",
            "@1",
            "Base@1",
            "base@1+",
            "base@1+nothing@1",
            "base@99999999999",
        ] {
            assert!(text.parse::<Profile>().is_err(), "{text}");
        }
    }
}
