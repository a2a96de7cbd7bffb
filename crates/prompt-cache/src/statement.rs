//! What is attested of a result: an in-toto Statement with a SLSA provenance predicate. Spec: prompt-key §10.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use crate::files::place;
use crate::proto::{Entry, Result as PromptResult};

const STATEMENT: &str = "https://in-toto.io/Statement/v1";
const SLSA: &str = "https://slsa.dev/provenance/v1";
const GENERATION: &str = "https://twofold.build/agent-generation/v1";
const REUSE: &str = "https://twofold.build/reuse/v1";

/// How one result came about, for signing: it says what the harness claimed when it recorded, no more.
pub(crate) fn generation(entry: &Entry, result: &PromptResult) -> Vec<u8> {
    let components = prompt_key::Component::ALL.iter().zip(&entry.components);
    let components: serde_json::Map<String, Value> =
        components.map(|(component, digest)| (component.name().to_owned(), HEXLOWER.encode(digest).into())).collect();
    let statement = json!({
        "_type": STATEMENT,
        "subject": subjects(result),
        "predicateType": SLSA,
        "predicate": {
            "buildDefinition": {
                "buildType": GENERATION,
                "externalParameters": {
                    "promptKey": result.key, "task": result.task, "slot": result.slot, "model": result.model,
                    "harness": {"name": result.harness, "version": result.harness_version},
                    "requester": requester(result),
                },
                "internalParameters": {"profile": result.profile, "components": components},
                "resolvedDependencies": dependencies(entry, result),
            },
            "runDetails": {
                "builder": {"id": format!("twofold:writer/{}", result.writer)},
                "metadata": {"invocationId": result.response_id, "startedOn": time(started_ms(result)), "finishedOn": time(result.created_ms)},
                "byproducts": byproducts(result),
            },
        },
    });
    statement.to_string().into_bytes()
}

/// Who asked for it, and the digest of what they said, if there is one.
fn requester(result: &PromptResult) -> Value {
    match result.requester_statement.as_str() {
        "" => json!({"id": result.requester}),
        sha256 => json!({"id": result.requester, "statement": {"sha256": sha256}}),
    }
}

fn started_ms(result: &PromptResult) -> i64 {
    match result.started_ms {
        0 => result.created_ms.saturating_sub(i64::try_from(result.model_ms).unwrap_or(i64::MAX)),
        given => given,
    }
}

/// The sources that were checked out.
fn source(result: &PromptResult) -> Option<Value> {
    let uri = match result.commit.as_str() {
        "" => result.source.clone(),
        commit => format!("{}@{commit}", result.source),
    };
    let digest = (!result.commit.is_empty()).then(|| json!({"gitCommit": result.commit}));
    match (result.source.is_empty(), digest) {
        (true, None) => None,
        (true, Some(digest)) => Some(json!({"name": "source", "digest": digest})),
        (false, None) => Some(json!({"name": "source", "uri": uri})),
        (false, Some(digest)) => Some(json!({"name": "source", "uri": uri, "digest": digest})),
    }
}

/// That a recorded result was given to someone again. It names the original and claims nothing about its making.
pub(crate) fn reuse(result: &PromptResult, original: &str, caller: &str, now_ms: i64) -> Vec<u8> {
    let statement = json!({
        "_type": STATEMENT,
        "subject": subjects(result),
        "predicateType": REUSE,
        "predicate": {
            "promptKey": result.key,
            "original": {"digest": {"sha256": sha256(original)}},
            "requester": {"id": caller},
            "reusedOn": time(now_ms),
        },
    });
    statement.to_string().into_bytes()
}

/// The files that came of it, or the response where there are none.
fn subjects(result: &PromptResult) -> Vec<Value> {
    let files = result.changes.iter().filter(|op| !op.after.is_empty()).map(|op| named(&op.path, &op.after));
    let files: Vec<Value> = files.collect();
    if files.is_empty() { vec![named("response", &result.response)] } else { files }
}

fn dependencies(entry: &Entry, result: &PromptResult) -> Vec<Value> {
    let hex = |bytes: &[u8]| json!({"pk1": HEXLOWER.encode(bytes)});
    let tools =
        entry.tools.iter().map(|tool| json!({"name": format!("tools/{}", tool.name), "digest": hex(&tool.digest)}));
    let system = entry.system.iter().enumerate();
    let system = system.map(|(index, digest)| json!({"name": format!("system/{index}"), "digest": hex(digest)}));
    let base = (!result.base.is_empty()).then(|| json!({"name": "base", "uri": result.base}));
    let reads = result.reads.iter().filter(|read| !read.digest.is_empty());
    let reads = reads.map(|read| named(&format!("read:{}", place(read)), &read.digest));
    source(result).into_iter().chain(base).chain(tools).chain(system).chain(reads).collect()
}

fn byproducts(result: &PromptResult) -> Vec<Value> {
    let raw = (!result.raw_sse.is_empty()).then(|| named("transcript", &result.raw_sse));
    std::iter::once(named("response", &result.response)).chain(raw).collect()
}

/// A name and a digest, under the function's own name.
fn named(name: &str, digest: &str) -> Value {
    match digest.parse::<cache_types::Digest>() {
        Ok(parsed) => {
            let (function, hash) = (parsed.function().name(), parsed.hash().to_string());
            json!({"name": name, "digest": {function: hash}})
        }
        Err(_) => json!({"name": name}),
    }
}

fn sha256(digest: &str) -> String {
    digest.split('/').next().unwrap_or("").to_owned()
}

/// A time as RFC 3339 has it.
fn time(ms: i64) -> String {
    let since = std::time::Duration::from_millis(u64::try_from(ms).unwrap_or(0));
    humantime::format_rfc3339_millis(std::time::SystemTime::UNIX_EPOCH + since).to_string()
}
