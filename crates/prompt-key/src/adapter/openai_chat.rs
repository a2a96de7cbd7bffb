use std::collections::BTreeMap;

use super::blocks::{self, Boundaries, Ids};
use super::fields::Fields;
use super::{malformed, model, openai, tools};
use crate::{Invocation, Json, Link, Options, Tool, Uncacheable};

/// Fields whose answer depends on more than the request, or is no text.
const NOT_REPLAYABLE: &[&str] = &["web_search_options", "audio"];
/// Fields of the `tools` component beside the choice.
const TOOL_FIELDS: &[&str] = &["parallel_tool_calls", "function_call"];

/// Reads a request of OpenAI Chat Completions.
pub(super) fn read(mut fields: Fields, options: &Options) -> Result<Invocation, Uncacheable> {
    if let Some(field) = NOT_REPLAYABLE.iter().find(|field| fields.holds(field)) {
        return Err(Uncacheable::NotReplayable((*field).to_owned()));
    }
    fields.drop(openai::DROPPED);
    let model = model::take(&mut fields, options)?;
    let speed = model::take_speed(&mut fields)?;
    let links = messages(fields.take_array("messages")?)?;
    let tools = tools(&mut fields)?;
    let tool_fields = take_tool_fields(&mut fields, TOOL_FIELDS);
    Ok(Invocation {
        model,
        speed,
        tool_choice: fields.take_some("tool_choice"),
        tool_fields,
        tools: tools::sorted(tools)?,
        system: system(&links),
        links,
        seed: fields.take("seed").unwrap_or(Json::Null),
        slot: options.slot,
        generation: fields.rest(),
    })
}

/// Takes the fields of the `tools` component that are there.
pub(super) fn take_tool_fields(fields: &mut Fields, names: &[&str]) -> BTreeMap<String, Json> {
    names.iter().filter_map(|name| Some(((*name).to_owned(), fields.take(name)?))).collect()
}

/// Tools, and functions as they were before there were tools.
fn tools(fields: &mut Fields) -> Result<Vec<Tool>, Uncacheable> {
    let mut tools = fields.take_array("tools")?.into_iter().map(openai::tool).collect::<Result<Vec<_>, _>>()?;
    for function in fields.take_array("functions")? {
        let name = tools::name(function.get("name"))?;
        tools.push(Tool { name, definition: Json::from([("functions", function)]) });
    }
    Ok(tools)
}

/// The blocks of the leading system and developer messages, which stay in the chain too. Spec: prompt-key §3.
fn system(links: &[Link]) -> Vec<Json> {
    let leading = links.iter().take_while(|link| matches!(link.role.as_str(), Some("system" | "developer")));
    leading.map(|link| link.block.clone()).collect()
}

fn messages(messages: Vec<Json>) -> Result<Vec<Link>, Uncacheable> {
    let mut ids = Ids::default();
    let mut links = Vec::new();
    for message in messages {
        let mut fields = Fields::of(openai::unmark(message, "a message")?, "a message")?;
        let role = fields.take_string("role")?.ok_or_else(|| malformed("a message has no role"))?;
        let mut blocks = Vec::new();
        if let Some(content) = fields.take_some("content") {
            for part in blocks::of(content, "the content of a message")? {
                blocks.push(openai::unmark(part, "a content part")?);
            }
        }
        for call in fields.take_array("tool_calls")? {
            let mut call = Fields::of(call, "a tool call")?;
            ids.rename(&mut call, "id")?;
            blocks.push(Json::from([("tool_call", Json::Object(call.rest()))]));
        }
        ids.rename(&mut fields, "tool_call_id")?;
        links.extend(blocks::links(&role.into(), blocks, &fields.rest(), Boundaries::Kept));
    }
    Ok(links)
}
