//! Calls: hits, prefixes, misses, slots, and callers that wait for one another.

use super::*;

#[tokio::test]
async fn the_same_invocation_gives_back_the_same_bytes() {
    let bench = bench();
    assert_eq!(
        (bench.call(plain()).await.outcome(), codes(&bench.call(plain()).await)),
        (Outcome::Miss, vec!["unknown"])
    );
    let key = bench.recorded(plain(), PromptResult::default()).await;
    let hit = bench.call(plain()).await;
    assert_eq!((hit.outcome(), &hit.key), (Outcome::Hit, &key));
    let result = hit.result.expect("a result");
    let digest: Digest = result.response.parse().expect("a digest");
    assert!(bench.store.find_missing(&[digest]).await.expect("asked").is_empty());
    assert_eq!((result.writer.as_str(), result.model.as_str()), ("ci", MODEL));
    // 10 tokens in at 5 dollars a million, 2 out at 25.
    assert_eq!((result.cost_microusd, result.price_table.is_empty()), (100, false));
    assert_eq!(result.usage.map(|usage| (usage.input, usage.output)), Some((10, 2)));
}

#[tokio::test]
async fn what_was_recorded_first_stays() {
    let bench = bench();
    bench.recorded(plain(), PromptResult::default()).await;
    let other: Bytes = format!(r#"{{"model":"{MODEL}","stop_reason":"end_turn","x":1}}"#).into();
    let request = RecordRequest { invocation: Some(plain()), response: other, ..RecordRequest::default() };
    assert!(bench.cache.0.record(&bench.caller, request).await.expect("an answer").already);
    let result = bench.call(plain()).await.result.expect("a hit");
    assert_eq!(result.response_id, "msg_1");
}

#[tokio::test]
async fn a_beginning_that_is_known_is_a_prefix() {
    let bench = bench();
    bench.recorded(invocation(&request(MODEL, "s", &["a", "b", "c"])), PromptResult::default()).await;
    let longer = bench.call(invocation(&request(MODEL, "s", &["a", "b", "c", "d", "e"]))).await;
    assert_eq!((longer.outcome(), longer.common_prefix, longer.of), (Outcome::Prefix, 4, 6));
    let parted = bench.call(invocation(&request(MODEL, "s", &["a", "x", "c"]))).await;
    assert_eq!((parted.outcome(), parted.common_prefix), (Outcome::Prefix, 2));
    let other = bench.call(invocation(&request(MODEL, "t", &["a", "b", "c"]))).await;
    assert_eq!((other.outcome(), other.common_prefix), (Outcome::Miss, 0));
}

#[tokio::test]
async fn keys_alone_find_what_keys_alone_recorded() {
    let bench = bench();
    let options = prompt_key::Options::new(prompt_key::Api::AnthropicMessages);
    let key = prompt_key::key(request(MODEL, "s", &["a", "b"]).as_bytes(), &options).expect("a key");
    let chain = Chain {
        key: key.id().to_string(),
        links: key.chain.iter().map(|link| Bytes::copy_from_slice(link.as_bytes())).collect(),
        task: String::new(),
        model: MODEL.to_owned(),
    };
    let keys = Invocation { api: "anthropic.messages".to_owned(), chain: Some(chain.clone()), ..Invocation::default() };
    bench.recorded(keys.clone(), PromptResult::default()).await;
    assert_eq!(bench.call(keys).await.outcome(), Outcome::Hit);
    let other = Chain {
        key: prompt_key::PromptKeyId(key.chain[0]).to_string(),
        links: chain.links[..2].to_vec(),
        ..chain.clone()
    };
    let request = LongestPrefixRequest { chains: vec![chain, other], ..LongestPrefixRequest::default() };
    let answer = bench.cache.0.longest_prefix(&bench.caller, &request).await.expect("an answer");
    let found: Vec<_> =
        answer.prefixes.iter().map(|prefix| (prefix.common_prefix, prefix.of, prefix.recorded)).collect();
    assert_eq!(found, [(3, 3, true), (2, 2, false)]);
}

#[tokio::test]
async fn bernstein_1846_and_temporal_1806_the_nth_identical_call_of_a_run_is_another_sample() {
    let bench = bench();
    let in_run = |run: &str| Invocation { run: run.to_owned(), ..plain() };
    let slots =
        [bench.call(in_run("1")).await.slot, bench.call(in_run("1")).await.slot, bench.call(in_run("2")).await.slot];
    assert_eq!(slots, [0, 1, 0]);
    bench.recorded(Invocation { slot: 1, ..plain() }, PromptResult::default()).await;
    assert_eq!(bench.call(in_run("2")).await.outcome(), Outcome::Hit);
    assert_eq!(bench.call(in_run("2")).await.slot, 2);
}

#[tokio::test]
async fn one_of_many_makes_the_call_and_the_others_get_its_result() {
    let bench = Arc::new(bench());
    let ask = || LookupRequest { invocation: Some(plain()), wait_ms: 60_000, ..LookupRequest::default() };
    let leader = bench.ask(ask()).await;
    assert!(leader.leader && leader.outcome() == Outcome::Miss);
    let followers: Vec<_> = (0..4)
        .map(|_| {
            let (bench, ask) = (bench.clone(), ask());
            tokio::spawn(async move { bench.ask(ask).await })
        })
        .collect();
    // Another slot is another call.
    let other = LookupRequest { invocation: Some(Invocation { slot: 1, ..plain() }), ..ask() };
    assert!(bench.ask(other).await.leader);
    bench.recorded(plain(), PromptResult::default()).await;
    for follower in followers {
        let answer = follower.await.expect("an answer");
        assert_eq!((answer.outcome(), answer.leader), (Outcome::Hit, false));
    }
}

#[tokio::test]
async fn an_expired_result_is_a_miss() {
    let store = Arc::new(MemoryStore::default());
    type Clock = fn() -> std::time::SystemTime;
    let now: Clock = std::time::SystemTime::now;
    let later: Clock = || std::time::SystemTime::now() + std::time::Duration::from_secs(301);
    let cache =
        |clock| PromptCache::with_clock(store.clone(), store.clone(), Secret([7; 32]), Settings::default(), clock);
    let caller = caller("ci", "acme", &Role::ALL);
    let record = RecordRequest {
        invocation: Some(plain()),
        response: response(MODEL, "end_turn"),
        ttl_seconds: 300,
        ..RecordRequest::default()
    };
    cache(now).0.record(&caller, record).await.expect("an answer");
    let lookup = LookupRequest { invocation: Some(plain()), ..LookupRequest::default() };
    assert_eq!(cache(now).0.lookup(&caller, &lookup).await.expect("an answer").outcome(), Outcome::Hit);
    assert_eq!(codes(&cache(later).0.lookup(&caller, &lookup).await.expect("an answer")), ["expired"]);
}

#[tokio::test]
async fn what_hits_spare_is_counted_for_each_namespace_and_for_all() {
    let bench = bench();
    bench.call(plain()).await;
    bench.recorded(plain(), PromptResult { model_ms: 1500, ..PromptResult::default() }).await;
    bench.record(plain(), PromptResult::default()).await;
    bench.call(plain()).await;
    bench.call(plain()).await;
    let of = |caller: &Caller| bench.cache.0.savings(caller, &SavingsRequest::default()).expect("an answer");
    let counted = of(&bench.caller);
    assert_eq!((counted.misses, counted.hits, counted.recorded), (1, 2, 1));
    assert_eq!((counted.input_tokens, counted.output_tokens, counted.saved_ms), (20, 4, 3000));
    assert_eq!((counted.recorded_microusd, counted.saved_microusd), (100, 200));
    assert_eq!(bench.cache.savings(), counted);
    assert_eq!(of(&caller("eve", "evil", &Role::ALL)).hits, 0);
}
