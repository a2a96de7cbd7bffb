use std::ops::RangeInclusive;
use std::path::PathBuf;

use cache_types::{DigestFunction, InstanceName};

use crate::{LiveLimits, convert};

/// What a compressed upload that was read to its end is told in `committed_size`. Clients disagree. Spec: R-072.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum CommittedSize {
    /// The compressed bytes received: Bazel and Buck2.
    #[default]
    Compressed,
    /// The size of the blob: Siso and the newest SDKs.
    Uncompressed,
    /// -1, which stands for "no matter": Bazel and Buck2 again.
    MinusOne,
}

/// What holds over HTTP for the instances below a prefix, where requests cannot say it themselves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstanceRule {
    /// The instance of this name and those below it; the empty name is all of them.
    pub prefix: InstanceName,
    /// Take nothing but action results under `/ac/`. Spec: H-27.
    pub strict_ac: bool,
    /// What a hash of 64 digits is taken for first; `None` is the default of all. Spec: H-02.
    pub default_digest_function: Option<DigestFunction>,
}

impl InstanceRule {
    fn holds_for(&self, instance: &InstanceName) -> bool {
        let rest = instance.as_str().strip_prefix(self.prefix.as_str());
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.prefix.as_str().is_empty())
    }
}

/// What the services can be told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The answer to a compressed upload.
    pub committed_size: CommittedSize,
    /// What a hash of 64 digits stands for when a request names no function; `None` is SHA-256. Spec: Q-21.
    pub default_digest_function: Option<DigestFunction>,
    /// Refuse an action result whose action or command is not in the CAS. Spec: R-131.
    pub require_action_in_cas: bool,
    /// The priorities an action result may be given. Spec: R-022, field 3; R-136.
    pub priorities: RangeInclusive<i32>,
    /// The folder for what is uploaded over HTTP and of unknown size or hash, in files without names.
    pub uploads: PathBuf,
    /// Rules for instances; of those that hold for one, the longest prefix counts.
    pub instances: Vec<InstanceRule>,
    /// What peers may use.
    pub limits: LiveLimits,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            committed_size: CommittedSize::default(),
            default_digest_function: None,
            require_action_in_cas: false,
            priorities: 0..=0,
            uploads: std::env::temp_dir(),
            instances: Vec::new(),
            limits: LiveLimits::default(),
        }
    }
}

impl Settings {
    /// The function an undeclared hash of this many digits stands for. Spec: R-003.
    pub(crate) fn infer(&self, hex_len: usize) -> Option<DigestFunction> {
        convert::infer(self.default_digest_function, hex_len)
    }

    /// The rule of an instance, if there is one.
    fn rule(&self, instance: &InstanceName) -> Option<&InstanceRule> {
        let holding = self.instances.iter().filter(|rule| rule.holds_for(instance));
        holding.max_by_key(|rule| rule.prefix.as_str().len())
    }

    /// As [`Self::infer`], for a path of HTTP. Spec: H-02.
    pub(crate) fn infer_in(&self, instance: &InstanceName, hex_len: usize) -> Option<DigestFunction> {
        let preferred = self.rule(instance).and_then(|rule| rule.default_digest_function);
        preferred.filter(|function| function.hash_len() * 2 == hex_len).or_else(|| self.infer(hex_len))
    }

    /// Whether `/ac/` of this instance takes action results alone. Spec: H-27.
    pub(crate) fn is_strict(&self, instance: &InstanceName) -> bool {
        self.rule(instance).is_some_and(|rule| rule.strict_ac)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_of_whole_segments_counts() {
        let rule = |prefix: &str, strict_ac, default_digest_function| InstanceRule {
            prefix: InstanceName::parse(prefix).expect("a name"),
            strict_ac,
            default_digest_function,
        };
        let blake3 = Some(DigestFunction::Blake3);
        let rules = vec![rule("", true, None), rule("team/a", false, blake3), rule("team", true, blake3)];
        let settings = Settings { instances: rules, ..Settings::default() };
        for (name, strict, function) in [
            ("", true, DigestFunction::Sha256),
            ("other", true, DigestFunction::Sha256),
            ("team", true, DigestFunction::Blake3),
            ("teams", true, DigestFunction::Sha256),
            ("team/a/x", false, DigestFunction::Blake3),
        ] {
            let instance = InstanceName::parse(name).expect("a name");
            assert_eq!(
                (settings.is_strict(&instance), settings.infer_in(&instance, 64)),
                (strict, Some(function)),
                "{name}"
            );
            assert_eq!(settings.infer_in(&instance, 40), Some(DigestFunction::Sha1));
        }
        assert!(!Settings::default().is_strict(&InstanceName::default()));
    }
}
