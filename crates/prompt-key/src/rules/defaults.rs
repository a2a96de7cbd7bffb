use crate::json::Object;
use crate::{Api, Invocation, Json};

/// Generation options and their defaults, version 1 of the table.
const CHAT: &[(&str, Default)] = &[
    ("temperature", Default::Number(1.0)),
    ("top_p", Default::Number(1.0)),
    ("n", Default::Number(1.0)),
    ("presence_penalty", Default::Number(0.0)),
    ("frequency_penalty", Default::Number(0.0)),
    ("logprobs", Default::Bool(false)),
];
const RESPONSES: &[(&str, Default)] = &[
    ("temperature", Default::Number(1.0)),
    ("top_p", Default::Number(1.0)),
    ("truncation", Default::Text("disabled")),
    ("background", Default::Bool(false)),
];
const MESSAGES: &[(&str, Default)] = &[("temperature", Default::Number(1.0))];

enum Default {
    Number(f64),
    Bool(bool),
    Text(&'static str),
}

impl Default {
    fn is(&self, value: &Json) -> bool {
        match (self, value) {
            (Self::Number(default), Json::Number(value)) => default == value,
            (Self::Bool(default), Json::Bool(value)) => default == value,
            (Self::Text(default), Json::String(value)) => default == value,
            _ => false,
        }
    }
}

/// Leaves out fields that say their default.
pub(super) fn drop(invocation: &mut Invocation, api: Api) {
    let table = match api {
        Api::OpenAiChat => CHAT,
        Api::OpenAiResponses => RESPONSES,
        Api::AnthropicMessages => MESSAGES,
        Api::Gemini | Api::Neutral => &[],
    };
    drop_from(&mut invocation.generation, table);
    if matches!(api, Api::OpenAiChat | Api::OpenAiResponses) {
        if invocation.tool_fields.get("parallel_tool_calls") == Some(&Json::Bool(true)) {
            invocation.tool_fields.remove("parallel_tool_calls");
        }
        // Without tools the default is another.
        if !invocation.tools.is_empty() && invocation.tool_choice.as_ref().and_then(Json::as_str) == Some("auto") {
            invocation.tool_choice = None;
        }
    }
}

fn drop_from(options: &mut Object, table: &[(&str, Default)]) {
    options.retain(|name, value| !table.iter().any(|(known, default)| known == name && default.is(value)));
}
