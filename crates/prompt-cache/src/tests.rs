use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use cache_types::{Caller, Digest, DigestFunction, Grant, InstanceName, Role};
use ed25519_dalek::SigningKey;
use store::{BlobBody, BlobStore, MemoryStore};

use crate::proto::{
    AttestRequest, Chain, Completeness, Evidence, FileOp, InvalidateRequest, Invocation, LongestPrefixRequest,
    LookupRequest, LookupResponse, OpKind, Outcome, ProducersRequest, Read, ReadKind, RecordRequest, RecordResponse,
    ReportRequest, Result as PromptResult, SavingsRequest, SignRequest, ToolCall,
};
use crate::refusal::Refusal;
use crate::{ABSENT, Envelope, PromptCache, Secret, Settings, Signer};

const MODEL: &str = "claude-opus-4-8";

struct Bench {
    store: Arc<MemoryStore>,
    cache: PromptCache,
    caller: Caller,
}

fn caller(name: &str, tenant: &str, roles: &[Role]) -> Caller {
    let grant = Grant { prefix: InstanceName::default(), roles: roles.iter().copied().collect() };
    Caller::known(name, tenant, vec![grant])
}

/// The key of a person whose signature counts.
fn person() -> SigningKey {
    SigningKey::from_bytes(&[9; 32])
}

fn signer() -> Signer {
    Signer::new("ann", &data_encoding::HEXLOWER.encode(person().verifying_key().as_bytes())).expect("a key")
}

fn bench() -> Bench {
    let store = Arc::new(MemoryStore::default());
    let cache = PromptCache::new(
        store.clone(),
        store.clone(),
        Secret([7; 32]),
        Settings { signers: vec![signer()], ..Settings::default() },
    );
    Bench { store, cache, caller: caller("ci", "acme", &Role::ALL) }
}

fn request(model: &str, system: &str, turns: &[&str]) -> String {
    let turns: Vec<String> = turns
        .iter()
        .enumerate()
        .map(|(index, text)| {
            let role = if index % 2 == 0 { "user" } else { "assistant" };
            format!(r#"{{"role":"{role}","content":"{text}"}}"#)
        })
        .collect();
    format!(r#"{{"model":"{model}","max_tokens":9,"system":"{system}","messages":[{}]}}"#, turns.join(","))
}

fn invocation(request: &str) -> Invocation {
    Invocation {
        api: "anthropic.messages".to_owned(),
        request: Bytes::copy_from_slice(request.as_bytes()),
        repo: "r".to_owned(),
        ..Invocation::default()
    }
}

fn response(model: &str, stop: &str) -> Bytes {
    format!(
        r#"{{"id":"msg_1","model":"{model}","stop_reason":"{stop}","usage":{{"input_tokens":10,"output_tokens":2}}}}"#
    )
    .into()
}

fn plain() -> Invocation {
    invocation(&request(MODEL, "s", &["a"]))
}

fn digest_of(text: &str) -> Digest {
    Digest::of(DigestFunction::Sha256, text.as_bytes())
}

/// A result that read `lib.rs`, found no `new.rs`, and wrote `rows.py`.
fn change() -> PromptResult {
    PromptResult {
        changes: vec![FileOp {
            op: OpKind::Write.into(),
            path: "src/rows.py".to_owned(),
            before: digest_of("old").to_string(),
            after: digest_of("new").to_string(),
            mode: 0o644,
            ..FileOp::default()
        }],
        reads: vec![
            Read { path: "lib.rs".to_owned(), kind: ReadKind::File.into(), digest: digest_of("lib").to_string() },
            Read { path: "new.rs".to_owned(), kind: ReadKind::Absent.into(), digest: String::new() },
        ],
        completeness: Completeness::Traced.into(),
        ..PromptResult::default()
    }
}

fn tree() -> BTreeMap<String, String> {
    let states = [
        ("lib.rs", digest_of("lib").to_string()),
        ("new.rs", ABSENT.to_owned()),
        ("src/rows.py", digest_of("old").to_string()),
    ];
    states.into_iter().map(|(path, state)| (path.to_owned(), state)).collect()
}

fn evidence(exit_code: i32, tests_passed: u32, tests_failed: u32) -> Option<Evidence> {
    Some(Evidence { exit_code, tests_passed, tests_failed, ..Evidence::default() })
}

impl Bench {
    async fn put(&self, text: &str) {
        let bytes = Bytes::copy_from_slice(text.as_bytes());
        self.store.write(digest_of(text), BlobBody::from(bytes)).await.expect("a blob");
    }

    async fn record(&self, invocation: Invocation, result: PromptResult) -> RecordResponse {
        let request = RecordRequest {
            invocation: Some(invocation),
            response: response(MODEL, "end_turn"),
            result: Some(result),
            ttl_seconds: 0,
        };
        self.cache.0.record(&self.caller, request).await.expect("an answer")
    }

    async fn recorded(&self, invocation: Invocation, result: PromptResult) -> String {
        let answer = self.record(invocation, result).await;
        assert_eq!(answer.refused, "");
        answer.key
    }

    async fn ask(&self, request: LookupRequest) -> LookupResponse {
        self.cache.0.lookup(&self.caller, &request).await.expect("an answer")
    }

    async fn call(&self, invocation: Invocation) -> LookupResponse {
        self.ask(LookupRequest { invocation: Some(invocation), ..LookupRequest::default() }).await
    }

    async fn task(&self, tree: BTreeMap<String, String>, policy: &str) -> LookupResponse {
        let policy = policy.to_owned();
        self.ask(LookupRequest { invocation: Some(plain()), task: true, tree, policy, ..LookupRequest::default() })
            .await
    }

    async fn report(&self, key: &str, evidence: Option<Evidence>) {
        let request = ReportRequest { key: key.to_owned(), evidence, ..ReportRequest::default() };
        assert!(self.cache.0.report(&self.caller, &request).await.expect("an answer").found);
    }
}

fn codes(answer: &LookupResponse) -> Vec<&str> {
    answer.why.iter().map(|why| why.code.as_str()).collect()
}

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
async fn a_task_hits_when_reads_and_befores_are_as_they_were_and_it_was_built() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    let asked = bench.task(BTreeMap::new(), "any").await;
    assert_eq!((codes(&asked), asked.needs.len()), (vec!["needs_tree"], 3));
    assert_eq!(codes(&bench.task(tree(), "").await), ["evidence"]);
    assert_eq!(bench.task(tree(), "any").await.outcome(), Outcome::Hit);
    bench.report(&key, evidence(0, 0, 0)).await;
    assert_eq!(bench.task(tree(), "").await.outcome(), Outcome::Hit);
    assert_eq!(codes(&bench.task(tree(), "tested").await), ["evidence"]);
    bench.report(&key, evidence(0, 4, 0)).await;
    assert_eq!(bench.task(tree(), "tested").await.outcome(), Outcome::Hit);
    assert_eq!(codes(&bench.task(tree(), "signed").await), ["evidence"]);
}

#[tokio::test]
async fn a_changed_file_is_a_miss_that_names_it() {
    let bench = bench();
    bench.put("new").await;
    bench.recorded(plain(), change()).await;
    for (path, state, code) in [
        ("lib.rs", digest_of("other").to_string(), "read_changed"),
        ("new.rs", digest_of("there").to_string(), "read_changed"),
        ("src/rows.py", ABSENT.to_owned(), "before_changed"),
    ] {
        let mut tree = tree();
        tree.insert(path.to_owned(), state.clone());
        let answer = bench.task(tree, "any").await;
        assert_eq!((answer.outcome() == Outcome::Hit, codes(&answer)), (false, vec![code]));
        assert_eq!((answer.why[0].path.as_str(), &answer.why[0].now), (path, &state));
    }
    let mut silent = tree();
    silent.remove("lib.rs");
    assert_eq!(codes(&bench.task(silent, "any").await), ["needs_tree"]);
    // A call with changes needs the tree as well.
    assert_eq!(codes(&bench.call(plain()).await), ["needs_tree"]);
}

#[tokio::test]
async fn a_red_report_demotes_at_once_and_a_new_result_takes_its_place() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    bench.report(&key, evidence(0, 3, 0)).await;
    bench.report(&key, evidence(1, 2, 1)).await;
    let answer = bench.task(tree(), "any").await;
    assert_eq!(codes(&answer), ["red_report"]);
    assert!(answer.why[0].text.contains("1 tests failed"));
    bench.report(&key, evidence(0, 3, 0)).await;
    assert_eq!(codes(&bench.task(tree(), "any").await), ["red_report"]);
    assert!(!bench.record(plain(), change()).await.already);
    assert_eq!(bench.task(tree(), "any").await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn declared_reads_are_not_enough_for_others_once_a_shell_ran() {
    let bench = bench();
    bench.put("new").await;
    let call = |name: &str| vec![ToolCall { name: name.to_owned(), ..ToolCall::default() }];
    let declared = |calls| PromptResult {
        completeness: Completeness::Declared.into(),
        calls,
        session: "s1".to_owned(),
        ..change()
    };
    bench.recorded(plain(), declared(call("Bash"))).await;
    assert_eq!(codes(&bench.task(tree(), "any").await), ["reads_incomplete"]);
    let own = Invocation { session: "s1".to_owned(), ..plain() };
    let request = LookupRequest { invocation: Some(own), task: true, tree: tree(), ..LookupRequest::default() };
    assert_eq!(bench.ask(request).await.outcome(), Outcome::Hit);
    let slot = Invocation { slot: 1, ..plain() };
    bench.recorded(slot.clone(), declared(call("Read"))).await;
    let request = LookupRequest {
        invocation: Some(slot),
        task: true,
        tree: tree(),
        policy: "any".to_owned(),
        ..LookupRequest::default()
    };
    assert_eq!(bench.ask(request).await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn a_result_whose_blobs_are_not_there_is_neither_stored_nor_served() {
    let bench = bench();
    let request = RecordRequest {
        invocation: Some(plain()),
        response: response(MODEL, "end_turn"),
        result: Some(change()),
        ttl_seconds: 0,
    };
    let refused = bench.cache.0.record(&bench.caller, request).await;
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
async fn cve_2025_46570_another_tenant_neither_sees_nor_probes() {
    let bench = bench();
    let key = bench.recorded(plain(), PromptResult::default()).await;
    let other = caller("eve", "evil", &Role::ALL);
    let by_request = LookupRequest { invocation: Some(plain()), ..LookupRequest::default() };
    let answer = bench.cache.0.lookup(&other, &by_request).await.expect("an answer");
    assert_eq!((answer.outcome(), answer.common_prefix), (Outcome::Miss, 0));
    // The very key and chain of the tenant, copied, find nothing either.
    let chain = Chain { key: key.clone(), ..Chain::default() };
    let stolen = LookupRequest {
        invocation: Some(Invocation { chain: Some(chain), ..Invocation::default() }),
        ..LookupRequest::default()
    };
    assert_eq!(bench.cache.0.lookup(&bench.caller, &stolen).await.expect("an answer").outcome(), Outcome::Hit);
    assert_eq!(bench.cache.0.lookup(&other, &stolen).await.expect("an answer").outcome(), Outcome::Miss);
    // Nor does another namespace of the tenant.
    let Some(invocation) = stolen.invocation.clone() else { panic!("given above") };
    let elsewhere = Invocation { namespace: "other".to_owned(), ..invocation };
    assert_eq!(bench.call(elsewhere).await.outcome(), Outcome::Miss);
    let report = ReportRequest { key, evidence: evidence(1, 0, 0), ..ReportRequest::default() };
    assert!(!bench.cache.0.report(&other, &report).await.expect("an answer").found);
    assert_eq!(bench.call(plain()).await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn a_rule_whose_results_cannot_be_put_back_is_refused() {
    let bench = bench();
    let invocation = Invocation { profile: "base@1+mask-paths@1".to_owned(), ..plain() };
    let request = LookupRequest { invocation: Some(invocation), ..LookupRequest::default() };
    assert!(
        matches!(bench.cache.0.lookup(&bench.caller, &request).await, Err(Refusal::Invalid(why)) if why.contains("mask-paths@1"))
    );
}

#[tokio::test]
async fn who_lacks_the_role_neither_records_nor_reports_nor_invalidates() {
    let bench = bench();
    let reader = caller("reader", "acme", &[Role::Read, Role::CasWrite, Role::AcWrite]);
    let record =
        RecordRequest { invocation: Some(plain()), response: response(MODEL, "end_turn"), ..RecordRequest::default() };
    let report = ReportRequest { key: "x".to_owned(), evidence: evidence(1, 0, 0), ..ReportRequest::default() };
    let purge = InvalidateRequest { model: MODEL.to_owned(), ..InvalidateRequest::default() };
    let cache = &bench.cache.0;
    assert!(matches!(cache.record(&reader, record).await, Err(Refusal::Denied(_))));
    assert!(matches!(cache.report(&reader, &report).await, Err(Refusal::Denied(_))));
    assert!(matches!(cache.invalidate(&reader, &purge).await, Err(Refusal::Denied(_))));
    let lookup = LookupRequest { invocation: Some(plain()), ..LookupRequest::default() };
    assert!(matches!(cache.lookup(&caller("none", "acme", &[]), &lookup).await, Err(Refusal::Denied(_))));
}

#[tokio::test]
async fn what_is_invalidated_is_gone_and_what_comes_after_is_not() {
    let bench = bench();
    bench.put("new").await;
    let by = |change: fn(&mut InvalidateRequest)| {
        let mut request = InvalidateRequest::default();
        change(&mut request);
        request
    };
    let tool = "0".repeat(64);
    assert!(matches!(bench.cache.0.invalidate(&bench.caller, &by(|_| {})).await, Err(Refusal::Invalid(_))));
    for (request, covers) in [
        (by(|rule| rule.writer = "ci".to_owned()), true),
        (by(|rule| rule.writer = "other".to_owned()), false),
        (by(|rule| rule.model = MODEL.to_owned()), true),
        (by(|rule| rule.profile = "base@1".to_owned()), true),
        (by(|rule| rule.path_prefix = "src/".to_owned()), true),
        (by(|rule| rule.path_prefix = "doc/".to_owned()), false),
        (by(|rule| rule.before_ms = 1), false),
        (InvalidateRequest { tool, ..InvalidateRequest::default() }, false),
    ] {
        let fresh = self::bench();
        fresh.put("new").await;
        fresh.recorded(plain(), change()).await;
        assert_eq!(fresh.task(tree(), "any").await.outcome(), Outcome::Hit);
        fresh.cache.0.invalidate(&fresh.caller, &request).await.expect("an answer");
        let answer = fresh.task(tree(), "any").await;
        assert_eq!(codes(&answer) == ["invalidated"], covers, "{request:?}");
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
async fn paths_that_could_leave_a_folder_are_refused() {
    let bench = bench();
    bench.put("new").await;
    for path in ["../x", "/x", "a/../x", "", "a//b", "./a", "a\0", "a\\..\\b"] {
        let mut result = change();
        result.changes[0].path = path.to_owned();
        let request = RecordRequest {
            invocation: Some(plain()),
            response: response(MODEL, "end_turn"),
            result: Some(result),
            ttl_seconds: 0,
        };
        assert!(matches!(bench.cache.0.record(&bench.caller, request).await, Err(Refusal::Invalid(_))), "{path:?}");
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

fn payload(envelope: &[u8], public_key: &str) -> serde_json::Value {
    let envelope: crate::Envelope = serde_json::from_slice(envelope).expect("an envelope");
    let key = data_encoding::HEXLOWER.decode(public_key.as_bytes()).expect("hexadecimal").try_into().expect("32 bytes");
    let key = ed25519_dalek::VerifyingKey::from_bytes(&key).expect("a key");
    serde_json::from_slice(&envelope.verified(&key).expect("a signature that holds")).expect("JSON")
}

#[tokio::test]
async fn a_result_is_attested_once_and_a_reuse_names_it() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    let attest = |reuse| AttestRequest { key: key.clone(), reuse, ..AttestRequest::default() };
    let first = bench.cache.0.attest(&bench.caller, &attest(false)).await.expect("an answer");
    let statement = payload(&first.envelope, &first.public_key);
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["subject"][0]["name"], "src/rows.py");
    assert_eq!(statement["subject"][0]["digest"]["sha256"], digest_of("new").hash().to_string());
    let definition = &statement["predicate"]["buildDefinition"];
    assert_eq!(definition["externalParameters"]["promptKey"], key.as_str());
    assert_eq!(definition["internalParameters"]["components"].as_object().map(serde_json::Map::len), Some(8));
    let names: Vec<&str> = definition["resolvedDependencies"]
        .as_array()
        .expect("a list")
        .iter()
        .filter_map(|one| one["name"].as_str())
        .collect();
    assert_eq!(names, ["system/0", "read:lib.rs"]);
    let reuse = bench.cache.0.attest(&bench.caller, &attest(true)).await.expect("an answer");
    let reused = payload(&reuse.envelope, &reuse.public_key);
    assert_eq!(reused["predicateType"], "https://twofold.build/reuse/v1");
    let original = Digest::of(DigestFunction::Sha256, &first.envelope).hash().to_string();
    assert_eq!(reused["predicate"]["original"]["digest"]["sha256"], original);
    assert_eq!(bench.cache.0.attest(&bench.caller, &attest(false)).await.expect("an answer").envelope, first.envelope);
}

#[tokio::test]
async fn files_are_traced_to_the_result_that_produced_them_within_the_tenant() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    let ask = ProducersRequest {
        digests: vec![digest_of("new").to_string(), digest_of("old").to_string()],
        ..ProducersRequest::default()
    };
    let answer = bench.cache.0.producers(&bench.caller, &ask).await.expect("an answer");
    let found: Vec<_> = answer.producers.iter().map(|one| (one.key.as_str(), one.path.as_str())).collect();
    assert_eq!(found, [(key.as_str(), "src/rows.py"), ("", "")]);
    let other = caller("eve", "evil", &Role::ALL);
    let answer = bench.cache.0.producers(&other, &ask).await.expect("an answer");
    assert!(answer.producers.iter().all(|one| one.key.is_empty()));
}

#[tokio::test]
async fn a_policy_of_signatures_is_met_by_a_signer_of_the_configuration_alone() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    assert_eq!(codes(&bench.task(tree(), "signed").await), ["evidence"]);
    let attest = AttestRequest { key: key.clone(), ..AttestRequest::default() };
    let attested = bench.cache.0.attest(&bench.caller, &attest).await.expect("an answer");
    let envelope: Envelope = serde_json::from_slice(&attested.envelope).expect("an envelope");
    let sign = |signed: crate::Signed| SignRequest {
        key: key.clone(),
        namespace: String::new(),
        keyid: signed.keyid,
        sig: signed.sig,
    };
    let stranger = envelope.signed_by(&SigningKey::from_bytes(&[8; 32])).expect("a signature");
    let refused = bench.cache.0.sign(&bench.caller, &sign(stranger.clone())).await;
    assert!(matches!(refused, Err(Refusal::Invalid(_))));
    let own = envelope.signed_by(&person()).expect("a signature");
    // The signature of one key under the name of another.
    let forged = crate::Signed { keyid: own.keyid.clone(), sig: stranger.sig };
    assert!(matches!(bench.cache.0.sign(&bench.caller, &sign(forged)).await, Err(Refusal::Invalid(_))));
    assert_eq!(codes(&bench.task(tree(), "signed").await), ["evidence"]);
    for _ in 0..2 {
        let answer = bench.cache.0.sign(&bench.caller, &sign(own.clone())).await.expect("an answer");
        assert!(answer.found && answer.signer == "ann");
    }
    let hit = bench.task(tree(), "signed").await;
    assert_eq!(hit.outcome(), Outcome::Hit);
    assert_eq!(hit.result.expect("a result").signatures.len(), 1);
    // Both signatures hold over the one statement.
    let again = bench.cache.0.attest(&bench.caller, &AttestRequest { key, ..AttestRequest::default() }).await;
    let signed = again.expect("an answer");
    payload(&signed.envelope, &signed.public_key);
    payload(&signed.envelope, &signer().public_key());
    // A signer that the configuration names no more counts no more.
    let cache = PromptCache::new(bench.store.clone(), bench.store.clone(), Secret([7; 32]), Settings::default());
    let request = LookupRequest {
        invocation: Some(plain()),
        task: true,
        tree: tree(),
        policy: "signed".to_owned(),
        ..LookupRequest::default()
    };
    assert_eq!(codes(&cache.0.lookup(&bench.caller, &request).await.expect("an answer")), ["evidence"]);
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
