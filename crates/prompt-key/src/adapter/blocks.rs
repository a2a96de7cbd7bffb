use std::collections::HashMap;

use super::fields::Fields;
use super::malformed;
use crate::json::Object;
use crate::{Json, Link, Uncacheable};

/// New names of the ids that tie a tool's result to its call: `t0`, `t1`, … by first use, a reference to nothing among
/// them, so that the renaming is one to one. Spec: prompt-key §4.
#[derive(Default)]
pub(super) struct Ids(HashMap<String, String>);

impl Ids {
    /// Renames the id that a member of the object holds, if it is there.
    pub(super) fn rename(&mut self, fields: &mut Fields, name: &str) -> Result<(), Uncacheable> {
        match fields.get(name) {
            None | Some(Json::Null) => Ok(()),
            Some(Json::String(id)) => {
                let next = format!("t{}", self.0.len());
                let renamed = self.0.entry(id.clone()).or_insert(next).clone();
                fields.set(name, renamed.into());
                Ok(())
            }
            Some(_) => Err(malformed(format!("`{name}` is no string"))),
        }
    }
}

/// The block that a string stands for where blocks are allowed.
pub(super) fn text(text: String) -> Json {
    Json::from([("type", "text".into()), ("text", text.into())])
}

/// Blocks from a string or an array of objects.
pub(super) fn of(content: Json, what: &str) -> Result<Vec<Json>, Uncacheable> {
    match content {
        Json::String(string) => Ok(vec![text(string)]),
        Json::Array(blocks) if blocks.iter().all(|block| block.as_object().is_some()) => Ok(blocks),
        Json::Array(_) => Err(malformed(format!("{what} holds what is no block"))),
        _ => Err(malformed(format!("{what} is neither a string nor an array"))),
    }
}

/// A block of the Messages API, normalised, and those inside it: cache markers go, tool ids are renamed, a string where
/// blocks are allowed is a block, a tool result says whether it is an error. Spec: prompt-key §2.
pub(super) fn normalise(block: Json, ids: &mut Ids) -> Result<Json, Uncacheable> {
    let mut fields = Fields::of(block, "a content block")?;
    fields.drop(&["cache_control"]);
    match fields.get("type").and_then(Json::as_str) {
        Some("tool_use") => ids.rename(&mut fields, "id")?,
        Some("tool_result") => {
            ids.rename(&mut fields, "tool_use_id")?;
            normalise_content(&mut fields, ids)?;
            if fields.get("is_error").is_none() {
                fields.set("is_error", Json::Bool(false));
            }
        }
        Some("search_result") if matches!(fields.get("content"), Some(Json::Array(_))) => {
            normalise_content(&mut fields, ids)?;
        }
        Some("document") => normalise_source(&mut fields, ids)?,
        _ => {}
    }
    Ok(Json::Object(fields.rest()))
}

/// Normalises the member `content`, if it is there.
fn normalise_content(fields: &mut Fields, ids: &mut Ids) -> Result<(), Uncacheable> {
    let Some(content) = fields.take("content") else { return Ok(()) };
    let content = match content {
        Json::Null => Json::Null,
        content => {
            let blocks = of(content, "the content of a block")?;
            Json::Array(blocks.into_iter().map(|block| normalise(block, ids)).collect::<Result<_, _>>()?)
        }
    };
    fields.set("content", content);
    Ok(())
}

/// A document may be made of blocks, which bear cache markers too. A string there is left as it is.
fn normalise_source(fields: &mut Fields, ids: &mut Ids) -> Result<(), Uncacheable> {
    let Some(Json::Object(source)) = fields.get("source") else { return Ok(()) };
    let is_blocks = source.get("type").and_then(Json::as_str) == Some("content")
        && matches!(source.get("content"), Some(Json::Array(_)));
    if is_blocks {
        let mut source = Fields::of(Json::Object(source.clone()), "the source of a document")?;
        normalise_content(&mut source, ids)?;
        fields.set("source", Json::Object(source.rest()));
    }
    Ok(())
}

/// The links of the messages of the Messages API.
///
/// Two turns of one role and one turn with the blocks of both are the same, as the API documents. A turn without blocks
/// is a link of its own.
pub(super) fn messages(messages: Vec<Json>, ids: &mut Ids) -> Result<Vec<Link>, Uncacheable> {
    let mut links = Vec::new();
    for message in messages {
        let mut fields = Fields::of(message, "a message")?;
        let role = fields.take_string("role")?.ok_or_else(|| malformed("a message has no role"))?;
        let content = fields.take("content").ok_or_else(|| malformed("a message has no content"))?;
        fields.drop(&["cache_control"]);
        let blocks = of(content, "the content of a message")?;
        let blocks = blocks.into_iter().map(|block| normalise(block, ids)).collect::<Result<Vec<_>, _>>()?;
        links.extend(self::links(&role.into(), blocks, &fields.rest(), Boundaries::Meaningless));
    }
    Ok(links)
}

/// Whether the border between two messages of one role says something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Boundaries {
    /// The API documents that it does not.
    Meaningless,
    /// It may.
    Kept,
}

/// The links of one message: one for each block, and one for a message without any.
pub(super) fn links(role: &Json, blocks: Vec<Json>, message: &Object, boundaries: Boundaries) -> Vec<Link> {
    let blocks = if blocks.is_empty() { vec![Json::Null] } else { blocks };
    let link = |(index, block)| Link {
        role: role.clone(),
        block,
        message: message.clone(),
        continues: index > 0 && boundaries == Boundaries::Kept,
    };
    blocks.into_iter().enumerate().map(link).collect()
}
