use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, anyhow};
use data_encoding::BASE64;
use ed25519_dalek::SigningKey;
use prompt_cache::Envelope;
use prompt_cache::proto::{AttestRequest, SignRequest};

use super::wire;
use crate::remote::RemoteArgs;

const EXAMPLES: &str = "\
Examples:
  twofold prompt attest pk1:sha256:3d8d… > provenance.dsse.json
  twofold prompt attest --reuse pk1:sha256:3d8d…
      that the result was given out again, naming the statement of the first time
  openssl genpkey -algorithm ed25519 -out me.pem
  twofold prompt attest --sign me.pem pk1:sha256:3d8d…
      adds a signature, which counts if the server's configuration names its key under [prompt.signers]

Prints a DSSE envelope of an in-toto statement, signed by the server when the result was recorded. It says what the
harness claimed: no model provider signs responses.";

/// Settings of `twofold prompt attest`.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Key of the result
    #[arg(value_name = "KEY")]
    key: String,

    /// Attest that it is used again
    #[arg(long)]
    reuse: bool,

    /// Add the signature of this Ed25519 key, a PEM file of PKCS #8
    #[arg(long, value_name = "FILE", conflicts_with = "reuse")]
    sign: Option<PathBuf>,

    /// Namespace within the tenant
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    #[command(flatten)]
    remote: RemoteArgs,
}

/// Prints the envelope; with --json the server's public key too.
pub async fn run(args: Args) -> anyhow::Result<ExitCode> {
    let (mut client, _store) = wire::connect(&args.remote).await?;
    let request = AttestRequest { key: args.key, reuse: args.reuse, namespace: args.namespace };
    let mut answer = client.attest(request.clone()).await.map_err(wire::said)?.into_inner();
    if answer.envelope.is_empty() {
        anyhow::bail!("nothing is recorded under this key, or its statement is gone");
    }
    if let Some(file) = &args.sign {
        let envelope: Envelope = serde_json::from_slice(&answer.envelope).context("the server sent no envelope")?;
        let signed = envelope.signed_by(&signing_key(file)?).context("the envelope holds no payload")?;
        let sign = SignRequest {
            key: request.key.clone(),
            namespace: request.namespace.clone(),
            keyid: signed.keyid,
            sig: signed.sig,
        };
        client.sign(sign).await.map_err(wire::said)?;
        answer = client.attest(request).await.map_err(wire::said)?.into_inner();
    }
    match args.remote.json {
        true => wire::print_json(&answer)?,
        false => println!("{}", std::str::from_utf8(&answer.envelope).context("the envelope is no text")?),
    }
    Ok(ExitCode::SUCCESS)
}

/// What a PKCS #8 file of an Ed25519 key holds before the 32 bytes of the key. Spec: RFC 8410 §7.
const PKCS8_PREFIX: &[u8] = &[0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

fn signing_key(file: &Path) -> anyhow::Result<SigningKey> {
    let pem = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let body: String = pem.lines().filter(|line| !line.starts_with("-----")).map(str::trim).collect();
    let der = BASE64.decode(body.as_bytes()).ok();
    let key = der.as_deref().and_then(|der| der.strip_prefix(PKCS8_PREFIX)).and_then(|key| key.try_into().ok());
    let key: [u8; 32] = key.ok_or_else(|| {
        anyhow!("{} is no Ed25519 key: make one with `openssl genpkey -algorithm ed25519`", file.display())
    })?;
    Ok(SigningKey::from_bytes(&key))
}
