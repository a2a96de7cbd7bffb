//! The way to the prompt cache of a server.

use anyhow::Context;
use prompt_cache::proto::prompt_cache_client::PromptCacheClient;
use prompt_cache::proto::{Chain, Invocation};
use prompt_key::Options;
use reapi::client::{RemoteStore, Transport};

use super::request::RequestArgs;
use crate::remote::RemoteArgs;

/// The largest answer that is read.
const MAX_ANSWER_BYTES: usize = 64 * 1024 * 1024;

/// The tenant of callers whose credential names none.
const DEFAULT_TENANT: &str = "default";

/// A model request as a server gets it.
#[derive(clap::Args, Clone)]
pub struct InvocationArgs {
    #[command(flatten)]
    request: RequestArgs,

    /// Repository, which task keys need
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    repo: String,

    /// Run of a harness: its n-th identical call is another sample
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    run: String,

    /// Session of a harness, within which no evidence is needed
    #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
    session: String,

    /// Send the keys alone; the request stays here
    #[arg(long)]
    keys_only: bool,

    /// Tenant that keys are made for, with --keys-only
    #[arg(long, value_name = "NAME", default_value = DEFAULT_TENANT, requires = "keys_only")]
    tenant: String,
}

impl InvocationArgs {
    /// The invocation of the wire.
    pub fn read(&self) -> anyhow::Result<Invocation> {
        let options = self.request.options(&self.tenant)?;
        let bytes = self.request.read()?;
        let mut invocation = Invocation {
            api: options.api.name().to_owned(),
            api_version: options.api_version.clone(),
            betas: options.betas.clone(),
            namespace: options.namespace.clone(),
            data_geo: options.data_geo.clone().unwrap_or_default(),
            profile: options.profile.to_string(),
            model: options.model.clone().unwrap_or_default(),
            aliases: options.aliases.clone(),
            masks: self.request.masks()?.into_iter().collect(),
            strict_models: options.strict_models,
            slot: options.slot,
            repo: self.repo.clone(),
            run: self.run.clone(),
            session: self.session.clone(),
            ..Invocation::default()
        };
        match self.keys_only {
            true => invocation.chain = Some(chain(&bytes, &options, &self.repo)?),
            false => invocation.request = bytes.into(),
        }
        Ok(invocation)
    }
}

fn chain(bytes: &[u8], options: &Options, repo: &str) -> anyhow::Result<Chain> {
    let key = prompt_key::key(bytes, options).context("the request has no key")?;
    let task = (!repo.is_empty()).then(|| key.task_id(repo)).flatten();
    Ok(Chain {
        key: key.id().to_string(),
        links: key.chain.iter().map(|link| bytes::Bytes::copy_from_slice(link.as_bytes())).collect(),
        task: task.map(|task| task.to_string()).unwrap_or_default(),
        model: key.model,
    })
}

/// The prompt cache and the blobs of a server, over one connection.
pub async fn connect(remote: &RemoteArgs) -> anyhow::Result<(PromptCacheClient<Transport>, RemoteStore)> {
    let store = remote.connect().await?;
    let client = PromptCacheClient::new(store.transport())
        .max_decoding_message_size(MAX_ANSWER_BYTES)
        .max_encoding_message_size(MAX_ANSWER_BYTES);
    Ok((client, store))
}

/// The words of an answer that says no.
pub fn said(status: tonic::Status) -> anyhow::Error {
    anyhow::anyhow!("the server answered {:?}: {}", status.code(), status.message())
}

/// Prints a message as JSON.
pub fn print_json(message: &impl serde::Serialize) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(message)?);
    Ok(())
}
