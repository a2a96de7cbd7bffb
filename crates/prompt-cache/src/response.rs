use prompt_key::{Api, Json, json};

use crate::proto::Usage;

/// What a provider's response says of itself.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Said {
    pub(crate) model: String,
    pub(crate) stop_reason: String,
    pub(crate) id: String,
    pub(crate) system_fingerprint: String,
    pub(crate) usage: Usage,
}

/// Reads a response that ended cleanly; otherwise why it must not be stored. Spec: prompt-key §5.
pub(crate) fn read(api: Api, bytes: &[u8]) -> Result<Said, String> {
    let response = json::parse(bytes).map_err(|error| format!("the response is no strict JSON: {error}"))?;
    if response.get("error").is_some_and(|error| !error.is_null()) {
        return Err("the response is an error".to_owned());
    }
    let said = match api {
        Api::AnthropicMessages | Api::Neutral => messages(&response),
        Api::OpenAiChat => chat(&response),
        Api::OpenAiResponses => responses(&response),
        Api::Gemini => gemini(&response),
    }?;
    if said.model.is_empty() {
        return Err("the response names no model".to_owned());
    }
    Ok(said)
}

fn text(value: &Json, name: &str) -> String {
    value.get(name).and_then(Json::as_str).unwrap_or("").to_owned()
}

fn count(value: Option<&Json>, name: &str) -> u64 {
    value.and_then(|value| value.get(name)).and_then(Json::as_u64).unwrap_or(0)
}

/// Refuses an end that is not among the clean ones.
fn clean(stop: &str, among: &[&str]) -> Result<String, String> {
    match among.contains(&stop) {
        true => Ok(stop.to_owned()),
        false => Err(format!("the response ended with `{stop}`, which is not replayed")),
    }
}

fn messages(response: &Json) -> Result<Said, String> {
    let usage = response.get("usage");
    let written = usage.and_then(|usage| usage.get("cache_creation"));
    let written_1h = count(written, "ephemeral_1h_input_tokens");
    Ok(Said {
        model: text(response, "model"),
        stop_reason: clean(&text(response, "stop_reason"), &["end_turn", "tool_use", "stop_sequence"])?,
        id: text(response, "id"),
        system_fingerprint: String::new(),
        usage: Usage {
            input: count(usage, "input_tokens"),
            cache_read: count(usage, "cache_read_input_tokens"),
            cache_write_5m: count(usage, "cache_creation_input_tokens").saturating_sub(written_1h),
            cache_write_1h: written_1h,
            output: count(usage, "output_tokens"),
            reasoning: 0,
        },
    })
}

fn chat(response: &Json) -> Result<Said, String> {
    let choices = response.get("choices").and_then(Json::as_array).unwrap_or_default();
    let stops =
        choices.iter().map(|choice| clean(&text(choice, "finish_reason"), &["stop", "tool_calls", "function_call"]));
    let stops = stops.collect::<Result<Vec<_>, _>>()?;
    let usage = response.get("usage");
    let cached = count(usage.and_then(|usage| usage.get("prompt_tokens_details")), "cached_tokens");
    Ok(Said {
        model: text(response, "model"),
        stop_reason: stops.into_iter().next().ok_or("the response has no choices")?,
        id: text(response, "id"),
        system_fingerprint: text(response, "system_fingerprint"),
        usage: Usage {
            input: count(usage, "prompt_tokens").saturating_sub(cached),
            cache_read: cached,
            output: count(usage, "completion_tokens"),
            reasoning: count(usage.and_then(|usage| usage.get("completion_tokens_details")), "reasoning_tokens"),
            ..Usage::default()
        },
    })
}

fn responses(response: &Json) -> Result<Said, String> {
    let usage = response.get("usage");
    let cached = count(usage.and_then(|usage| usage.get("input_tokens_details")), "cached_tokens");
    Ok(Said {
        model: text(response, "model"),
        stop_reason: clean(&text(response, "status"), &["completed"])?,
        id: text(response, "id"),
        system_fingerprint: String::new(),
        usage: Usage {
            input: count(usage, "input_tokens").saturating_sub(cached),
            cache_read: cached,
            output: count(usage, "output_tokens"),
            reasoning: count(usage.and_then(|usage| usage.get("output_tokens_details")), "reasoning_tokens"),
            ..Usage::default()
        },
    })
}

fn gemini(response: &Json) -> Result<Said, String> {
    let candidates = response.get("candidates").and_then(Json::as_array).unwrap_or_default();
    let stops = candidates.iter().map(|candidate| clean(&text(candidate, "finishReason"), &["STOP"]));
    let stops = stops.collect::<Result<Vec<_>, _>>()?;
    let usage = response.get("usageMetadata");
    let cached = count(usage, "cachedContentTokenCount");
    Ok(Said {
        model: text(response, "modelVersion"),
        stop_reason: stops.into_iter().next().ok_or("the response has no candidates")?,
        id: text(response, "responseId"),
        system_fingerprint: String::new(),
        usage: Usage {
            input: count(usage, "promptTokenCount").saturating_sub(cached),
            cache_read: cached,
            output: count(usage, "candidatesTokenCount"),
            reasoning: count(usage, "thoughtsTokenCount"),
            ..Usage::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_clean_ends_are_read() {
        let message =
            |stop: &str| read(Api::AnthropicMessages, format!(r#"{{"model":"m","stop_reason":{stop}}}"#).as_bytes());
        for stop in ["end_turn", "tool_use", "stop_sequence"] {
            assert_eq!(message(&format!("\"{stop}\"")).expect(stop).stop_reason, stop);
        }
        for stop in ["\"max_tokens\"", "\"refusal\"", "\"pause_turn\"", "null", "\"\""] {
            assert!(message(stop).is_err(), "{stop}");
        }
        let chat = |ends: &str| read(Api::OpenAiChat, format!(r#"{{"model":"m","choices":[{ends}]}}"#).as_bytes());
        assert!(chat(r#"{"finish_reason":"stop"},{"finish_reason":"tool_calls"}"#).is_ok());
        assert!(chat(r#"{"finish_reason":"stop"},{"finish_reason":"length"}"#).is_err());
        assert!(chat("").is_err());
        let responses = |members: &str| read(Api::OpenAiResponses, format!(r#"{{"model":"m",{members}}}"#).as_bytes());
        assert!(responses(r#""status":"completed","error":null"#).is_ok());
        assert!(
            responses(r#""status":"incomplete""#).is_err() && responses(r#""status":"completed","error":{}"#).is_err()
        );
        let gemini = |end: &str| {
            read(Api::Gemini, format!(r#"{{"modelVersion":"m","candidates":[{{"finishReason":"{end}"}}]}}"#).as_bytes())
        };
        assert!(gemini("STOP").is_ok() && gemini("SAFETY").is_err());
    }

    #[test]
    fn a_response_that_is_no_strict_json_or_names_no_model_is_refused() {
        for bytes in [
            &b"data: {}"[..],
            br#"{"model":"a","model":"b","stop_reason":"end_turn"}"#,
            br#"{"stop_reason":"end_turn"}"#,
        ] {
            assert!(read(Api::AnthropicMessages, bytes).is_err());
        }
    }
}
