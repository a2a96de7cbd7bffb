use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use cache_types::Digest;
use data_encoding::HEXLOWER;
use ed25519_dalek::VerifyingKey;
use prompt_cache::Envelope;
use prompt_cache::proto::{Producer, ProducersRequest};
use serde_json::{Value, json};

use super::{state, wire};
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt verify src/rows.py
  twofold prompt verify --public-key 3b6a… src/*.py
      with a key that did not come from the server that is asked

The exit code is 0 when a recorded result produced each file and its signature holds, 1 otherwise.";

/// Settings of `twofold prompt verify`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Files to look up
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,

    /// Ed25519 key that has to have signed, in hexadecimal [default: the key that the server says is its own]
    #[arg(long, value_name = "HEX")]
    public_key: Option<String>,

    /// Namespace within the tenant
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Looks up, checks signatures, and prints a line for each file.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let mut digests = Vec::new();
    for file in &args.files {
        let digest = state::digest(file, args.remote.digest_function());
        digests.push(digest.with_context(|| format!("cannot read {}", file.display()))?);
    }
    let request = ProducersRequest {
        digests: digests.iter().map(Digest::to_string).collect(),
        namespace: args.namespace.clone(),
    };
    let answer = client.producers(request).await.map_err(wire::said)?.into_inner();
    let key = public_key(args.public_key.as_ref().unwrap_or(&answer.public_key))?;
    let mut all_hold = true;
    for ((file, digest), producer) in args.files.iter().zip(&digests).zip(&answer.producers) {
        let verdict = verdict(digest, producer, &key);
        all_hold &= verdict == "holds";
        let file = file.display().to_string();
        match args.remote.json {
            true => {
                println!("{}", json!({"file": file, "key": producer.key, "path": producer.path, "signature": verdict}))
            }
            false if producer.key.is_empty() => println!("{file}: no recorded result produced these bytes"),
            false => println!("{file}: {} as {}, signature {verdict}", producer.key, producer.path),
        }
    }
    Ok(if all_hold { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn public_key(hex: &str) -> anyhow::Result<VerifyingKey> {
    let bytes = HEXLOWER.decode(hex.as_bytes()).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
    let bytes = bytes.context("a public key is 64 lower-case hexadecimal digits")?;
    VerifyingKey::from_bytes(&bytes).context("this is no Ed25519 key")
}

/// Whether the envelope is signed by the key and speaks of the very bytes.
fn verdict(digest: &Digest, producer: &Producer, key: &VerifyingKey) -> &'static str {
    if producer.key.is_empty() {
        return "absent";
    }
    let envelope: Option<Envelope> = serde_json::from_slice(&producer.envelope).ok();
    let Some(payload) = envelope.and_then(|envelope| envelope.verified(key)) else { return "does not hold" };
    let statement: Value = serde_json::from_slice(&payload).unwrap_or_default();
    let hash = digest.hash().to_string();
    let function = digest.function().name();
    let subjects = statement["subject"].as_array().cloned().unwrap_or_default();
    let names_it = subjects.iter().any(|subject| subject["digest"][function] == hash.as_str());
    let is_of_key =
        statement["predicate"]["buildDefinition"]["externalParameters"]["promptKey"] == producer.key.as_str();
    if names_it && is_of_key { "holds" } else { "is of another file" }
}
