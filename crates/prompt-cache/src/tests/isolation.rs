//! Tenants, roles and invalidations.

use super::*;

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
