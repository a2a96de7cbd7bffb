use std::collections::BTreeSet;

use crate::json::Object;
use crate::{Components, FieldDigest, Invocation, Json, KeyDigest, Link, Options, PromptKey, Tool, ToolDigest, hash};

/// Beta flags that change no answer. Spec: prompt-key §2.
const MEANINGLESS_BETAS: &[&str] =
    &["prompt-caching-2024-07-31", "cache-diagnosis-2026-04-07", "extended-cache-ttl-2025-04-11"];

/// Hashes a normalised invocation. Spec: prompt-key §2, "Exact composition".
pub(crate) fn compose(invocation: &Invocation, options: &Options) -> PromptKey {
    let tools: Vec<ToolDigest> = invocation.tools.iter().map(tool).collect();
    let system: Vec<KeyDigest> = invocation.system.iter().map(|block| hash_json("sysblock", block)).collect();
    let generation = Json::Object(invocation.generation.clone());
    let (tools_component, tool_fields) = tools_component(invocation, &tools);
    let components = Components([
        namespace(options),
        hash("profile", [options.profile.to_string().as_bytes()]),
        api(options),
        hash("model", [invocation.model.as_bytes(), invocation.speed.as_bytes()]),
        tools_component,
        hash("system", system.iter().map(raw)),
        hash_json("gen", &generation),
        hash("seed", [invocation.seed.canonical().as_slice(), &invocation.slot.to_le_bytes()]),
    ]);
    let [ns, profile, api, model, tools_digest, system_digest, ..] = &components.0;
    let root = hash("root", [ns, profile, api, model, tools_digest, system_digest].map(raw));
    let first_turn = invocation.first_turn_end();
    let said = chain(hash("messages", []), &invocation.links);
    PromptKey {
        components,
        chain: chain(root, &invocation.links),
        first_turn,
        messages: said.last().copied().unwrap_or(root),
        opening: first_turn.and_then(|end| said.get(end).copied()),
        model: invocation.model.clone(),
        slot: invocation.slot,
        tools,
        tool_fields,
        system,
        generation: fields(&invocation.generation),
    }
}

fn raw(digest: &KeyDigest) -> &[u8] {
    digest.as_bytes()
}

fn hash_json(tag: &str, value: &Json) -> KeyDigest {
    hash(tag, [value.canonical().as_slice()])
}

fn namespace(options: &Options) -> KeyDigest {
    let parts = [&options.tenant, &options.namespace];
    hash("ns", parts.into_iter().chain(&options.data_geo).map(String::as_bytes))
}

fn api(options: &Options) -> KeyDigest {
    let betas: BTreeSet<&str> = options
        .betas
        .iter()
        .flat_map(|header| header.split(','))
        .map(str::trim)
        .filter(|beta| !beta.is_empty() && !MEANINGLESS_BETAS.contains(beta))
        .collect();
    let parts = [options.api.name(), options.api_version.as_str()].into_iter().chain(betas);
    hash("api", parts.map(str::as_bytes))
}

fn fields(object: &Object) -> Vec<FieldDigest> {
    object.iter().map(|(name, value)| FieldDigest { name: name.clone(), digest: hash_json("field", value) }).collect()
}

fn tool(tool: &Tool) -> ToolDigest {
    ToolDigest {
        name: tool.name.clone(),
        digest: hash_json("tool", &tool.definition),
        fields: tool.definition.as_object().map(fields).unwrap_or_default(),
    }
}

/// The component, and the digests of what it holds beside tools. Fields beyond the choice are parts of their own kind, so
/// that none is taken for a tool.
fn tools_component(invocation: &Invocation, tools: &[ToolDigest]) -> (KeyDigest, Vec<FieldDigest>) {
    let choice = invocation.tool_choice.clone().unwrap_or_else(|| Json::from([("type", "auto".into())]));
    let others = invocation.tool_fields.iter().map(|(name, value)| {
        let digest = hash("toolfield", [name.as_bytes(), value.canonical().as_slice()]);
        FieldDigest { name: name.clone(), digest }
    });
    let others: Vec<FieldDigest> = others.collect();
    let canonical = choice.canonical();
    let parts = [canonical.as_slice()].into_iter();
    let parts = parts.chain(others.iter().map(|field| raw(&field.digest)));
    let component = hash("tools", parts.chain(tools.iter().map(|tool| raw(&tool.digest))));
    let mut all = vec![FieldDigest { name: "tool_choice".to_owned(), digest: hash_json("field", &choice) }];
    all.extend(others);
    (component, all)
}

fn chain(root: KeyDigest, links: &[Link]) -> Vec<KeyDigest> {
    let mut at = root;
    let mut chain = Vec::with_capacity(links.len() + 1);
    chain.push(at);
    for link in links {
        at = hash("msg", [raw(&at), said(link).canonical().as_slice()]);
        chain.push(at);
    }
    chain
}

/// What one link says, as it is hashed.
fn said(link: &Link) -> Json {
    let mut said = Object::from([("role".to_owned(), link.role.clone()), ("block".to_owned(), link.block.clone())]);
    if !link.message.is_empty() {
        said.insert("message".to_owned(), Json::Object(link.message.clone()));
    }
    if link.continues {
        said.insert("continues".to_owned(), Json::Bool(true));
    }
    Json::Object(said)
}
