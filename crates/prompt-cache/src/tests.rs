//! The whole cache over a store in memory; each file below holds one idea.

mod calls;
mod explain;
mod fitness;
mod isolation;
mod paths;
mod provenance;
mod tasks;

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

    async fn try_record(&self, invocation: Invocation, result: PromptResult) -> Result<RecordResponse, Refusal> {
        let request = RecordRequest {
            invocation: Some(invocation),
            response: response(MODEL, "end_turn"),
            result: Some(result),
            ..RecordRequest::default()
        };
        self.cache.0.record(&self.caller, request).await
    }

    async fn record(&self, invocation: Invocation, result: PromptResult) -> RecordResponse {
        self.try_record(invocation, result).await.expect("an answer")
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
