use super::blocks::{self, Boundaries, Ids};
use super::fields::Fields;
use super::openai_chat::take_tool_fields;
use super::{malformed, model, openai, tools};
use crate::json::Object;
use crate::{Invocation, Json, Link, Options, Uncacheable};

/// Fields that refer to state at the provider.
const OUTSIDE: &[&str] = &["previous_response_id", "conversation", "prompt"];
/// Fields of the `tools` component beside the choice.
const TOOL_FIELDS: &[&str] = &["parallel_tool_calls", "max_tool_calls"];

/// Reads a request of OpenAI Responses.
pub(super) fn read(mut fields: Fields, options: &Options) -> Result<Invocation, Uncacheable> {
    fields.refuse_outside(OUTSIDE)?;
    // A stored response has an id that the caller may ask for later; a replayed one does not exist there.
    if fields.get("store") != Some(&Json::Bool(false)) {
        return Err(Uncacheable::NotReplayable("store".to_owned()));
    }
    if fields.holds("background") && fields.get("background") != Some(&Json::Bool(false)) {
        return Err(Uncacheable::NotReplayable("background".to_owned()));
    }
    fields.drop(openai::DROPPED);
    fields.drop(&["background_options"]);
    let model = model::take(&mut fields, options)?;
    let speed = model::take_speed(&mut fields)?;
    let given = fields.take_array("tools")?.into_iter().map(openai::tool).collect::<Result<_, _>>()?;
    let tool_fields = take_tool_fields(&mut fields, TOOL_FIELDS);
    let system = match fields.take_some("instructions") {
        None => Vec::new(),
        Some(instructions) => blocks::of(instructions, "`instructions`")?,
    };
    Ok(Invocation {
        model,
        speed,
        tool_choice: fields.take_some("tool_choice"),
        tool_fields,
        tools: tools::sorted(given)?,
        system,
        links: input(&mut fields)?,
        seed: fields.take("seed").unwrap_or(Json::Null),
        slot: options.slot,
        generation: fields.rest(),
    })
}

fn input(fields: &mut Fields) -> Result<Vec<Link>, Uncacheable> {
    let mut ids = Ids::default();
    match fields.take_some("input") {
        None => Ok(Vec::new()),
        // Documented as a text input with the user role.
        Some(Json::String(text)) => {
            Ok(blocks::links(&"user".into(), vec![blocks::text(text)], &Object::new(), Boundaries::Kept))
        }
        Some(Json::Array(items)) => {
            let links = items.into_iter().map(|item| self::item(item, &mut ids)).collect::<Result<Vec<_>, _>>()?;
            Ok(links.into_iter().flatten().collect())
        }
        Some(_) => Err(malformed("`input` is neither a string nor an array")),
    }
}

/// The links of one item: a message has one for each part, anything else is one block without a role.
fn item(item: Json, ids: &mut Ids) -> Result<Vec<Link>, Uncacheable> {
    let mut fields = Fields::of(openai::unmark(item, "an input item")?, "an input item")?;
    let kind = fields.get("type").and_then(Json::as_str);
    let is_message = fields.holds("role");
    if kind == Some("item_reference") || (kind.is_none() && !is_message) {
        return Err(Uncacheable::Outside("item_reference".to_owned()));
    }
    if !is_message {
        ids.rename(&mut fields, "call_id")?;
        let block = Json::Object(fields.rest());
        return Ok(blocks::links(&Json::Null, vec![block], &Object::new(), Boundaries::Kept));
    }
    let role = fields.take_string("role")?.ok_or_else(|| malformed("a message has no role"))?;
    let content = fields.take("content").ok_or_else(|| malformed("a message has no content"))?;
    let blocks = blocks::of(content, "the content of a message")?;
    let blocks = blocks.into_iter().map(|part| openai::unmark(part, "a content part").map(plain));
    let blocks = blocks.collect::<Result<_, _>>()?;
    Ok(blocks::links(&role.into(), blocks, &fields.rest(), Boundaries::Kept))
}

/// A part that is input text and nothing else is what a string in its place is.
fn plain(part: Json) -> Json {
    let is_input_text = part.get("type").and_then(Json::as_str) == Some("input_text");
    match (&part, part.get("text")) {
        (Json::Object(members), Some(Json::String(text))) if is_input_text && members.len() == 2 => {
            blocks::text(text.clone())
        }
        _ => part,
    }
}
