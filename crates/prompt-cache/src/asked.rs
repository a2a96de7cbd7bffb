use cache_types::Caller;
use prompt_key::{Api, KeyDigest, Masks, Options, Profile, PromptKey, PromptKeyId, Rule, Uncacheable};

use crate::cache::Inner;
use crate::entry;
use crate::proto::{Alias, Chain, Invocation};
use crate::refusal::Refusal;

/// The longest chain that is taken, in links.
const MAX_LINKS: usize = 20_000;

/// What an invocation asks for: its keys, and their details where the request itself was given.
pub(crate) struct Asked {
    pub(crate) id: PromptKeyId,
    pub(crate) task: Option<PromptKeyId>,
    pub(crate) chain: Vec<KeyDigest>,
    pub(crate) model: String,
    pub(crate) profile: Profile,
    pub(crate) slot: u64,
    /// `None` when only keys were given.
    pub(crate) key: Option<PromptKey>,
    pub(crate) options: Options,
}

impl Asked {
    /// The same invocation, `more` slots on.
    pub(crate) fn at_slot(self, more: u64, invocation: &Invocation) -> Self {
        if more == 0 {
            return self;
        }
        let options = Options { slot: self.options.slot.saturating_add(more), ..self.options.clone() };
        of_request(invocation, options).unwrap_or(self)
    }

    /// The keys that the request has under one more rule each, and whether the rule changes something in it.
    pub(crate) fn alternates(&self, request: &[u8]) -> Vec<(Rule, PromptKeyId, bool)> {
        match self.key {
            // A request that has a key has it again.
            Some(_) => prompt_key::alternates(request, &self.options).unwrap_or_default(),
            None => Vec::new(),
        }
    }
}

/// What becomes of an invocation.
pub(crate) type Read = Result<Asked, Uncacheable>;

impl Inner {
    /// Reads an invocation: the keys that were given, or those of the request that was given.
    pub(crate) async fn asked(&self, caller: &Caller, invocation: &Invocation) -> Result<Read, Refusal> {
        let options = self.options(caller, invocation).await?;
        match (&invocation.chain, invocation.request.is_empty()) {
            (Some(chain), true) => Ok(Ok(of_chain(chain, invocation, options)?)),
            (None, false) => Ok(of_request(invocation, options)),
            _ => Err(Refusal::invalid("give either `request` or `chain`")),
        }
    }

    async fn options(&self, caller: &Caller, invocation: &Invocation) -> Result<Options, Refusal> {
        let given_api =
            if invocation.api.is_empty() && invocation.chain.is_some() { "neutral" } else { &invocation.api };
        let api: Api = given_api.parse().map_err(Refusal::invalid)?;
        let profile = match invocation.profile.as_str() {
            "" => Profile::default(),
            text => text.parse().map_err(Refusal::invalid)?,
        };
        if !profile.is_known() {
            return Err(Refusal::invalid(format!("this server does not know the profile {profile}")));
        }
        let masks = Masks::new(invocation.masks.clone()).map_err(Refusal::invalid)?;
        let mut options = Options {
            betas: invocation.betas.clone(),
            tenant: caller.tenant().to_owned(),
            namespace: invocation.namespace.clone(),
            data_geo: Some(invocation.data_geo.clone()).filter(|geo| !geo.is_empty()),
            profile,
            model: Some(invocation.model.clone()).filter(|model| !model.is_empty()),
            aliases: invocation.aliases.clone(),
            slot: invocation.slot,
            strict_models: invocation.strict_models,
            masks,
            ..Options::new(api)
        };
        if !invocation.api_version.is_empty() {
            options.api_version.clone_from(&invocation.api_version);
        }
        self.learn(caller, invocation, &mut options).await?;
        Ok(options)
    }

    /// Adds what the request's model was last seen to mean, if it is an alias that nobody resolved. Spec: prompt-key §5.
    async fn learn(&self, caller: &Caller, invocation: &Invocation, options: &mut Options) -> Result<(), Refusal> {
        if invocation.request.is_empty() || options.strict_models {
            return Ok(());
        }
        // What cannot be read has no key, whatever its model means.
        let Ok(key) = prompt_key::key(&invocation.request, options) else { return Ok(()) };
        if options.api.is_snapshot(&key.model) {
            return Ok(());
        }
        let name = self.names(caller, &invocation.namespace).alias(options.api.name(), &key.model);
        let alias: Option<Alias> = entry::load(self, &name).await?;
        if let Some(alias) = alias.filter(|alias| alias.expires_ms > self.now_ms()) {
            options.aliases.entry(key.model).or_insert(alias.snapshot);
        }
        Ok(())
    }
}

fn of_request(invocation: &Invocation, options: Options) -> Read {
    let key = prompt_key::key(&invocation.request, &options)?;
    Ok(of_key(key, &invocation.repo, options))
}

fn of_key(key: PromptKey, repo: &str, options: Options) -> Asked {
    Asked {
        id: key.id(),
        task: (!repo.is_empty()).then(|| key.task_id(repo)).flatten(),
        chain: key.chain.clone(),
        model: key.model.clone(),
        profile: options.profile.clone(),
        slot: key.slot,
        key: Some(key),
        options,
    }
}

fn of_chain(chain: &Chain, invocation: &Invocation, options: Options) -> Result<Asked, Refusal> {
    let task = match chain.task.as_str() {
        "" => None,
        text => Some(text.parse().map_err(Refusal::invalid)?),
    };
    Ok(Asked {
        id: chain.key.parse().map_err(Refusal::invalid)?,
        task,
        chain: links(chain)?,
        model: chain.model.clone(),
        profile: options.profile.clone(),
        slot: invocation.slot,
        key: None,
        options,
    })
}

/// The links of a chain on the wire.
pub(crate) fn links(chain: &Chain) -> Result<Vec<KeyDigest>, Refusal> {
    if chain.links.len() > MAX_LINKS {
        return Err(Refusal::invalid(format!("a chain has at most {MAX_LINKS} links")));
    }
    let link = |bytes: &bytes::Bytes| bytes.as_ref().try_into().map(KeyDigest::from_bytes);
    let links: Result<Vec<KeyDigest>, _> = chain.links.iter().map(link).collect();
    links.map_err(|_| Refusal::invalid("a link has 32 bytes"))
}
