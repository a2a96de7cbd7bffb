//! What other caches got wrong, by the issue that reports it: false hits that are misses here, false misses that are hits.
//! Spec: prompt-key §0, §1, §4.

use prompt_key::{Api, Options, PromptKeyId, key};
use serde_json::{Value, json};

fn of(api: Api, request: &Value) -> PromptKeyId {
    key(request.to_string().as_bytes(), &Options::new(api)).expect("a key").id()
}

fn base() -> Value {
    json!({
        "model": "claude-opus-4-8", "max_tokens": 9, "system": "Be brief.",
        "tools": [{"name": "Read"}, {"name": "Edit"}], "tool_choice": {"type": "auto"},
        "messages": [
            {"role": "user", "content": "In Rust."},
            {"role": "assistant", "content": "Yes."},
            {"role": "user", "content": "Write it."},
        ],
    })
}

fn with(pointer: &str, value: Value) -> PromptKeyId {
    let mut request = base();
    *request.pointer_mut(pointer).expect("a place") = value;
    of(Api::AnthropicMessages, &request)
}

fn plain() -> PromptKeyId {
    of(Api::AnthropicMessages, &base())
}

#[test]
fn gptcache_526_the_same_last_message_after_another_first_one_is_another_call() {
    assert_ne!(with("/messages/0/content", json!("In Go.")), plain());
}

#[test]
fn instructor_2524_another_system_prompt_is_another_call() {
    assert_ne!(with("/system", json!("Be long.")), plain());
}

#[test]
fn autogen_8211_and_7968_another_tool_choice_is_another_call() {
    assert_ne!(with("/tool_choice", json!({"type": "any"})), plain());
    assert_ne!(with("/tool_choice", json!({"type": "tool", "name": "Read"})), plain());
}

#[test]
fn synapsekit_774_another_provider_or_system_prompt_is_another_call() {
    assert_ne!(of(Api::Neutral, &base()), plain());
    assert_ne!(with("/system", json!("")), plain());
}

#[test]
fn vllm_52655_and_51899_names_of_one_kind_never_pass_for_another() {
    let id = |tenant: &str, namespace: &str| {
        let options = Options {
            tenant: tenant.to_owned(),
            namespace: namespace.to_owned(),
            ..Options::new(Api::AnthropicMessages)
        };
        key(base().to_string().as_bytes(), &options).expect("a key").id()
    };
    assert_ne!(id("a", "bc"), id("ab", "c"));
    assert_ne!(id("a", ""), id("", "a"));
}

#[test]
fn vllm_53347_a_tenant_or_salt_in_the_request_is_a_field_like_any_other() {
    let mut salted = base();
    salted["cache_salt"] = json!("theirs");
    salted["tenant"] = json!("theirs");
    let options = Options { tenant: "theirs".to_owned(), ..Options::new(Api::AnthropicMessages) };
    let theirs = key(base().to_string().as_bytes(), &options).expect("a key").id();
    assert!(of(Api::AnthropicMessages, &salted) != theirs && of(Api::AnthropicMessages, &salted) != plain());
}

#[test]
fn bernstein_1846_and_temporal_1806_a_repeated_call_may_have_a_result_of_its_own() {
    let slot = |slot| {
        let options = Options { slot, ..Options::new(Api::AnthropicMessages) };
        key(base().to_string().as_bytes(), &options).expect("a key")
    };
    assert_eq!(slot(0).id(), plain());
    assert_ne!(slot(0).id(), slot(1).id());
    // They differ in nothing else, so the chain that is known of one is known of the other.
    assert_eq!(slot(0).chain, slot(1).chain);
}

#[test]
fn integers_that_canonical_json_would_merge_have_no_key() {
    for input in ["9007199254740993", "9007199254740992"] {
        let request = base().to_string().replace("\"max_tokens\":9", &format!("\"max_tokens\":{input}"));
        let refused = key(request.as_bytes(), &Options::new(Api::AnthropicMessages)).expect_err("no key");
        assert_eq!(refused.reason(), "non_ijson_integer");
    }
}

#[test]
fn a_member_given_twice_has_no_key() {
    let request = base().to_string().replace("\"max_tokens\":9", "\"max_tokens\":9,\"max_tokens\":8");
    let refused = key(request.as_bytes(), &Options::new(Api::AnthropicMessages)).expect_err("no key");
    assert_eq!(refused.reason(), "duplicate_key:max_tokens");
}

#[test]
fn claude_code_68900_the_billing_header_that_changes_each_time_changes_nothing() {
    let billed = |value: &str| {
        let header = format!("x-anthropic-billing-header: cc_version=2.1.104; cch={value};");
        with("/system", json!([{"type": "text", "text": header}, {"type": "text", "text": "Be brief."}]))
    };
    assert_eq!(billed("36ee5"), plain());
    assert_eq!(billed("00000"), plain());
}

#[test]
fn deepagents_2497_aibridge_49_and_oh_my_pi_890_the_order_of_tools_changes_nothing() {
    assert_eq!(with("/tools", json!([{"name": "Edit"}, {"name": "Read"}])), plain());
    assert_ne!(with("/tools", json!([{"name": "Edit"}])), plain());
}

#[test]
fn a_marker_for_the_providers_cache_changes_nothing() {
    let marked = json!([{"type": "text", "text": "Write it.", "cache_control": {"type": "ephemeral"}}]);
    assert_eq!(with("/messages/2/content", marked), plain());
}
