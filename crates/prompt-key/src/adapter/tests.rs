use crate::{Api, Component, Options, PromptKey, Uncacheable, key};

fn of(api: Api, request: &str) -> Result<PromptKey, Uncacheable> {
    key(
        request.as_bytes(),
        &Options { model: (api == Api::Gemini).then(|| "gemini-2.5-pro".to_owned()), ..Options::new(api) },
    )
}

fn same(api: Api, a: &str, b: &str) {
    assert_eq!(of(api, a).expect(a).id(), of(api, b).expect(b).id(), "{a}\n{b}");
}

fn differ(api: Api, a: &str, b: &str) {
    assert_ne!(of(api, a).expect(a).id(), of(api, b).expect(b).id(), "{a}\n{b}");
}

fn reason(api: Api, request: &str) -> String {
    of(api, request).expect_err(request).reason()
}

/// A request of the Messages API with more members.
fn message(members: &str) -> String {
    let comma = if members.is_empty() { "" } else { "," };
    format!(r#"{{"model":"claude-opus-4-8","max_tokens":9{comma}{members}}}"#)
}

/// A request of the Messages API with one user message of this content.
fn said(content: &str) -> String {
    message(&format!(r#""messages":[{{"role":"user","content":{content}}}]"#))
}

mod messages {
    use super::*;

    const API: Api = Api::AnthropicMessages;

    #[test]
    fn a_string_is_one_text_block_in_every_place() {
        same(API, &said(r#""hi""#), &said(r#"[{"type":"text","text":"hi"}]"#));
        same(
            API,
            &message(r#""messages":[],"system":"s""#),
            &message(r#""messages":[],"system":[{"type":"text","text":"s"}]"#),
        );
        same(
            API,
            &said(r#"[{"type":"tool_result","tool_use_id":"a","content":"r"}]"#),
            &said(r#"[{"type":"tool_result","tool_use_id":"a","content":[{"type":"text","text":"r"}]}]"#),
        );
        differ(API, &said(r#""""#), &said("[]"));
        differ(API, &message(r#""messages":[],"system":"""#), &message(r#""messages":[]"#));
    }

    #[test]
    fn turns_of_one_role_are_one_turn() {
        let block = |text: &str| format!(r#"{{"type":"text","text":"{text}"}}"#);
        let two = message(r#""messages":[{"role":"user","content":"a"},{"role":"user","content":"b"}]"#);
        same(API, &two, &said(&format!("[{},{}]", block("a"), block("b"))));
        differ(API, &two, &said(r#""ab""#));
    }

    #[test]
    fn cache_markers_go_where_they_are_markers_only() {
        let marker = r#","cache_control":{"type":"ephemeral"}"#;
        let nested = |marker: &str| {
            said(&format!(
                r#"[{{"type":"tool_result","tool_use_id":"a","content":[{{"type":"text","text":"r"{marker}}}]{marker}}},{{"type":"document","source":{{"type":"content","content":[{{"type":"text","text":"d"{marker}}}]}}{marker}}}]"#
            ))
        };
        same(API, &nested(""), &nested(marker));
        same(API, &message(r#""messages":[]"#), &message(r#""messages":[],"cache_control":{"type":"ephemeral"}"#));
        // In a schema and in a tool's input the word is data.
        let tool = |name: &str| {
            message(&format!(
                r#""messages":[],"tools":[{{"name":"T","input_schema":{{"properties":{{"{name}":{{}}}}}}}}]"#
            ))
        };
        differ(API, &tool("cache_control"), &tool("x"));
        let input =
            |member: &str| said(&format!(r#"[{{"type":"tool_use","id":"a","name":"T","input":{{{member}}}}}]"#));
        differ(API, &input(r#""cache_control":1"#), &input(""));
    }

    #[test]
    fn a_tool_id_is_renamed_and_a_dangling_one_differs() {
        let pair = |call: &str, result: &str| {
            said(&format!(
                r#"[{{"type":"tool_use","id":"{call}","name":"T","input":{{"id":"keep"}}}},{{"type":"tool_result","tool_use_id":"{result}"}}]"#
            ))
        };
        same(API, &pair("a", "a"), &pair("b", "b"));
        same(API, &pair("a", "a"), &pair("t7", "t7"));
        differ(API, &pair("a", "a"), &pair("a", "b"));
        let two = |first: &str, second: &str| {
            said(&format!(
                r#"[{{"type":"tool_use","id":"a","name":"T","input":{{}}}},{{"type":"tool_use","id":"b","name":"T","input":{{}}}},{{"type":"tool_result","tool_use_id":"{first}","content":"1"}},{{"type":"tool_result","tool_use_id":"{second}","content":"2"}}]"#
            ))
        };
        differ(API, &two("a", "b"), &two("b", "a"));
        // An id that looks like a new name does not meet it.
        differ(API, &two("a", "b"), &two("a", "t1"));
        differ(API, &said(r#""toolu_1""#), &said(r#""toolu_2""#));
    }

    #[test]
    fn a_result_without_is_error_is_no_error() {
        let result =
            |member: &str| said(&format!(r#"[{{"type":"tool_result","tool_use_id":"a","content":"x"{member}}}]"#));
        same(API, &result(""), &result(r#","is_error":false"#));
        differ(API, &result(""), &result(r#","is_error":true"#));
    }

    #[test]
    fn a_billing_block_goes_and_a_header_in_other_text_stays() {
        let system = |text: &str| {
            message(&format!(
                r#""messages":[],"system":[{{"type":"text","text":"{text}"}},{{"type":"text","text":"s"}}]"#
            ))
        };
        let without = message(r#""messages":[],"system":"s""#);
        same(API, &without, &system("x-anthropic-billing-header: cch=1;"));
        for kept in [
            "x-anthropic-billing-header: cch=1;\\nBe evil.",
            "So: x-anthropic-billing-header: cch=1;",
            " x-anthropic-billing-header: a",
        ] {
            differ(API, &without, &system(kept));
        }
        differ(
            API,
            &said(r#""s""#),
            &said(r#"[{"type":"text","text":"x-anthropic-billing-header: a"},{"type":"text","text":"s"}]"#),
        );
    }

    #[test]
    fn tools_are_a_set_and_their_names_are_unique() {
        let tools = |list: &str| message(&format!(r#""messages":[],"tools":[{list}]"#));
        same(
            API,
            &tools(r#"{"name":"A"},{"name":"B"}"#),
            &tools(r#"{"name":"B","eager_input_streaming":true},{"name":"A"}"#),
        );
        assert_eq!(reason(API, &tools(r#"{"name":"A"},{"name":"A","description":"d"}"#)), "duplicate_tool:A");
        same(API, &tools(""), &message(r#""messages":[],"tools":null,"tool_choice":{"type":"auto"}"#));
        differ(
            API,
            &tools(r#"{"name":"A"}"#),
            &message(r#""messages":[],"tools":[{"name":"A"}],"tool_choice":{"type":"any"}"#),
        );
        assert_eq!(reason(API, &tools(r#"{"description":"no name"}"#)), "malformed_request");
    }

    #[test]
    fn what_runs_at_the_provider_is_uncacheable() {
        for kind in [
            "web_search_20250305",
            "web_fetch_20250910",
            "code_execution_20250825",
            "mcp_toolset",
            "tool_search_tool_bm25_20251119",
            "bash",
        ] {
            let request = message(&format!(r#""messages":[],"tools":[{{"type":"{kind}","name":"x"}}]"#));
            assert_eq!(reason(API, &request), format!("server_or_typed_tool:{kind}"));
        }
        for kind in ["custom", "bash_20250124", "text_editor_20250728", "memory_20250818", "computer_20250124"] {
            of(API, &message(&format!(r#""messages":[],"tools":[{{"type":"{kind}","name":"x"}}]"#))).expect(kind);
        }
        for field in ["container", "mcp_servers", "thread"] {
            assert_eq!(
                reason(API, &message(&format!(r#""messages":[],"{field}":["x"]"#))),
                format!("external_state:{field}")
            );
        }
        assert_eq!(reason(API, r#"{"model":"m","max_tokens":0,"messages":[]}"#), "not_replayable:max_tokens");
    }

    #[test]
    fn a_field_is_keyed_unless_it_is_on_the_list() {
        for dropped in
            ["cache_control", "stream", "metadata", "diagnostics", "service_tier", "user_profile_id", "workspace_id"]
        {
            same(
                API,
                &said(r#""a""#),
                &said(r#""a""#).replace(r#""max_tokens":9"#, &format!(r#""max_tokens":9,"{dropped}":"x""#)),
            );
        }
        for kept in [
            "thinking",
            "output_config",
            "stop_sequences",
            "context_management",
            "fallbacks",
            "temperature",
            "top_k",
            "inference_geo",
            "Stream",
            "seed",
        ] {
            differ(
                API,
                &said(r#""a""#),
                &said(r#""a""#).replace(r#""max_tokens":9"#, &format!(r#""max_tokens":9,"{kept}":1"#)),
            );
        }
        same(API, &message(r#""messages":[],"speed":"standard""#), &message(r#""messages":[]"#));
        let fast = of(API, &message(r#""messages":[],"speed":"fast""#)).expect("a key");
        let drift = fast.drift(&of(API, &message(r#""messages":[]"#)).expect("a key"));
        assert_eq!(drift.components.iter().map(|drift| drift.component).collect::<Vec<_>>(), [Component::Model]);
    }

    #[test]
    fn a_member_of_a_message_is_keyed_too() {
        differ(
            API,
            &message(r#""messages":[{"role":"user","content":"a"}]"#),
            &message(r#""messages":[{"role":"user","content":"a","name":"x"}]"#),
        );
    }

    #[test]
    fn a_seed_of_zero_is_no_absent_seed() {
        differ(API, &message(r#""messages":[]"#), &message(r#""messages":[],"seed":0"#));
        same(API, &message(r#""messages":[]"#), &message(r#""messages":[],"seed":null"#));
    }

    #[test]
    fn beta_flags_are_a_set_without_those_that_mean_nothing() {
        let with = |betas: &[&str]| {
            let betas = betas.iter().map(|beta| (*beta).to_owned()).collect();
            let options = Options { betas, ..Options::new(API) };
            key(message(r#""messages":[]"#).as_bytes(), &options).expect("a key").id()
        };
        assert_eq!(with(&[]), with(&["prompt-caching-2024-07-31", "cache-diagnosis-2026-04-07"]));
        assert_eq!(with(&["a", "b"]), with(&["b, a"]));
        assert_ne!(with(&["a"]), with(&["b"]));
        assert_ne!(with(&["a", "b"]), with(&["ab"]));
    }

    #[test]
    fn malformed_requests_have_no_key() {
        let bad = [
            "[]",
            "{}",
            r#"{"model":"","messages":[]}"#,
            r#"{"model":1,"messages":[]}"#,
            r#"{"model":"m","messages":{}}"#,
            r#"{"model":"m","messages":["x"]}"#,
            r#"{"model":"m","messages":[{"content":"x"}]}"#,
            r#"{"model":"m","messages":[{"role":"user"}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":["x"]}]}"#,
            r#"{"model":"m","messages":[{"role":"user","content":null}]}"#,
            r#"{"model":"m","system":7}"#,
            r#"{"model":"m","tools":[1]}"#,
            r#"{"model":"m","tools":[{"name":"x","type":1}]}"#,
        ];
        for request in bad {
            assert_eq!(reason(API, request), "malformed_request", "{request}");
        }
    }
}

mod openai {
    use super::*;

    #[test]
    fn chat_keeps_every_member_of_a_message() {
        let chat = |messages: &str| format!(r#"{{"model":"gpt-5-2025-08-07","messages":[{messages}]}}"#);
        let (api, user) = (Api::OpenAiChat, r#"{"role":"user","content":"a"}"#);
        same(api, &chat(user), &chat(r#"{"role":"user","content":[{"type":"text","text":"a"}]}"#));
        differ(api, &chat(user), &chat(r#"{"role":"user","content":"a","name":"n"}"#));
        differ(
            api,
            &chat(r#"{"role":"user","content":"a"},{"role":"user","content":"b"}"#),
            &chat(r#"{"role":"user","content":[{"type":"text","text":"a"},{"type":"text","text":"b"}]}"#),
        );
        differ(api, &chat(user), &chat(&format!(r#"{user},{{"role":"assistant"}}"#)));
        let call = |id: &str, reference: &str| {
            chat(&format!(
                r#"{user},{{"role":"assistant","content":null,"tool_calls":[{{"id":"{id}","type":"function","function":{{"name":"f","arguments":"{{}}"}}}}]}},{{"role":"tool","tool_call_id":"{reference}","content":"r"}}"#
            ))
        };
        same(api, &call("call_1", "call_1"), &call("call_2", "call_2"));
        differ(api, &call("call_1", "call_1"), &call("call_1", "call_2"));
    }

    #[test]
    fn leading_system_messages_of_chat_are_the_system_and_stay_in_the_chain() {
        let chat = |system: &str, user: &str| {
            of(Api::OpenAiChat, &format!(r#"{{"model":"m","messages":[{{"role":"{system}","content":"s"}},{{"role":"user","content":"{user}"}}]}}"#)).expect("a key")
        };
        let one = chat("system", "a");
        assert_eq!((one.system.len(), one.chain.len()), (1, 3));
        assert_eq!(one.drift(&chat("system", "b")).common_prefix, 2);
        let role = one.drift(&chat("developer", "a"));
        assert_eq!((role.components.len(), role.common_prefix), (0, 1));
    }

    #[test]
    fn chat_tools_and_their_fields_are_keyed() {
        let chat = |members: &str| format!(r#"{{"model":"m","messages":[],{members}}}"#);
        let tool = |name: &str| format!(r#"{{"type":"function","function":{{"name":"{name}"}}}}"#);
        let api = Api::OpenAiChat;
        same(
            api,
            &chat(&format!(r#""tools":[{},{}]"#, tool("a"), tool("b"))),
            &chat(&format!(r#""tools":[{},{}]"#, tool("b"), tool("a"))),
        );
        assert_eq!(reason(api, &chat(&format!(r#""tools":[{0},{0}]"#, tool("a")))), "duplicate_tool:a");
        differ(api, &chat(r#""tools":[]"#), &chat(r#""parallel_tool_calls":false"#));
        differ(api, &chat(r#""parallel_tool_calls":true"#), &chat(r#""parallel_tool_calls":false"#));
        differ(api, &chat(r#""functions":[{"name":"f"}]"#), &chat(r#""functions":[{"name":"g"}]"#));
        differ(
            api,
            &chat(r#""functions":[{"name":"f"}]"#),
            &chat(r#""functions":[{"name":"f"}],"function_call":"none""#),
        );
        differ(api, &chat(r#""tool_choice":"none""#), &chat(r#""tool_choice":"auto""#));
        assert_eq!(reason(api, &chat(r#""web_search_options":{}"#)), "not_replayable:web_search_options");
        assert_eq!(reason(api, &chat(r#""audio":{}"#)), "not_replayable:audio");
        assert_eq!(reason(api, &chat(r#""tools":[{"type":"web_search"}]"#)), "server_or_typed_tool:web_search");
    }

    #[test]
    fn chat_drops_what_does_not_reach_the_model() {
        let chat = |members: &str| format!(r#"{{"model":"m"{members},"messages":[{{"role":"user","content":"a"}}]}}"#);
        for dropped in crate::adapter::openai::DROPPED {
            same(Api::OpenAiChat, &chat(""), &chat(&format!(r#","{dropped}":"x""#)));
        }
        for kept in [
            "temperature",
            "n",
            "stop",
            "seed",
            "logit_bias",
            "response_format",
            "reasoning_effort",
            "verbosity",
            "prediction",
            "modalities",
        ] {
            differ(Api::OpenAiChat, &chat(""), &chat(&format!(r#","{kept}":1"#)));
        }
    }

    #[test]
    fn responses_are_cached_only_when_nothing_is_stored_or_referred_to() {
        let api = Api::OpenAiResponses;
        let with = |members: &str| format!(r#"{{"model":"m","input":"a","store":false{members}}}"#);
        of(api, &with("")).expect("a key");
        assert_eq!(reason(api, r#"{"model":"m","input":"a"}"#), "not_replayable:store");
        assert_eq!(reason(api, r#"{"model":"m","input":"a","store":true}"#), "not_replayable:store");
        assert_eq!(reason(api, &with(r#","background":true"#)), "not_replayable:background");
        for field in ["previous_response_id", "conversation", "prompt"] {
            assert_eq!(reason(api, &with(&format!(r#","{field}":"x""#))), format!("external_state:{field}"));
            same(api, &with(""), &with(&format!(r#","{field}":null"#)).replace(&format!(r#","{field}":null"#), ""));
        }
        assert_eq!(
            reason(api, r#"{"model":"m","store":false,"input":[{"id":"msg_1"}]}"#),
            "external_state:item_reference"
        );
        assert_eq!(reason(api, &with(r#","tools":[{"type":"file_search"}]"#)), "server_or_typed_tool:file_search");
        of(api, &with(r#","tools":[{"type":"local_shell"},{"type":"apply_patch"},{"type":"function","name":"f"},{"type":"custom","name":"c"}]"#)).expect("client tools");
    }

    #[test]
    fn a_text_input_is_a_user_message_and_call_ids_are_renamed() {
        let api = Api::OpenAiResponses;
        let with = |input: &str| format!(r#"{{"model":"m","store":false,"input":{input}}}"#);
        same(api, &with(r#""a""#), &with(r#"[{"role":"user","content":"a"}]"#));
        same(api, &with(r#""a""#), &with(r#"[{"role":"user","content":[{"type":"input_text","text":"a"}]}]"#));
        differ(api, &with(r#""a""#), &with(r#"[{"role":"system","content":"a"}]"#));
        let call = |id: &str, reference: &str| {
            with(&format!(
                r#"[{{"type":"function_call","call_id":"{id}","name":"f","arguments":""}},{{"type":"function_call_output","call_id":"{reference}","output":"o"}}]"#
            ))
        };
        same(api, &call("a", "a"), &call("b", "b"));
        differ(api, &call("a", "a"), &call("a", "b"));
        let instructions = of(api, r#"{"model":"m","store":false,"instructions":"i","input":"a"}"#).expect("a key");
        assert_eq!(instructions.system.len(), 1);
    }
}

mod gemini {
    use super::*;

    const API: Api = Api::Gemini;

    #[test]
    fn both_spellings_of_proto_json_are_one() {
        same(
            API,
            r#"{"contents":[{"role":"user","parts":[{"text":"a"}]}],"systemInstruction":{"parts":[{"text":"s"}]},"generationConfig":{"temperature":1},"toolConfig":{}}"#,
            r#"{"contents":[{"role":"user","parts":[{"text":"a"}]}],"system_instruction":{"parts":[{"text":"s"}]},"generation_config":{"temperature":1},"tool_config":{},"labels":{"a":"b"}}"#,
        );
        assert_eq!(reason(API, r#"{"contents":[],"toolConfig":{},"tool_config":{}}"#), "malformed_request");
    }

    #[test]
    fn the_seed_is_the_seed_and_tools_are_a_set() {
        let base = of(API, r#"{"contents":[]}"#).expect("a key");
        let seeded = of(API, r#"{"contents":[],"generationConfig":{"seed":7}}"#).expect("a key");
        assert_ne!(base.components.get(Component::Seed), seeded.components.get(Component::Seed));
        same(
            API,
            r#"{"contents":[],"tools":[{"functionDeclarations":[{"name":"a"},{"name":"b"}]}]}"#,
            r#"{"contents":[],"tools":[{"function_declarations":[{"name":"b"}]},{"functionDeclarations":[{"name":"a"}]}]}"#,
        );
        assert_eq!(
            reason(API, r#"{"contents":[],"tools":[{"googleSearch":{}}]}"#),
            "server_or_typed_tool:googleSearch"
        );
        assert_eq!(
            reason(API, r#"{"contents":[],"tools":[{"code_execution":{}}]}"#),
            "server_or_typed_tool:code_execution"
        );
        assert_eq!(reason(API, r#"{"contents":[],"cachedContent":"x"}"#), "external_state:cached_content");
    }

    #[test]
    fn the_model_is_in_the_path() {
        assert_eq!(reason(API, r#"{"model":"models/gemini-2.0-flash","contents":[]}"#), "malformed_request");
        same(API, r#"{"model":"models/gemini-2.5-pro","contents":[]}"#, r#"{"contents":[]}"#);
        let none = key(br#"{"contents":[]}"#, &Options::new(API));
        assert_eq!(none.expect_err("no model").reason(), "malformed_request");
    }
}

#[test]
fn an_alias_is_keyed_as_its_snapshot_or_as_given_or_refused() {
    let request = br#"{"model":"claude-sonnet-4-5","messages":[]}"#;
    let dated = br#"{"model":"claude-sonnet-4-5-20250929","messages":[]}"#;
    let mut options = Options::new(Api::AnthropicMessages);
    let as_given = key(request, &options).expect("a key");
    options.aliases = [("claude-sonnet-4-5".to_owned(), "claude-sonnet-4-5-20250929".to_owned())].into();
    options.strict_models = true;
    let resolved = key(request, &options).expect("a key");
    assert_eq!(resolved.id(), key(dated, &options).expect("a key").id());
    assert_ne!(resolved.id(), as_given.id());
    options.aliases.clear();
    assert_eq!(key(request, &options).expect_err("an alias").reason(), "model_alias:claude-sonnet-4-5");
}

#[test]
fn the_task_is_the_first_user_turn_in_a_repository() {
    let turn = |more: &str| {
        of(
            Api::AnthropicMessages,
            &message(&format!(r#""messages":[{{"role":"user","content":"a"}},{{"role":"user","content":"b"}}{more}]"#)),
        )
        .expect("a key")
    };
    let (short, long) = (turn(""), turn(r#",{"role":"assistant","content":"c"},{"role":"user","content":"d"}"#));
    assert_eq!(short.task_id("r"), long.task_id("r"));
    assert_ne!(short.id(), long.id());
    assert_ne!(short.task_id("r"), short.task_id("s"));
    assert_ne!(short.task_id("r"), turn(r#",{"role":"user","content":"d"}"#).task_id("r"));
    assert_eq!(of(Api::AnthropicMessages, &message(r#""messages":[]"#)).expect("a key").task_id("r"), None);
}
