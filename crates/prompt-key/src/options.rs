use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::{Masks, Profile};

/// The API that a request is written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Api {
    /// Anthropic Messages.
    AnthropicMessages,
    /// OpenAI Chat Completions.
    OpenAiChat,
    /// OpenAI Responses.
    OpenAiResponses,
    /// Gemini generateContent and streamGenerateContent.
    Gemini,
    /// The form of this project, for harnesses with their own.
    Neutral,
}

impl Api {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::AnthropicMessages, Self::OpenAiChat, Self::OpenAiResponses, Self::Gemini, Self::Neutral];

    /// The name of the family, a part of the key.
    pub fn name(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "anthropic.messages",
            Self::OpenAiChat => "openai.chat",
            Self::OpenAiResponses => "openai.responses",
            Self::Gemini => "gemini.generate_content",
            Self::Neutral => "neutral",
        }
    }

    /// The version of the API when the caller names none.
    pub fn default_version(self) -> &'static str {
        match self {
            Self::AnthropicMessages => "2023-06-01",
            Self::OpenAiChat | Self::OpenAiResponses => "v1",
            Self::Gemini => "v1beta",
            Self::Neutral => "1",
        }
    }
}

impl fmt::Display for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Api {
    type Err = UnknownApi;

    fn from_str(name: &str) -> Result<Self, UnknownApi> {
        Self::ALL.into_iter().find(|api| api.name() == name).ok_or(UnknownApi)
    }
}

/// No API has this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the APIs are anthropic.messages, openai.chat, openai.responses, gemini.generate_content, neutral")]
pub struct UnknownApi;

/// What makes a key beside the request itself.
#[derive(Clone, Debug)]
pub struct Options {
    /// The API of the request.
    pub api: Api,
    /// The version of the API, as the `anthropic-version` header has it.
    pub api_version: String,
    /// Beta flags, as the `anthropic-beta` header has them; each may hold several, with commas.
    pub betas: Vec<String>,
    /// The tenant. A server takes it from the credential, never from a request.
    pub tenant: String,
    /// The namespace within the tenant.
    pub namespace: String,
    /// Where data may go, when that matters.
    pub data_geo: Option<String>,
    /// The normaliser profile and its opt-in rules.
    pub profile: Profile,
    /// The model, when the request's path names it and not its body.
    pub model: Option<String>,
    /// Aliases of models and the snapshots that they mean now.
    pub aliases: BTreeMap<String, String>,
    /// The sample slot: 0 is any one sample. Spec: prompt-key §6.
    pub slot: u64,
    /// Whether a model that is not a dated snapshot is refused.
    pub strict_models: bool,
    /// Texts that `mask-paths@1` replaces.
    pub masks: Masks,
}

impl Options {
    /// The defaults for an API: its default version, profile `base@1`, slot 0, no tenant.
    pub fn new(api: Api) -> Self {
        Self {
            api,
            api_version: api.default_version().to_owned(),
            betas: Vec::new(),
            tenant: String::new(),
            namespace: String::new(),
            data_geo: None,
            profile: Profile::default(),
            model: None,
            aliases: BTreeMap::new(),
            slot: 0,
            strict_models: false,
            masks: Masks::default(),
        }
    }
}
