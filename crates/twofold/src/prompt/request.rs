use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use prompt_key::{Api, Masks, Options, Profile, Rule};

/// A model request and what makes its key beside its bytes.
#[derive(clap::Args, Clone)]
pub struct RequestArgs {
    /// File with the request, the JSON that the provider would get; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    request: PathBuf,

    /// API of the request: anthropic.messages, openai.chat, openai.responses, gemini.generate_content, neutral
    #[arg(long, value_name = "API")]
    api: Api,

    /// Version of the API, as the anthropic-version header has it [default: the API's usual one]
    #[arg(long, value_name = "VERSION")]
    api_version: Option<String>,

    /// Beta flag of the anthropic-beta header; may be given again
    #[arg(long = "beta", value_name = "NAME")]
    betas: Vec<String>,

    /// Namespace within the tenant
    #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
    namespace: String,

    /// Where data may go, when that matters
    #[arg(long, value_name = "PLACE")]
    data_geo: Option<String>,

    /// Normaliser profile: base@1 or claude-code@1
    #[arg(long, value_name = "PROFILE", default_value = "base@1")]
    profile: Profile,

    /// Opt-in rule that is added to the profile, such as mask-date@1; may be given again
    #[arg(long = "rule", value_name = "RULE")]
    rules: Vec<Rule>,

    /// Path that mask-paths@1 replaces, such as cwd=/home/me/project; may be given again
    #[arg(long = "mask", value_name = "NAME=PATH")]
    masks: Vec<String>,

    /// Model, where the request's URL names it and not its body
    #[arg(long, value_name = "MODEL")]
    model: Option<String>,

    /// Snapshot that an alias of a model means now; may be given again
    #[arg(long = "alias", value_name = "ALIAS=SNAPSHOT")]
    aliases: Vec<String>,

    /// Refuse models that are no pinned snapshots
    #[arg(long)]
    strict_models: bool,

    /// Sample slot; 0 is any one sample
    #[arg(long, value_name = "N", default_value_t = 0)]
    slot: u64,
}

impl RequestArgs {
    /// The bytes of the request, as they are.
    pub fn read(&self) -> anyhow::Result<Vec<u8>> {
        let mut bytes = Vec::new();
        if self.request == Path::new("-") {
            std::io::stdin().lock().read_to_end(&mut bytes).context("cannot read standard input")?;
            return Ok(bytes);
        }
        std::fs::read(&self.request).with_context(|| format!("cannot read {}", self.request.display()))
    }

    /// Placeholders and the paths that they stand for.
    pub fn masks(&self) -> anyhow::Result<Vec<(String, String)>> {
        pairs(&self.masks, "--mask")
    }

    /// The options of the key, for a tenant.
    pub fn options(&self, tenant: &str) -> anyhow::Result<Options> {
        let profile = self.rules.iter().fold(self.profile.clone(), |profile, rule| profile.with(*rule));
        let masks = Masks::new(self.masks()?)?;
        if !masks.is_empty() && !profile.rules().contains(&Rule::MaskPaths) {
            bail!("--mask has no effect without --rule {}", Rule::MaskPaths);
        }
        Ok(Options {
            api_version: self.api_version.clone().unwrap_or_else(|| self.api.default_version().to_owned()),
            betas: self.betas.clone(),
            tenant: tenant.to_owned(),
            namespace: self.namespace.clone(),
            data_geo: self.data_geo.clone(),
            profile,
            model: self.model.clone(),
            aliases: pairs(&self.aliases, "--alias")?.into_iter().collect(),
            slot: self.slot,
            strict_models: self.strict_models,
            masks,
            ..Options::new(self.api)
        })
    }
}

fn pairs(texts: &[String], flag: &str) -> anyhow::Result<Vec<(String, String)>> {
    let pair = |text: &String| {
        let (name, value) = text.split_once('=').with_context(|| format!("{flag} {text}: write NAME=VALUE"))?;
        Ok((name.to_owned(), value.to_owned()))
    };
    texts.iter().map(pair).collect()
}
