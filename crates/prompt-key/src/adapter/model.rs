use super::fields::Fields;
use super::malformed;
use crate::{Api, Options, Uncacheable};

/// The model that the request names, resolved by the caller's aliases. Spec: prompt-key §5.
pub(super) fn take(fields: &mut Fields, options: &Options) -> Result<String, Uncacheable> {
    let body = fields.take_string("model")?.map(|model| name(model, options.api));
    let path = options.model.clone().map(|model| name(model, options.api));
    if body.is_some() && path.is_some() && body != path {
        return Err(malformed("the path names one model and the body another"));
    }
    let named = body.or(path).filter(|model| !model.is_empty());
    let named = named.ok_or_else(|| malformed("no model is named"))?;
    if let Some(snapshot) = options.aliases.get(&named) {
        return Ok(snapshot.clone());
    }
    if options.strict_models && !options.api.is_snapshot(&named) {
        return Err(Uncacheable::Alias(named));
    }
    Ok(named)
}

/// The name itself; Gemini's may stand in a collection.
fn name(model: String, api: Api) -> String {
    match (api, model.strip_prefix("models/")) {
        (Api::Gemini, Some(name)) => name.to_owned(),
        _ => model,
    }
}

/// The speed tier. Spec: prompt-key §2, `speed or "standard"`.
pub(super) fn take_speed(fields: &mut Fields) -> Result<String, Uncacheable> {
    let speed = fields.take_string("speed")?.filter(|speed| !speed.is_empty());
    Ok(speed.unwrap_or_else(|| "standard".to_owned()))
}

impl Api {
    /// Whether the provider pins what this model id means: a dated id, or one that its provider never moves.
    ///
    /// Spec: prompt-key §5.
    pub fn is_snapshot(self, model: &str) -> bool {
        match self {
            Self::Neutral => true,
            Self::AnthropicMessages => is_dated(model) || is_pinned_claude(model),
            Self::OpenAiChat | Self::OpenAiResponses => is_dated(model),
            Self::Gemini => {
                is_dated(model) || model.rsplit('-').next().is_some_and(|last| last.len() == 3 && is_number(last))
            }
        }
    }
}

fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// Whether the id ends with a date: `-20250929`, `@20250929` or `-2025-08-07`.
fn is_dated(model: &str) -> bool {
    let mut parts = model.rsplit(['-', '@']);
    let last = parts.next().filter(|part| is_number(part)).map(str::len);
    match (last, parts.next().map(str::len), parts.next()) {
        (Some(8), _, _) => true,
        (Some(2), Some(2), Some(year)) => year.len() == 4 && is_number(year),
        _ => false,
    }
}

/// Whether the id is one without a date that is pinned all the same: since version 4.6 all are.
fn is_pinned_claude(model: &str) -> bool {
    let Some(rest) = model.strip_prefix("claude-") else { return false };
    let mut parts = rest.split('-');
    let is_family = parts.next().is_some_and(|family| family.bytes().all(|byte| byte.is_ascii_lowercase()));
    let version: Option<Vec<u32>> = parts.map(|part| part.parse().ok()).collect();
    match version.as_deref() {
        Some([major]) => is_family && *major >= 5,
        Some([major, minor]) => is_family && (*major, *minor) >= (4, 6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pinned_ids_are_told_from_aliases() {
        let anthropic =
            ["claude-opus-4-8", "claude-sonnet-5", "claude-sonnet-4-5-20250929", "claude-opus-4-1@20250805"];
        assert!(anthropic.iter().all(|model| Api::AnthropicMessages.is_snapshot(model)));
        let moving = ["claude-sonnet-4-5", "claude-3-7-sonnet-latest", "claude-sonnet-latest", "opus", "claude-opus-4"];
        assert!(!moving.iter().any(|model| Api::AnthropicMessages.is_snapshot(model)));
        assert!(Api::OpenAiChat.is_snapshot("gpt-5-2025-08-07"));
        assert!(!Api::OpenAiResponses.is_snapshot("gpt-5"));
        assert!(Api::Gemini.is_snapshot("gemini-2.0-flash-001") && !Api::Gemini.is_snapshot("gemini-2.5-pro"));
    }
}
