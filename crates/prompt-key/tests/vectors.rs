//! The test vectors of the specification: keys, drift and common prefix against the base request.

use prompt_key::{Api, Options, PromptKey, Uncacheable, key};
use serde_json::Value;

fn vectors() -> Value {
    let text = include_str!("../../../fixtures/prompts/prompt-key-vectors.json");
    serde_json::from_str(text).expect("the vectors are JSON")
}

fn text(value: &Value) -> &str {
    value.as_str().expect("a string")
}

fn computed(vector: &Value) -> Result<PromptKey, Uncacheable> {
    let given = &vector["options"];
    let mut options = Options::new(Api::AnthropicMessages);
    options.tenant = given["tenant"].as_str().unwrap_or("t0").to_owned();
    options.slot = given["slot"].as_u64().unwrap_or(0);
    options.profile = given["profile"].as_str().unwrap_or("base@1").parse().expect("a profile");
    let betas = given["betas"].as_array().cloned().unwrap_or_default();
    options.betas = betas.iter().map(|beta| text(beta).to_owned()).collect();
    // A request that only its bytes can express is given as a string.
    let request = match &vector["request"] {
        Value::String(bytes) => bytes.clone(),
        request => request.to_string(),
    };
    key(request.as_bytes(), &options)
}

#[test]
fn the_base_request_has_the_digests_of_the_specification() {
    let vectors = vectors();
    let expected = &vectors["base"];
    let base = computed(&vectors["vectors"][0]).expect("the base has a key");
    assert_eq!(base.id().to_string(), text(&expected["key"]));
    for (component, digest) in base.components.iter() {
        assert_eq!(digest.to_string(), text(&expected["components"][component.name()]), "{component}");
    }
    for tool in &base.tools {
        assert_eq!(tool.digest.to_string(), text(&expected["tools"][&tool.name]), "{}", tool.name);
    }
    let chain: Vec<Value> = base.chain.iter().map(|link| link.to_string().into()).collect();
    assert_eq!(Value::Array(chain), expected["chain"]);
}

#[test]
fn every_vector_has_its_key_its_drift_and_its_common_prefix() {
    let vectors = vectors();
    let all = vectors["vectors"].as_array().expect("a list");
    let base = computed(&all[0]).expect("the base has a key");
    assert!(all.len() >= 25);
    for vector in all {
        let name = text(&vector["name"]);
        let expected = text(&vector["key"]);
        match computed(vector) {
            Err(why) => assert_eq!(format!("uncacheable:{}", why.reason()), expected, "{name}"),
            Ok(key) => {
                assert_eq!(key.id().0.to_string(), expected, "{name}");
                assert_eq!(key.id() == base.id(), vector["expect"] == "same", "{name}");
                let drift = key.drift(&base);
                let mut components: Vec<&str> = drift.components.iter().map(|drift| drift.component.name()).collect();
                components.dedup();
                assert_eq!(serde_json::json!(components), vector["drift"], "{name}");
                assert_eq!(serde_json::json!(drift.common_prefix), vector["common_prefix_blocks"], "{name}");
            }
        }
    }
}
