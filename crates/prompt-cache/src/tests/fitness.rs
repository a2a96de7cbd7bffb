//! What may be recorded at all.

use super::*;

#[tokio::test]
async fn only_clean_ends_of_the_model_that_was_asked_are_stored() {
    let bench = bench();
    for (model, stop, why) in [
        (MODEL, "max_tokens", "max_tokens"),
        (MODEL, "refusal", "refusal"),
        ("claude-opus-4-7", "end_turn", "claude-opus-4-7"),
    ] {
        let request =
            RecordRequest { invocation: Some(plain()), response: response(model, stop), ..RecordRequest::default() };
        let answer = bench.cache.0.record(&bench.caller, request).await.expect("an answer");
        assert!(answer.refused.contains(why), "{}", answer.refused);
    }
    assert_eq!(bench.call(plain()).await.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn an_alias_is_learnt_from_the_response_and_asked_for_by_it() {
    let bench = bench();
    let alias = invocation(&request("claude-sonnet-4-5", "s", &["a"]));
    assert_eq!(bench.call(alias.clone()).await.outcome(), Outcome::Miss);
    let snapshot = "claude-sonnet-4-5-20250929";
    let record = |response| RecordRequest { invocation: Some(alias.clone()), response, ..RecordRequest::default() };
    let other = bench.cache.0.record(&bench.caller, record(response("claude-opus-4-5-20251101", "end_turn"))).await;
    assert!(!other.expect("an answer").refused.is_empty());
    let key = bench.cache.0.record(&bench.caller, record(response(snapshot, "end_turn"))).await.expect("an answer").key;
    assert_eq!(bench.call(alias).await.key, key);
    assert_eq!(bench.call(invocation(&request(snapshot, "s", &["a"]))).await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn a_result_whose_blobs_are_not_there_is_neither_stored_nor_served() {
    let bench = bench();
    let refused = bench.try_record(plain(), change()).await;
    assert!(matches!(refused, Err(Refusal::MissingBlobs(missing)) if missing == [digest_of("new").to_string()]));
    bench.put("new").await;
    bench.recorded(plain(), change()).await;
    let emptied = Arc::new(MemoryStore::default());
    let cache = PromptCache::new(emptied, bench.store.clone(), Secret([7; 32]), Settings::default());
    let request = LookupRequest {
        invocation: Some(plain()),
        task: true,
        policy: "any".to_owned(),
        tree: tree(),
        ..LookupRequest::default()
    };
    let answer = cache.0.lookup(&bench.caller, &request).await.expect("an answer");
    assert_eq!(codes(&answer), ["blobs_gone"; 3]);
}

#[tokio::test]
async fn paths_that_could_leave_a_folder_are_refused() {
    let bench = bench();
    bench.put("new").await;
    for path in ["../x", "/x", "a/../x", "", "a//b", "./a", "a\0", "a\\..\\b"] {
        let mut result = change();
        result.changes[0].path = path.to_owned();
        assert!(matches!(bench.try_record(plain(), result).await, Err(Refusal::Invalid(_))), "{path:?}");
    }
}

#[tokio::test]
async fn a_profile_that_this_build_does_not_know_is_refused() {
    let bench = bench();
    let request = LookupRequest {
        invocation: Some(Invocation { profile: "base@2".to_owned(), ..plain() }),
        ..LookupRequest::default()
    };
    assert!(matches!(bench.cache.0.lookup(&bench.caller, &request).await, Err(Refusal::Invalid(_))));
}

#[tokio::test]
async fn a_request_without_a_key_is_uncacheable() {
    let bench = bench();
    let twice = invocation(r#"{"model":"a","model":"b","messages":[]}"#);
    let answer = bench.call(twice.clone()).await;
    assert_eq!((answer.outcome(), codes(&answer)), (Outcome::Uncacheable, vec!["uncacheable"]));
    assert!(bench.record(twice, PromptResult::default()).await.refused.contains("duplicate_key:model"));
}

#[tokio::test]
async fn another_backend_of_a_model_is_told_when_its_result_is_recorded() {
    let bench = bench();
    let call = |text: &str| Invocation {
        api: "openai.chat".to_owned(),
        ..invocation(&format!(r#"{{"model":"gpt-5-2025-08-07","messages":[{{"role":"user","content":"{text}"}}]}}"#))
    };
    let record = |text: &str, fingerprint: &str| {
        let response = format!(
            r#"{{"model":"gpt-5-2025-08-07","system_fingerprint":"{fingerprint}","choices":[{{"finish_reason":"stop"}}]}}"#
        );
        RecordRequest { invocation: Some(call(text)), response: response.into(), ..RecordRequest::default() }
    };
    for (text, fingerprint, drift) in [("a", "fp_1", ""), ("b", "fp_1", ""), ("c", "fp_2", "fp_1"), ("d", "fp_2", "")] {
        let answer = bench.cache.0.record(&bench.caller, record(text, fingerprint)).await.expect("an answer");
        assert_eq!((answer.refused.as_str(), answer.backend_drift.as_str()), ("", drift), "{text}");
    }
    assert_eq!(bench.cache.savings().backend_drifts, 1);
    // It is no part of the key.
    assert_eq!(bench.call(call("a")).await.outcome(), Outcome::Hit);
}
