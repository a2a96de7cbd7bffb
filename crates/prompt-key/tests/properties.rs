//! What holds of every key, on generated requests. Spec: prompt-key §11.

use prompt_key::{Api, Component, Json, Options, PromptKey, Uncacheable, key};
use proptest::prelude::*;
use proptest::sample::Index;
use serde_json::{Map, Value, json};

fn of(request: &Value) -> Result<PromptKey, Uncacheable> {
    key(request.to_string().as_bytes(), &Options::new(Api::AnthropicMessages))
}

fn scalar() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[ -~é\n]{0,8}".prop_map(Value::from)
    ]
}

fn value() -> impl Strategy<Value = Value> {
    scalar().prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,4}", inner, 0..3)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

/// A content block; ids are small numbers, so that results find their calls.
fn block() -> impl Strategy<Value = Value> {
    prop_oneof![
        "[ -~]{0,12}".prop_map(|text| json!({"type": "text", "text": text})),
        ("[A-Z][a-z]{0,3}", 0u8..4, value()).prop_map(|(name, id, input)| json!({"type": "tool_use", "id": format!("toolu_{id}"), "name": name, "input": {"x": input}})),
        (0u8..4, "[ -~]{0,12}", any::<bool>()).prop_map(|(id, text, is_error)| json!({"type": "tool_result", "tool_use_id": format!("toolu_{id}"), "content": text, "is_error": is_error})),
    ]
}

fn message() -> impl Strategy<Value = Value> {
    (prop_oneof![Just("user"), Just("assistant")], proptest::collection::vec(block(), 1..4))
        .prop_map(|(role, content)| json!({"role": role, "content": content}))
}

prop_compose! {
    fn request()(
        messages in proptest::collection::vec(message(), 0..5),
        tools in proptest::collection::btree_map("[A-Z][a-z]{0,3}", value(), 0..4),
        system in proptest::collection::vec("[ -~]{0,12}", 0..3),
        options in proptest::collection::btree_map("(temperature|top_p|thinking|stop_sequences|brand_new)", value(), 0..3),
        max_tokens in 1u32..9000,
    ) -> Value {
        let tools: Vec<Value> = tools.into_iter().map(|(name, schema)| json!({"name": name, "input_schema": {"s": schema}})).collect();
        let system: Vec<Value> = system.into_iter().map(|text| json!({"type": "text", "text": text})).collect();
        let mut request = json!({"model": "claude-opus-4-8", "max_tokens": max_tokens, "messages": messages, "tools": tools, "system": system});
        let members = request.as_object_mut().expect("an object");
        members.extend(options);
        request
    }
}

/// The value written with members in another order, spaces and escapes.
fn respelled(value: &Value, out: &mut String) {
    match value {
        Value::Object(members) => {
            out.push_str("{ ");
            for (index, (name, value)) in members.iter().rev().enumerate() {
                out.push_str(if index == 0 { "" } else { "\n," });
                respelled(&Value::from(name.as_str()), out);
                out.push_str(":\t");
                respelled(value, out);
            }
            out.push('}');
        }
        Value::Array(items) => {
            out.push('[');
            for (index, item) in items.iter().enumerate() {
                out.push_str(if index == 0 { "" } else { " , " });
                respelled(item, out);
            }
            out.push(']');
        }
        Value::String(text) => {
            out.push('"');
            text.encode_utf16().for_each(|unit| out.push_str(&format!("\\u{unit:04X}")));
            out.push('"');
        }
        Value::Number(number) => out.push_str(&format!("{number}.0e+0")),
        other => out.push_str(&other.to_string()),
    }
}

/// Every place in a value, as a JSON pointer.
fn places(value: &Value, at: &str, out: &mut Vec<String>) {
    match value {
        Value::Object(members) => members.iter().for_each(|(name, value)| places(value, &format!("{at}/{name}"), out)),
        Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| places(item, &format!("{at}/{index}"), out))
        }
        _ => out.push(at.to_owned()),
    }
}

fn rename_ids(value: &mut Value) {
    match value {
        Value::Object(members) => {
            let kind = members.get("type").and_then(Value::as_str).unwrap_or("").to_owned();
            let member = match kind.as_str() {
                "tool_use" => "id",
                "tool_result" => "tool_use_id",
                _ => "",
            };
            if let Some(Value::String(id)) = members.get_mut(member) {
                *id = format!("other-{}", id.chars().rev().collect::<String>());
            }
            members.values_mut().for_each(rename_ids);
        }
        Value::Array(items) => items.iter_mut().for_each(rename_ids),
        _ => {}
    }
}

proptest! {
    /// Property (a).
    #[test]
    fn members_tools_ids_and_spelling_never_change_the_key(request in request()) {
        let key_of = of(&request).expect("a key");
        let mut other = request.clone();
        other["tools"].as_array_mut().expect("a list").reverse();
        rename_ids(&mut other["messages"]);
        let mut text = String::new();
        respelled(&other, &mut text);
        let again = key(text.as_bytes(), &Options::new(Api::AnthropicMessages)).expect("a key");
        prop_assert_eq!(key_of.id(), again.id());
        prop_assert_eq!(key_of.chain, again.chain);
    }

    /// Property (b): outside the list, any change of one value changes the key.
    #[test]
    fn any_change_of_one_value_changes_the_key(request in request(), which in any::<Index>()) {
        let mut all = Vec::new();
        places(&request, "", &mut all);
        // Ids and types are renamed or say what a block is; they have tests of their own.
        all.retain(|place| !place.ends_with("/id") && !place.ends_with("/tool_use_id") && !place.ends_with("/type"));
        let place = which.get(&all);
        let mut other = request.clone();
        let value = other.pointer_mut(place).expect("a place");
        *value = match &*value {
            Value::String(text) => Value::from(format!("{text}Q")),
            Value::Bool(bool) => Value::from(!*bool),
            Value::Number(number) => Value::from(number.as_i64().expect("an integer") + 1),
            _ => Value::from("was null"),
        };
        let changed = of(&other);
        // A changed tool name may meet another tool; then there is no key at all.
        if let Ok(changed) = changed {
            prop_assert_ne!(of(&request).expect("a key").id(), changed.id(), "{}", place);
        }
    }

    /// Property (b), for fields that no list knows.
    #[test]
    fn a_new_field_changes_the_key(request in request(), name in "x_[a-z]{1,8}", value in value()) {
        let mut other = request.clone();
        other[&name] = value;
        let drift = of(&other).expect("a key").drift(&of(&request).expect("a key"));
        prop_assert_eq!(drift.components.len(), 1);
        prop_assert_eq!(drift.components[0].component, Component::Gen);
    }

    /// Property (c).
    #[test]
    fn appended_turns_keep_the_chain(request in request(), more in proptest::collection::vec(message(), 1..3)) {
        let before = of(&request).expect("a key");
        let mut longer = request;
        longer["messages"].as_array_mut().expect("a list").extend(more);
        let after = of(&longer).expect("a key");
        prop_assert!(after.chain.len() > before.chain.len());
        prop_assert_eq!(&after.chain[..before.chain.len()], &before.chain[..]);
        prop_assert_eq!(after.drift(&before).common_prefix, before.chain.len());
        prop_assert_ne!(after.id(), before.id());
    }

    /// Property (f).
    #[test]
    fn what_is_uncacheable_has_no_key_whatever_else_it_says(request in request(), which in 0usize..6) {
        let mut other = request;
        let members = other.as_object_mut().expect("an object");
        match which {
            0 => { members.insert("container".into(), json!("c")); }
            1 => { members.insert("mcp_servers".into(), json!([{}])); }
            2 => { members.insert("max_tokens".into(), json!(0)); }
            3 => { members.insert("deep".into(), json!({"n": [9_007_199_254_740_993_u64]})); }
            4 => { members["tools"].as_array_mut().expect("a list").push(json!({"type": "web_search_20260209", "name": "ws"})); }
            _ => { members["tools"].as_array_mut().expect("a list").extend([json!({"name": "Same"}), json!({"name": "Same"})]); }
        }
        prop_assert!(of(&other).is_err());
    }

    /// Property (f), for every adapter: bytes have a key or a reason, and one key however they are spaced.
    #[test]
    fn any_json_has_a_key_or_a_reason(request in value(), api in 0usize..5) {
        let options = Options { model: Some("m".to_owned()), ..Options::new(Api::ALL[api]) };
        let compact = key(request.to_string().as_bytes(), &options);
        let pretty = key(serde_json::to_string_pretty(&request).expect("JSON").as_bytes(), &options);
        prop_assert_eq!(compact.map(|key| key.id()), pretty.map(|key| key.id()));
    }

    #[test]
    fn slots_and_tenants_never_share_a_key(request in request(), slot in 1u64.., tenant in "[a-z]{1,8}") {
        let base = of(&request).expect("a key");
        let with = |options: Options| key(request.to_string().as_bytes(), &options).expect("a key");
        let slotted = with(Options { slot, ..Options::new(Api::AnthropicMessages) });
        let theirs = with(Options { tenant, ..Options::new(Api::AnthropicMessages) });
        prop_assert_ne!(base.id(), slotted.id());
        prop_assert_eq!(&base.chain, &slotted.chain);
        prop_assert!(base.chain.iter().zip(&theirs.chain).all(|(a, b)| a != b));
    }
}

#[test]
fn json_of_the_library_and_bytes_have_one_key() {
    let bytes = br#"{"model":"m","messages":[{"role":"user","content":"a"}]}"#;
    let options = Options::new(Api::Neutral);
    let parsed: Json = prompt_key::json::parse(bytes).expect("JSON");
    let keys = [key(bytes, &options), prompt_key::key_of_json(parsed, &options)];
    assert_eq!(keys[0].clone().map(|key| key.id()), keys[1].clone().map(|key| key.id()));
}

#[test]
fn generated_requests_are_not_all_alike() {
    // The properties above mean something only if the generator makes calls, results and tools.
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let mut seen = Map::new();
    for _ in 0..200 {
        let text =
            proptest::strategy::ValueTree::current(&request().new_tree(&mut runner).expect("a request")).to_string();
        for word in ["tool_use", "tool_result", "input_schema", "brand_new", "\"system\":[{"] {
            if text.contains(word) {
                seen.insert(word.to_owned(), Value::from(true));
            }
        }
    }
    assert_eq!(seen.len(), 5);
}
