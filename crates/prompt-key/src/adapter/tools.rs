use super::fields::Fields;
use super::malformed;
use crate::{Json, Tool, Uncacheable};

/// Typed tools that the client executes. Any other typed tool may run at the provider. Spec: prompt-key §3.
const CLIENT_TYPES: &[&str] = &["apply_patch", "local_shell"];
const CLIENT_PREFIXES: &[&str] = &["bash_", "text_editor_", "memory_", "computer_"];

/// Refuses a type of tool that is not known to be executed by the client.
pub(super) fn check_client_type(kind: &str) -> Result<(), Uncacheable> {
    let is_known = CLIENT_TYPES.contains(&kind) || CLIENT_PREFIXES.iter().any(|prefix| kind.starts_with(prefix));
    if is_known { Ok(()) } else { Err(Uncacheable::ServerTool(kind.to_owned())) }
}

/// Sorts tools by name and refuses two of one name. Spec: prompt-key §2, §4.
pub(super) fn sorted(mut tools: Vec<Tool>) -> Result<Vec<Tool>, Uncacheable> {
    tools.sort_by(|a, b| a.name.cmp(&b.name));
    match tools.windows(2).find(|pair| matches!(pair, [a, b] if a.name == b.name)) {
        Some(pair) => {
            Err(Uncacheable::DuplicateTool(pair.iter().map(|tool| tool.name.clone()).next().unwrap_or_default()))
        }
        None => Ok(tools),
    }
}

/// A tool of the Messages API or of the neutral form.
pub(super) fn of_messages(tool: Json) -> Result<Tool, Uncacheable> {
    let mut fields = Fields::of(tool, "a tool")?;
    fields.drop(&["cache_control", "eager_input_streaming"]);
    match fields.get("type") {
        None | Some(Json::Null) => {}
        Some(Json::String(kind)) if kind == "custom" => {}
        Some(Json::String(kind)) => check_client_type(kind)?,
        Some(_) => return Err(malformed("the type of a tool is no string")),
    }
    let name = name(fields.get("name"))?;
    Ok(Tool { name, definition: Json::Object(fields.rest()) })
}

/// The name of a tool, which has to be there.
pub(super) fn name(name: Option<&Json>) -> Result<String, Uncacheable> {
    match name {
        Some(Json::String(name)) if !name.is_empty() => Ok(name.clone()),
        _ => Err(malformed("a tool has no name")),
    }
}
