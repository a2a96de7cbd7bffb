use std::collections::BTreeMap;

use super::blocks::{self, Boundaries, Ids};
use super::fields::Fields;
use super::{malformed, model, tools};
use crate::{Invocation, Json, Link, Options, Tool, Uncacheable};

/// The two spellings of each field of a request that proto JSON allows.
const SPELLINGS: &[(&str, &str)] = &[
    ("systemInstruction", "system_instruction"),
    ("toolConfig", "tool_config"),
    ("generationConfig", "generation_config"),
    ("safetySettings", "safety_settings"),
    ("cachedContent", "cached_content"),
    ("httpOptions", "http_options"),
];

/// Reads a request of Gemini generateContent. The model is in the path, so the options name it.
pub(super) fn read(mut fields: Fields, options: &Options) -> Result<Invocation, Uncacheable> {
    for (camel, snake) in SPELLINGS {
        fields.rename(camel, snake)?;
    }
    fields.refuse_outside(&["cached_content"])?;
    fields.drop(&["labels", "http_options"]);
    let model = model::take(&mut fields, options)?;
    let tools = fields.take_array("tools")?.into_iter().map(self::tools).collect::<Result<Vec<_>, _>>()?;
    let seed = take_seed(&mut fields)?;
    let mut ids = Ids::default();
    Ok(Invocation {
        model,
        speed: model::take_speed(&mut fields)?,
        tool_choice: fields.take_some("tool_config"),
        tool_fields: BTreeMap::new(),
        tools: tools::sorted(tools.into_iter().flatten().collect())?,
        system: system(&mut fields)?,
        links: contents(fields.take_array("contents")?, &mut ids)?,
        seed,
        slot: options.slot,
        generation: fields.rest(),
    })
}

/// The seed, which is among the generation options.
fn take_seed(fields: &mut Fields) -> Result<Json, Uncacheable> {
    let Some(config) = fields.take_some("generation_config") else { return Ok(Json::Null) };
    let mut config = Fields::of(config, "`generation_config`")?;
    let seed = config.take("seed").unwrap_or(Json::Null);
    fields.set("generation_config", Json::Object(config.rest()));
    Ok(seed)
}

/// The functions that one element of `tools` declares. Every other kind of tool runs at the provider.
fn tools(element: Json) -> Result<Vec<Tool>, Uncacheable> {
    let mut fields = Fields::of(element, "an element of `tools`")?;
    fields.rename("functionDeclarations", "function_declarations")?;
    let declared = fields.take_array("function_declarations")?;
    if let Some(other) = fields.rest().keys().next() {
        return Err(Uncacheable::ServerTool(other.clone()));
    }
    let tool = |definition: Json| Ok(Tool { name: tools::name(definition.get("name"))?, definition });
    declared.into_iter().map(tool).collect()
}

/// A content's parts, and what else it says.
fn parts(content: Json) -> Result<(Vec<Json>, Fields), Uncacheable> {
    let mut fields = Fields::of(content, "a content")?;
    match fields.take_some("parts") {
        None => Ok((Vec::new(), fields)),
        Some(Json::Array(parts)) => Ok((parts, fields)),
        Some(_) => Err(malformed("`parts` is no array")),
    }
}

fn system(fields: &mut Fields) -> Result<Vec<Json>, Uncacheable> {
    let Some(content) = fields.take_some("system_instruction") else { return Ok(Vec::new()) };
    let (mut blocks, rest) = parts(content)?;
    let rest = rest.rest();
    if !rest.is_empty() {
        blocks.push(Json::from([("system_instruction", Json::Object(rest))]));
    }
    Ok(blocks)
}

fn contents(contents: Vec<Json>, ids: &mut Ids) -> Result<Vec<Link>, Uncacheable> {
    let mut links = Vec::new();
    for content in contents {
        let (parts, mut fields) = parts(content)?;
        let role = fields.take("role").unwrap_or(Json::Null);
        let parts = parts.into_iter().map(|part| self::part(part, ids)).collect::<Result<_, _>>()?;
        links.extend(blocks::links(&role, parts, &fields.rest(), Boundaries::Kept));
    }
    Ok(links)
}

/// A part, with one spelling for calls and responses and their ids renamed.
fn part(part: Json, ids: &mut Ids) -> Result<Json, Uncacheable> {
    let mut fields = Fields::of(part, "a part")?;
    fields.rename("functionCall", "function_call")?;
    fields.rename("functionResponse", "function_response")?;
    for name in ["function_call", "function_response"] {
        if let Some(value) = fields.take_some(name) {
            let mut value = Fields::of(value, name)?;
            ids.rename(&mut value, "id")?;
            fields.set(name, Json::Object(value.rest()));
        }
    }
    Ok(Json::Object(fields.rest()))
}
