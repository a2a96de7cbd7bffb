use super::fields::Fields;
use super::{malformed, tools};
use crate::{Json, Tool, Uncacheable};

/// Transport, billing and abuse fields of both OpenAI APIs, which do not reach the model. Spec: prompt-key §3.
pub(super) const DROPPED: &[&str] = &[
    "stream",
    "stream_options",
    "user",
    "safety_identifier",
    "metadata",
    "store",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "prompt_cache_breakpoint",
];

/// A mark that says where a provider's own cache may cut.
const MARK: &str = "prompt_cache_breakpoint";

/// Drops the cache mark of a part, message or tool.
pub(super) fn unmark(value: Json, what: &str) -> Result<Json, Uncacheable> {
    let mut fields = Fields::of(value, what)?;
    fields.drop(&[MARK]);
    Ok(Json::Object(fields.rest()))
}

/// A tool of either API: Chat nests name and schema in a member that is called as the type, Responses does not.
pub(super) fn tool(tool: Json) -> Result<Tool, Uncacheable> {
    let definition = unmark(tool, "a tool")?;
    let kind = definition.get("type").and_then(Json::as_str).ok_or_else(|| malformed("a tool has no type"))?;
    let name = match kind {
        "function" | "custom" => tools::name(definition.get(kind).unwrap_or(&definition).get("name"))?,
        kind => {
            tools::check_client_type(kind)?;
            kind.to_owned()
        }
    };
    Ok(Tool { name, definition })
}
