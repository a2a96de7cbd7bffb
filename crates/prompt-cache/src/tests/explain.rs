//! What an explanation says.

use super::*;

#[tokio::test]
async fn explain_names_what_drifted_and_the_rule_that_would_have_hit() {
    let bench = bench();
    let asked = |system: &str, turns: &[&str]| invocation(&request(MODEL, system, turns));
    let key = bench.recorded(asked("Today's date: 2026-11-23", &["a"]), PromptResult::default()).await;
    let explain = |invocation: Invocation| {
        let request = LookupRequest { invocation: Some(invocation), ..LookupRequest::default() };
        let bench = &bench;
        async move { bench.cache.0.explain(&bench.caller, &request).await.expect("an answer") }
    };
    let answer = explain(asked("Today's date: 2026-11-24", &["a"])).await;
    assert_eq!((&answer.nearest, answer.would_hit_with.as_slice()), (&key, &["mask-date@1".to_owned()][..]));
    assert_eq!((answer.drift[0].component.as_str(), answer.drift[0].item.as_str()), ("system", "block 0"));
    let model = explain(invocation(&request("claude-opus-4-7", "Today's date: 2026-11-23", &["a"]))).await;
    assert_eq!((model.drift.len(), model.drift[0].component.as_str()), (1, "model"));
    let slot = explain(Invocation { slot: 2, ..asked("Today's date: 2026-11-23", &["a"]) }).await;
    assert_eq!((slot.drift[0].component.as_str(), slot.drift[0].fields.as_slice()), ("seed", &["slot".to_owned()][..]));
    let turns = explain(asked("Today's date: 2026-11-23", &["a", "b"])).await;
    assert_eq!((turns.common_prefix, turns.of, turns.drift[0].component.as_str()), (2, 3, "messages"));
    let itself = explain(asked("Today's date: 2026-11-23", &["a"])).await;
    assert!(itself.drift.is_empty() && itself.why.is_empty());
    let unlike = explain(asked("x", &["nothing like it"])).await;
    assert_eq!((unlike.nearest.as_str(), unlike.why[0].code.as_str()), ("", "unknown"));
}

async fn explained(bench: &Bench, invocation: Invocation, text: bool) -> crate::proto::ExplainResponse {
    let request = LookupRequest { invocation: Some(invocation), text, ..LookupRequest::default() };
    bench.cache.0.explain(&bench.caller, &request).await.expect("an answer")
}

#[tokio::test]
async fn a_span_that_alone_keeps_changing_is_suggested_after_five_misses() {
    let bench = bench();
    let on = |day: u32, more: &str| {
        invocation(&request(MODEL, &format!("You code.\\nToday's date: 2026-11-{day:02}{more}"), &["a"]))
    };
    bench.recorded(on(1, ""), PromptResult::default()).await;
    for day in 2..6 {
        assert_eq!(explained(&bench, on(day, ""), false).await.suggestions, [], "{day}");
        // The same miss again says nothing new.
        assert_eq!(explained(&bench, on(day, ""), false).await.suggestions, []);
    }
    let told = explained(&bench, on(6, ""), false).await.suggestions;
    let [one] = told.as_slice() else { panic!("{told:?}") };
    assert_eq!((one.component.as_str(), one.pointer.as_str(), one.kind.as_str()), ("system", "/0/text", "date"));
    assert_eq!((one.span.as_str(), one.rule.as_str()), ("2026-11-06", "mask-date@1"));
    // It is a suggestion: nothing hits by it.
    assert_eq!(bench.call(on(7, "")).await.outcome(), Outcome::Miss);
    // Another text around it is another span, and two components that differ are none.
    assert_eq!(explained(&bench, on(8, " or so"), false).await.suggestions, []);
    let both = Invocation { slot: 3, ..on(9, "") };
    assert_eq!(explained(&bench, both, false).await.suggestions, []);
}

#[tokio::test]
async fn a_request_is_kept_only_if_asked_for_and_is_given_to_its_tenant_alone() {
    let bench = bench();
    let keep = |invocation: Invocation, keep_text| RecordRequest {
        invocation: Some(invocation),
        response: response(MODEL, "end_turn"),
        keep_text,
        ..RecordRequest::default()
    };
    let (kept, other) = (plain(), invocation(&request(MODEL, "s", &["b"])));
    bench.cache.0.record(&bench.caller, keep(kept.clone(), true)).await.expect("an answer");
    bench.cache.0.record(&bench.caller, keep(other.clone(), false)).await.expect("an answer");
    assert_eq!(explained(&bench, kept.clone(), true).await.nearest_request, kept.request);
    assert_eq!(explained(&bench, kept.clone(), false).await.nearest_request, Bytes::new());
    assert_eq!(explained(&bench, other, true).await.nearest_request, Bytes::new());
    let eve = caller("eve", "evil", &Role::ALL);
    let request = LookupRequest { invocation: Some(kept), text: true, ..LookupRequest::default() };
    let theirs = bench.cache.0.explain(&eve, &request).await.expect("an answer");
    assert_eq!(theirs.nearest_request, Bytes::new());
}
