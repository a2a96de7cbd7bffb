//! From each provider's request to an [`Invocation`]. Spec: prompt-key §3.
//!
//! What an adapter does not know goes into `generation`: a field is keyed by default and dropped by list.

mod anthropic;
mod blocks;
mod fields;
mod gemini;
mod model;
mod neutral;
mod openai;
mod openai_chat;
mod openai_responses;
mod tools;

use self::fields::Fields;
use crate::{Api, Invocation, Json, Options, Uncacheable};

/// Reads a request of the API that the options name.
pub(crate) fn read(request: Json, options: &Options) -> Result<Invocation, Uncacheable> {
    let fields = Fields::of(request, "the request")?;
    match options.api {
        Api::AnthropicMessages => anthropic::read(fields, options),
        Api::OpenAiChat => openai_chat::read(fields, options),
        Api::OpenAiResponses => openai_responses::read(fields, options),
        Api::Gemini => gemini::read(fields, options),
        Api::Neutral => neutral::read(fields, options),
    }
}

fn malformed(what: impl Into<String>) -> Uncacheable {
    Uncacheable::Malformed(what.into())
}

#[cfg(test)]
mod tests;
