use std::collections::BTreeSet;

use crate::{Invocation, Json};

/// Leaves out tools that are loaded only when a `tool_reference` names them and that none names.
pub(super) fn drop_deferred(invocation: &mut Invocation) {
    let mut named = BTreeSet::new();
    invocation.links.iter().for_each(|link| references(&link.block, &mut named));
    invocation.tools.retain(|tool| {
        tool.definition.get("defer_loading") != Some(&Json::Bool(true)) || named.contains(tool.name.as_str())
    });
}

fn references(value: &Json, named: &mut BTreeSet<String>) {
    match value {
        Json::Array(items) => items.iter().for_each(|item| references(item, named)),
        Json::Object(members) => {
            if members.get("type").and_then(Json::as_str) == Some("tool_reference")
                && let Some(name) = members.get("tool_name").and_then(Json::as_str)
            {
                named.insert(name.to_owned());
            }
            members.values().for_each(|value| references(value, named));
        }
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => {}
    }
}

/// Leaves out what proves to the provider that a thought is its own.
pub(super) fn drop_signatures(invocation: &mut Invocation) {
    for link in &mut invocation.links {
        let Json::Object(block) = &mut link.block else { continue };
        let proofs: &[&str] = match block.get("type").and_then(Json::as_str) {
            Some("thinking") => &["signature"],
            Some("redacted_thinking") => &["data"],
            Some("reasoning") => &["encrypted_content"],
            None => &["thoughtSignature", "thought_signature"],
            Some(_) => &[],
        };
        block.retain(|name, _| !proofs.contains(&name.as_str()));
    }
}
