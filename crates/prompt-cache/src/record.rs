use bytes::Bytes;
use cache_types::{ByteRange, Caller, Digest, DigestFunction, Role};
use prompt_key::{Api, PromptKeyId, Rule};
use store::{BlobBody, StoreError};

use crate::asked::Asked;
use crate::cache::Inner;
use crate::dsse::Envelope;
use crate::names::Names;
use crate::prices::PriceTable;
use crate::proto::{
    Alias, Alternate, Completeness, Entry, Fingerprint, Invocation, Manifest, RecordRequest, RecordResponse,
    Result as PromptResult, Usage,
};
use crate::refusal::Refusal;
use crate::response::{self, Said};
use crate::{entry, files, paths, statement};

/// The largest response that is read.
pub(crate) const MAX_RESPONSE_BYTES: usize = 64 * 1024 * 1024;
/// How long a result is replayed when nobody says.
const DEFAULT_TTL_SECONDS: u64 = 7 * 24 * 3600;
const MAX_TTL_SECONDS: u64 = 365 * 24 * 3600;
/// How long what is good for a day is good.
const DAY_SECONDS: u64 = 24 * 3600;
/// Results of one task that are tried.
const MAX_OF_TASK: usize = 16;

impl Inner {
    /// Stores a result, unless one is there that may be replayed: the bytes are those that were recorded first.
    pub(crate) async fn record(&self, caller: &Caller, request: RecordRequest) -> Result<RecordResponse, Refusal> {
        let invocation = request.invocation.as_ref().ok_or_else(|| Refusal::invalid("`invocation` is missing"))?;
        let mut cost_microusd = 0;
        let answer = self.take(caller, &request, invocation, &mut cost_microusd).await?;
        self.tally.recorded(caller, &invocation.namespace, &answer, cost_microusd);
        Ok(answer)
    }

    async fn take(
        &self,
        caller: &Caller,
        request: &RecordRequest,
        invocation: &Invocation,
        cost_microusd: &mut i64,
    ) -> Result<RecordResponse, Refusal> {
        Self::check(caller, Role::PromptWrite, &invocation.namespace)?;
        let asked = match self.asked(caller, invocation).await? {
            Ok(asked) => asked,
            Err(why) => return Ok(refused(format!("{}: {why}", why.reason()))),
        };
        let mut result = request.result.clone().unwrap_or_default();
        files::check(&result)?;
        if result.completeness() == Completeness::WholeTree && result.base.is_empty() && result.reads.is_empty() {
            return Err(Refusal::invalid("a whole tree is named by `base` or by every file in `reads`"));
        }
        let Some(bytes) = self.response(request, &result).await? else {
            return Err(Refusal::MissingBlobs(vec![result.response]));
        };
        let said = match response::read(asked.options.api, &bytes) {
            Ok(said) => said,
            Err(why) => return Ok(refused(why)),
        };
        let asked = match self.resolved(caller, invocation, asked, &said).await? {
            Ok(asked) => asked,
            Err(why) => return Ok(refused(why)),
        };
        let mut placeholders = Vec::new();
        let bytes = match paths::are_masked(&asked) {
            false => bytes,
            true => match self.without_paths(&asked.options.masks, &bytes, &result).await? {
                Ok((masked, names)) => {
                    placeholders = names;
                    masked
                }
                Err(why) => return Ok(refused(why)),
            },
        };
        result.response = self.keep(bytes).await?;
        fill(&mut result, &asked, said, caller);
        price(&mut result, &self.prices);
        if result.session.is_empty() {
            result.session.clone_from(&invocation.session);
        }
        result.created_ms = self.now_ms();
        result.expires_ms = expiry(result.created_ms, request.ttl_seconds, &asked);
        *cost_microusd = result.cost_microusd;
        let backend_drift = self.backend_drift(caller, &asked, &result).await?;
        let entry = Entry { result: Some(result), placeholders, ..Entry::default() };
        let answer = self.store(caller, request, asked, entry).await?;
        Ok(RecordResponse { backend_drift, ..answer })
    }

    /// The bytes of the response: those of the request, or those of the blob that it names.
    async fn response(&self, request: &RecordRequest, result: &PromptResult) -> Result<Option<Bytes>, Refusal> {
        if !request.response.is_empty() {
            return Ok(Some(request.response.clone()));
        }
        let digest: Digest = result.response.parse().map_err(|_| Refusal::invalid("`response` is missing"))?;
        if digest.size_bytes() > MAX_RESPONSE_BYTES as u64 {
            return Err(Refusal::invalid(format!("a response has at most {MAX_RESPONSE_BYTES} bytes")));
        }
        match self.blobs.read(&digest, ByteRange::ALL).await {
            Ok(Some(body)) => Ok(body.collect(MAX_RESPONSE_BYTES).await?),
            Ok(None) | Err(StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(crate) async fn keep(&self, bytes: Bytes) -> Result<String, Refusal> {
        let digest = Digest::of(DigestFunction::Sha256, &bytes);
        self.blobs.write(digest, BlobBody::from(bytes)).await?;
        Ok(digest.to_string())
    }

    /// The invocation with its model resolved: a response of another model is refused, unless the request named an alias,
    /// which then means that model for a day. Spec: prompt-key §5.
    async fn resolved(
        &self,
        caller: &Caller,
        invocation: &Invocation,
        asked: Asked,
        said: &Said,
    ) -> Result<Result<Asked, String>, Refusal> {
        if said.model == asked.model {
            return Ok(Ok(asked));
        }
        let api = asked.options.api;
        let other = format!("the response is of the model {}, not of {}", said.model, asked.model);
        let is_alias =
            asked.key.is_some() && !api.is_snapshot(&asked.model) && is_of_alias(api, &asked.model, &said.model);
        if !is_alias {
            return Ok(Err(other));
        }
        let expires_ms = self.now_ms().saturating_add(1000 * i64::try_from(DAY_SECONDS).unwrap_or(i64::MAX / 1000));
        let alias = Alias { snapshot: said.model.clone(), expires_ms };
        entry::save(
            self,
            self.names(caller, &invocation.namespace).alias(api.name(), &asked.model),
            &alias,
            caller.name(),
        )
        .await?;
        let mut invocation = invocation.clone();
        invocation.aliases.insert(asked.model, said.model.clone());
        Ok(self.asked(caller, &invocation).await?.map_err(|why| why.to_string()))
    }

    async fn store(
        &self,
        caller: &Caller,
        request: &RecordRequest,
        asked: Asked,
        mut stored: Entry,
    ) -> Result<RecordResponse, Refusal> {
        let names = self.names(caller, &asked.options.namespace);
        let mut result = stored.result.take().unwrap_or_default();
        let missing = self.blobs.find_missing(&files::blobs(&result)?).await?;
        if !missing.is_empty() {
            return Err(Refusal::MissingBlobs(missing.iter().map(Digest::to_string).collect()));
        }
        // Two callers that record one key at once would each think that they were the first.
        let one = self.changing(&names.entry(&asked.id)).await;
        let already = self.standing(&names, &asked.id).await?;
        if !already {
            stored.describe(&asked);
            let bytes = request.invocation.as_ref().map(|invocation| invocation.request.clone()).unwrap_or_default();
            let alternates = asked.alternates(&bytes);
            for (rule, key, _) in &alternates {
                stored.alternates.push(Alternate { rule: rule.name().to_owned(), key: crate::names::pointer(key) });
            }
            result.evidence.clear();
            result.signatures.clear();
            let envelope = Envelope::sign(&statement::generation(&stored, &result), &self.signer);
            let envelope = serde_json::to_vec(&envelope).map_err(Refusal::invalid)?;
            result.dsse = self.keep(envelope.into()).await?;
            for op in result.changes.iter().filter(|op| !op.after.is_empty()) {
                entry::save_pointer(self, names.file(&op.after), &asked.id, caller.name()).await?;
            }
            stored.result = Some(result);
            if request.keep_text && !bytes.is_empty() {
                stored.text = self.keep_text(&names, &asked.id, &bytes).await?;
            }
            self.point(caller, &names, &asked, &alternates).await?;
            entry::save(self, names.entry(&asked.id), &stored, caller.name()).await?;
        }
        drop(one);
        if let Some(task) = asked.task {
            self.add_to_task(caller, &names, &task, &asked.id).await?;
        }
        self.flights.land(&names.entry(&asked.id));
        Ok(RecordResponse {
            key: asked.id.to_string(),
            task: asked.task.map(|task| task.to_string()).unwrap_or_default(),
            slot: asked.slot,
            already,
            ..RecordResponse::default()
        })
    }

    /// The fingerprint of the model's last result, when this one has another. Spec: prompt-key §5.
    async fn backend_drift(&self, caller: &Caller, asked: &Asked, result: &PromptResult) -> Result<String, StoreError> {
        if result.system_fingerprint.is_empty() {
            return Ok(String::new());
        }
        let names = self.names(caller, &asked.options.namespace);
        let name = names.fingerprint(asked.options.api.name(), &result.model);
        let last: Fingerprint = entry::load(self, &name).await?.unwrap_or_default();
        if last.seen == result.system_fingerprint {
            return Ok(String::new());
        }
        entry::save(self, name, &Fingerprint { seen: result.system_fingerprint.clone() }, caller.name()).await?;
        Ok(last.seen)
    }

    /// Whether a result is there that may be replayed.
    async fn standing(&self, names: &Names, key: &PromptKeyId) -> Result<bool, Refusal> {
        let Some(entry) = entry::find(self, names, key).await? else { return Ok(false) };
        let Some(result) = &entry.result else { return Ok(false) };
        if self.unfit(names, &entry, result).await?.is_some() {
            return Ok(false);
        }
        Ok(self.gone(result).await?.is_empty())
    }

    /// Writes the records that lead to the entry: the links that are not known yet, parents first, and what explanations
    /// look for.
    async fn point(
        &self,
        caller: &Caller,
        names: &Names,
        asked: &Asked,
        alternates: &[(Rule, PromptKeyId, bool)],
    ) -> Result<(), StoreError> {
        let known = self.common_prefix(names, &asked.chain).await?;
        for link in asked.chain.iter().skip(known) {
            entry::save_pointer(self, names.link(link), &asked.id, caller.name()).await?;
        }
        if let Some(key) = &asked.key {
            for messages in [Some(key.messages), key.opening].into_iter().flatten() {
                entry::save_pointer(self, names.messages(&messages), &asked.id, caller.name()).await?;
            }
        }
        for (_, key, _) in alternates.iter().filter(|(_, _, changes)| *changes) {
            entry::save_pointer(self, names.alternate(key), &asked.id, caller.name()).await?;
        }
        Ok(())
    }

    async fn add_to_task(
        &self,
        caller: &Caller,
        names: &Names,
        task: &PromptKeyId,
        key: &PromptKeyId,
    ) -> Result<(), StoreError> {
        let _one = self.changing(&names.task(task)).await;
        let mut manifest: Manifest = entry::load(self, &names.task(task)).await?.unwrap_or_default();
        let key = key.to_string();
        manifest.keys.retain(|known| *known != key);
        manifest.keys.insert(0, key);
        manifest.keys.truncate(MAX_OF_TASK);
        entry::save(self, names.task(task), &manifest, caller.name()).await
    }
}

fn refused(why: String) -> RecordResponse {
    RecordResponse { refused: why, ..RecordResponse::default() }
}

/// Whether a snapshot is one of the alias: it begins as the alias does.
fn is_of_alias(api: Api, alias: &str, snapshot: &str) -> bool {
    let stem = alias.strip_suffix("-latest").unwrap_or(alias);
    api.is_snapshot(snapshot) && snapshot.strip_prefix(stem).is_some_and(|rest| rest.starts_with(['-', '@']))
}

/// What the server says itself of a result, whatever the caller said.
fn fill(result: &mut PromptResult, asked: &Asked, said: Said, caller: &Caller) {
    result.key = asked.id.to_string();
    result.task = asked.task.map(|task| task.to_string()).unwrap_or_default();
    result.slot = asked.slot;
    result.profile = asked.profile.to_string();
    result.api = asked.options.api.name().to_owned();
    result.model = said.model;
    result.stop_reason = said.stop_reason;
    result.response_id = said.id;
    result.system_fingerprint = said.system_fingerprint;
    result.writer = caller.name().to_owned();
    // It is written when the statement is signed.
    result.dsse = String::new();
    if result.usage.as_ref().is_none_or(|usage| *usage == Usage::default()) {
        result.usage = Some(said.usage);
    }
}

/// What the call cost, where the caller said nothing and the table has the model.
fn price(result: &mut PromptResult, prices: &PriceTable) {
    let (Some(usage), Some(rates)) = (&result.usage, prices.rates(&result.model)) else { return };
    if result.cost_microusd == 0 {
        // Rounded to a millionth of a dollar; no call costs what an i64 does not hold.
        result.cost_microusd = rates.cost_microusd(usage).round() as i64;
        result.price_table.clone_from(&prices.version);
    }
}

fn expiry(created_ms: i64, ttl_seconds: u64, asked: &Asked) -> i64 {
    let wanted = if ttl_seconds == 0 { DEFAULT_TTL_SECONDS } else { ttl_seconds.min(MAX_TTL_SECONDS) };
    // "Today" is another day tomorrow.
    let most = if asked.profile.rules().contains(&Rule::MaskDate) { DAY_SECONDS } else { MAX_TTL_SECONDS };
    created_ms.saturating_add(i64::try_from(wanted.min(most) * 1000).unwrap_or(i64::MAX))
}
