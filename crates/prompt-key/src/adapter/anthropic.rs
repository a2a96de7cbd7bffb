use std::collections::BTreeMap;

use super::blocks::{self, Ids};
use super::fields::Fields;
use super::{model, tools};
use crate::{Invocation, Json, Options, Uncacheable};

/// Transport, billing and abuse fields, which do not reach the model. Spec: prompt-key §3, row "dropped".
pub(super) const DROPPED: &[&str] =
    &["cache_control", "stream", "metadata", "diagnostics", "service_tier", "user_profile_id", "workspace_id"];
/// Fields that refer to state at the provider or elsewhere.
pub(super) const OUTSIDE: &[&str] = &["container", "mcp_servers", "thread"];

/// How the system block starts that carries billing data and no instructions.
const BILLING: &str = "x-anthropic-billing-header: ";

/// Reads a request of Anthropic Messages.
pub(super) fn read(mut fields: Fields, options: &Options) -> Result<Invocation, Uncacheable> {
    fields.refuse_outside(OUTSIDE)?;
    if fields.get("max_tokens") == Some(&Json::Number(0.0)) {
        return Err(Uncacheable::NotReplayable("max_tokens".to_owned()));
    }
    fields.drop(DROPPED);
    invocation(fields, options)
}

/// What is left once the fields are gone that only one of the APIs of this form has.
pub(super) fn invocation(mut fields: Fields, options: &Options) -> Result<Invocation, Uncacheable> {
    let model = model::take(&mut fields, options)?;
    let speed = model::take_speed(&mut fields)?;
    let mut ids = Ids::default();
    let system = system(&mut fields, &mut ids)?;
    let given = fields.take_array("tools")?.into_iter().map(tools::of_messages).collect::<Result<_, _>>()?;
    let messages = fields.take_array("messages")?;
    Ok(Invocation {
        model,
        speed,
        tool_choice: fields.take_some("tool_choice"),
        tool_fields: BTreeMap::new(),
        tools: tools::sorted(given)?,
        system,
        links: blocks::messages(messages, &mut ids)?,
        seed: fields.take("seed").unwrap_or(Json::Null),
        slot: options.slot,
        generation: fields.rest(),
    })
}

/// The system blocks without cache markers and without the billing block.
fn system(fields: &mut Fields, ids: &mut Ids) -> Result<Vec<Json>, Uncacheable> {
    let Some(system) = fields.take_some("system") else { return Ok(Vec::new()) };
    let blocks = blocks::of(system, "`system`")?.into_iter().map(|block| blocks::normalise(block, ids));
    let blocks = blocks.collect::<Result<Vec<_>, _>>()?;
    Ok(blocks.into_iter().filter(|block| !is_billing(block)).collect())
}

/// Whether the block is the billing header and nothing else. Spec: prompt-key §4.
fn is_billing(block: &Json) -> bool {
    let is_plain_text = block.as_object().is_some_and(|fields| fields.len() == 2)
        && block.get("type").and_then(Json::as_str) == Some("text");
    let text = block.get("text").and_then(Json::as_str).unwrap_or("");
    is_plain_text && text.starts_with(BILLING) && !text.contains(['\n', '\r'])
}
