//! `mask-paths@1`: one machine's result, given back with another's paths.

use prompt_key::json;

use super::*;

/// A call made in a folder, whose response says so.
fn at(home: &str) -> Invocation {
    let masks = [("cwd".to_owned(), format!("{home}/app")), ("home".to_owned(), home.to_owned())];
    Invocation {
        profile: "base@1+mask-paths@1".to_owned(),
        masks: masks.into_iter().collect(),
        ..invocation(&request(MODEL, &format!("cwd: {home}/app"), &["a"]))
    }
}

fn said(home: &str) -> Bytes {
    let text = format!(r#"see {home}/app/src/a.rs\nand \"{home}\""#);
    format!(r#"{{"content":[{{"text":"{text}"}}],"model":"{MODEL}","stop_reason":"end_turn"}}"#).into()
}

async fn record(bench: &Bench, response: Bytes, result: PromptResult) -> RecordResponse {
    let request =
        RecordRequest { invocation: Some(at("/home/ann")), response, result: Some(result), ..RecordRequest::default() };
    bench.cache.0.record(&bench.caller, request).await.expect("an answer")
}

#[tokio::test]
async fn a_response_is_given_back_with_the_paths_of_whoever_asks() {
    let bench = bench();
    assert_eq!(record(&bench, said("/home/ann"), PromptResult::default()).await.refused, "");
    for home in ["/home/ann", "/srv/agents/bob"] {
        let hit = bench.call(at(home)).await;
        assert_eq!(hit.outcome(), Outcome::Hit, "{:?}", hit.why);
        let expected = json::parse(&said(home)).expect("JSON");
        assert_eq!(json::parse(&hit.response).expect("JSON"), expected, "{home}");
    }
    // What is stored says nobody's paths.
    let stored = bench.call(at("/srv/agents/bob")).await.result.expect("a result").response;
    let stored: Digest = stored.parse().expect("a digest");
    let body = bench.store.read(&stored, cache_types::ByteRange::ALL).await.expect("asked").expect("here");
    let stored = String::from_utf8(body.collect(10_000).await.expect("read").expect("whole").to_vec()).expect("text");
    assert!(stored.contains("⟨cwd⟩/src/a.rs") && !stored.contains("/home/ann"), "{stored}");
    // A call without the rule is another call.
    assert_eq!(bench.call(Invocation { profile: String::new(), ..at("/home/ann") }).await.outcome(), Outcome::Miss);
}

#[tokio::test]
async fn what_has_no_way_back_is_not_kept() {
    let bench = bench();
    bench.put("run /home/ann/app/x").await;
    let mut result = change();
    result.changes[0].after = digest_of("run /home/ann/app/x").to_string();
    assert!(record(&bench, said("/home/ann"), result).await.refused.contains("src/rows.py"));
    let raw = PromptResult { raw_sse: digest_of("new").to_string(), ..PromptResult::default() };
    assert!(record(&bench, said("/home/ann"), raw).await.refused.contains("raw stream"));
    let within = format!(r#"{{"content":"file:///home/ann/x","model":"{MODEL}","stop_reason":"end_turn"}}"#);
    assert!(record(&bench, within.into(), PromptResult::default()).await.refused.contains("mask-paths@1"));
    bench.put("new").await;
    assert_eq!(record(&bench, said("/home/ann"), change()).await.refused, "");
}

#[tokio::test]
async fn without_every_path_that_is_needed_it_is_a_miss() {
    let bench = bench();
    record(&bench, said("/home/ann"), PromptResult::default()).await;
    // The same key, from a request that says no path of the caller's.
    let mut silent = at("/home/bob");
    silent.masks.remove("home");
    let answer = bench.call(silent).await;
    assert_eq!((answer.outcome() == Outcome::Hit, codes(&answer)), (false, vec!["paths"]));
    assert!(answer.why[0].text.contains("home"), "{}", answer.why[0].text);
}
