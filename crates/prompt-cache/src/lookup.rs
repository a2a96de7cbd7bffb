use std::time::Duration;

use bytes::Bytes;
use cache_types::{Caller, Digest, Role};
use prompt_key::PromptKeyId;
use store::StoreError;

use crate::asked::Asked;
use crate::cache::Inner;
use crate::conditions::{self, reason};
use crate::flights::Part;
use crate::names::Names;
use crate::proto::{
    Chain, Entry, Invocation, LongestPrefixRequest, LongestPrefixResponse, LookupRequest, LookupResponse, Manifest,
    Outcome, Prefix, Reason, Result as PromptResult,
};
use crate::refusal::Refusal;
use crate::{asked, entry, files, invalidate, tree};

/// The longest wait for another caller.
const MAX_WAIT: Duration = Duration::from_secs(600);
/// Chains in one question.
const MAX_CHAINS: usize = 1_000;

impl Inner {
    /// The result, or why there is none, counted.
    pub(crate) async fn lookup(&self, caller: &Caller, request: &LookupRequest) -> Result<LookupResponse, Refusal> {
        let invocation = request.invocation.as_ref().ok_or_else(|| Refusal::invalid("`invocation` is missing"))?;
        let answer = self.look_up(caller, request, invocation).await?;
        self.tally.looked(caller, &invocation.namespace, &answer);
        Ok(answer)
    }

    async fn look_up(
        &self,
        caller: &Caller,
        request: &LookupRequest,
        invocation: &Invocation,
    ) -> Result<LookupResponse, Refusal> {
        Self::check(caller, Role::Read, &invocation.namespace)?;
        let asked = match self.asked(caller, invocation).await? {
            Ok(asked) => self.in_run(caller, invocation, request, asked),
            Err(why) => {
                let text = format!("{}: {why}", why.reason());
                let why = vec![reason("uncacheable", text)];
                return Ok(LookupResponse { outcome: Outcome::Uncacheable.into(), why, ..Default::default() });
            }
        };
        let names = self.names(caller, &invocation.namespace);
        if request.no_cache {
            return self
                .miss(&names, &asked, vec![reason("no_cache", "the caller wants another sample")], Vec::new())
                .await;
        }
        if request.wait_ms == 0 || request.task {
            return self.look(&names, request, &asked).await;
        }
        self.look_or_wait(&names, request, &asked).await
    }

    /// The same invocation in the slot that its place among the run's identical calls gives it. Spec: prompt-key §6.
    fn in_run(&self, caller: &Caller, invocation: &Invocation, request: &LookupRequest, asked: Asked) -> Asked {
        if invocation.run.is_empty() || request.task || asked.key.is_none() {
            return asked;
        }
        let occurrence =
            self.runs.occurrence(self.names(caller, &invocation.namespace).entry(&asked.id), &invocation.run);
        asked.at_slot(occurrence, invocation)
    }

    async fn look_or_wait(
        &self,
        names: &Names,
        request: &LookupRequest,
        asked: &Asked,
    ) -> Result<LookupResponse, Refusal> {
        let name = names.entry(&asked.id);
        match self.flights.join(&name) {
            Part::Leader => {
                let mut answer = self.look(names, request, asked).await;
                match &mut answer {
                    Ok(answer) if answer.outcome() != Outcome::Hit => answer.leader = true,
                    _ => self.flights.land(&name),
                }
                answer
            }
            Part::Follower(landed) => {
                let landing = landed.notified();
                tokio::pin!(landing);
                // From here on a landing is not missed.
                landing.as_mut().enable();
                let answer = self.look(names, request, asked).await?;
                if answer.outcome() == Outcome::Hit {
                    return Ok(answer);
                }
                let wait = Duration::from_millis(request.wait_ms.into()).min(MAX_WAIT);
                match tokio::time::timeout(wait, landing).await {
                    Ok(()) => self.look(names, request, asked).await,
                    Err(_) => Ok(answer),
                }
            }
        }
    }

    async fn look(&self, names: &Names, request: &LookupRequest, asked: &Asked) -> Result<LookupResponse, Refusal> {
        let candidates = if request.task { self.of_task(names, asked).await? } else { vec![asked.id] };
        let mut first: Option<(Vec<Reason>, Vec<String>)> = None;
        for key in candidates {
            let Some(entry) = entry::find(self, names, &key).await? else { continue };
            let Some(result) = entry.result.clone() else { continue };
            let mut why = self.verdict(names, request, asked, &entry, &result).await?;
            if why.is_empty() {
                match self.with_paths(asked, &entry.placeholders, &result).await? {
                    Ok(response) => return Ok(self.hit(asked, result, response)),
                    Err(reason) => why.push(reason),
                }
            }
            let needs = if why.iter().any(|why| why.code == "needs_tree") { files::needs(&result) } else { Vec::new() };
            first = first.or(Some((why, needs)));
        }
        let unknown = || (vec![reason("unknown", "nothing is recorded under this key")], Vec::new());
        let (why, needs) = first.unwrap_or_else(unknown);
        self.miss(names, asked, why, needs).await
    }

    async fn of_task(&self, names: &Names, asked: &Asked) -> Result<Vec<PromptKeyId>, Refusal> {
        let task = asked.task.ok_or_else(|| Refusal::invalid("a task needs `repo` and a user turn"))?;
        let manifest: Manifest = entry::load(self, &names.task(&task)).await?.unwrap_or_default();
        Ok(manifest.keys.iter().filter_map(|key| key.parse().ok()).collect())
    }

    /// Why the entry is no hit for this caller; nothing when it is one, and then its blobs are leased.
    pub(crate) async fn verdict(
        &self,
        names: &Names,
        request: &LookupRequest,
        asked: &Asked,
        entry: &Entry,
        result: &PromptResult,
    ) -> Result<Vec<Reason>, Refusal> {
        if let Some(why) = self.unfit(names, entry, result).await? {
            return Ok(vec![why]);
        }
        let read;
        let tree = match (request.root.as_str(), request.tree.is_empty()) {
            ("", true) => None,
            ("", false) => Some(&request.tree),
            (root, true) => {
                let root: Digest = root.parse().map_err(Refusal::invalid)?;
                read = tree::states(self, &root, &files::needs(result)).await?;
                Some(&read)
            }
            _ => return Err(Refusal::invalid("give either `tree` or `root`")),
        };
        let why = conditions::unmet(request, asked, result, self.is_signed(result).into(), tree)?;
        if !why.is_empty() {
            return Ok(why);
        }
        self.gone(result).await
    }

    /// Why nobody may have the entry.
    pub(crate) async fn unfit(
        &self,
        names: &Names,
        entry: &Entry,
        result: &PromptResult,
    ) -> Result<Option<Reason>, StoreError> {
        if let Some(why) = conditions::unfit(entry, result, self.now_ms()) {
            return Ok(Some(why));
        }
        let hit = self.invalidations(names).await?.rules.iter().any(|rule| invalidate::covers(rule, entry, result));
        Ok(hit.then(|| reason("invalidated", "the result was invalidated")))
    }

    /// Whether blobs of the result are gone; those that are here are leased.
    pub(crate) async fn gone(&self, result: &PromptResult) -> Result<Vec<Reason>, Refusal> {
        let missing = self.blobs.find_missing(&files::blobs(result)?).await?;
        let gone = missing.iter().map(|digest| reason("blobs_gone", format!("the blob {digest} is gone")));
        Ok(gone.collect())
    }

    fn hit(&self, asked: &Asked, result: PromptResult, response: Bytes) -> LookupResponse {
        let of = u32::try_from(asked.chain.len()).unwrap_or(u32::MAX);
        LookupResponse {
            outcome: Outcome::Hit.into(),
            key: asked.id.to_string(),
            slot: asked.slot,
            result: Some(result),
            response,
            common_prefix: of,
            of,
            ..Default::default()
        }
    }

    async fn miss(
        &self,
        names: &Names,
        asked: &Asked,
        why: Vec<Reason>,
        needs: Vec<String>,
    ) -> Result<LookupResponse, Refusal> {
        let common = self.common_prefix(names, &asked.chain).await?;
        let outcome = if common > 0 { Outcome::Prefix } else { Outcome::Miss };
        Ok(LookupResponse {
            outcome: outcome.into(),
            key: asked.id.to_string(),
            slot: asked.slot,
            common_prefix: u32::try_from(common).unwrap_or(u32::MAX),
            of: u32::try_from(asked.chain.len()).unwrap_or(u32::MAX),
            why,
            needs,
            ..Default::default()
        })
    }

    /// How far each chain is known.
    pub(crate) async fn longest_prefix(
        &self,
        caller: &Caller,
        request: &LongestPrefixRequest,
    ) -> Result<LongestPrefixResponse, Refusal> {
        Self::check(caller, Role::Read, &request.namespace)?;
        if request.chains.len() > MAX_CHAINS {
            return Err(Refusal::invalid(format!("at most {MAX_CHAINS} chains in one question")));
        }
        let names = self.names(caller, &request.namespace);
        let mut prefixes = Vec::with_capacity(request.chains.len());
        for chain in &request.chains {
            prefixes.push(self.prefix(&names, chain).await?);
        }
        Ok(LongestPrefixResponse { prefixes })
    }

    async fn prefix(&self, names: &Names, chain: &Chain) -> Result<Prefix, Refusal> {
        let key: PromptKeyId = chain.key.parse().map_err(Refusal::invalid)?;
        let links = asked::links(chain)?;
        let of = u32::try_from(links.len()).unwrap_or(u32::MAX);
        if self.records.get(&names.entry(&key)).await?.is_some() {
            return Ok(Prefix { common_prefix: of, of, recorded: true });
        }
        let common = self.common_prefix(names, &links).await?;
        Ok(Prefix { common_prefix: u32::try_from(common).unwrap_or(u32::MAX), of, recorded: false })
    }
}
