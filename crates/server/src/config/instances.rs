use std::collections::BTreeMap;

use cache_types::{DigestFunction, InstanceName};
use reapi::InstanceRule;

use super::{Fault, RawInstance};

/// The digits of the hashes that a function can be chosen for.
const HASH_LEN: usize = 32;

/// Checks the rules of instances.
pub(super) fn check(raw: &BTreeMap<String, RawInstance>, faults: &mut Vec<Fault>) -> Vec<InstanceRule> {
    let mut rules = Vec::new();
    for (prefix, rule) in raw {
        let key = format!("instances.{prefix:?}");
        let name = rule.default_digest_function.as_deref();
        let default_digest_function = function(&format!("{key}.default_digest_function"), name, faults);
        match InstanceName::parse(prefix) {
            Ok(prefix) => rules.push(InstanceRule { prefix, strict_ac: rule.strict_ac, default_digest_function }),
            Err(error) => faults.push(Fault::new(key, error)),
        }
    }
    rules
}

/// The function of this name, if it makes hashes of 64 digits.
pub(super) fn function(key: &str, name: Option<&str>, faults: &mut Vec<Fault>) -> Option<DigestFunction> {
    let name = name?;
    let found = DigestFunction::from_name(name).filter(|function| function.hash_len() == HASH_LEN);
    if found.is_none() {
        let all = DigestFunction::ALL.into_iter().filter(|function| function.hash_len() == HASH_LEN);
        let names: Vec<&str> = all.map(DigestFunction::name).collect();
        faults.push(Fault::new(key, format!("{name:?} is none of {}", names.join(", "))));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_are_checked_and_every_fault_is_told() {
        let rule = |function: Option<&str>| RawInstance {
            strict_ac: true,
            default_digest_function: function.map(str::to_owned),
        };
        let raw = [("team/a", rule(Some("blake3"))), ("x/blobs/y", rule(None)), ("b", rule(Some("sha1")))];
        let raw = raw.map(|(name, rule)| (name.to_owned(), rule)).into();
        let mut faults = Vec::new();
        let rules = check(&raw, &mut faults);
        let good = rules.iter().find(|rule| rule.prefix.as_str() == "team/a").expect("a rule");
        assert!(good.strict_ac && good.default_digest_function == Some(DigestFunction::Blake3));
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["instances.\"b\".default_digest_function", "instances.\"x/blobs/y\""]);
    }
}
