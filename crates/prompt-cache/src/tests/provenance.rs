//! Statements, who signed them, and which result a file came of.

use super::*;

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
    let commit = "05fef3c".repeat(6).chars().take(40).collect::<String>();
    let told = PromptResult {
        harness: "claude-code".to_owned(),
        harness_version: "2.1.328".to_owned(),
        requester: "ann".to_owned(),
        requester_statement: digest_of("do it").hash().to_string(),
        source: "git+https://example.org/app".to_owned(),
        commit: commit.clone(),
        started_ms: 1_790_000_000_000,
        ..change()
    };
    let key = bench.recorded(plain(), told).await;
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
    assert_eq!(names, ["source", "system/0", "read:lib.rs"]);
    assert_eq!(definition["resolvedDependencies"][0]["uri"], format!("git+https://example.org/app@{commit}"));
    assert_eq!(definition["resolvedDependencies"][0]["digest"]["gitCommit"], commit);
    let given = &definition["externalParameters"];
    assert_eq!((&given["harness"]["name"], &given["harness"]["version"]), (&"claude-code".into(), &"2.1.328".into()));
    assert_eq!(given["requester"]["statement"]["sha256"], digest_of("do it").hash().to_string());
    let metadata = &statement["predicate"]["runDetails"]["metadata"];
    assert_eq!(metadata["startedOn"], "2026-09-21T14:13:20.000Z");
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
