use bytes::Bytes;
use cache_types::{Caller, Role};
use prompt_key::{ComponentDrift, Part, PromptKeyId, Rule};

use crate::asked::Asked;
use crate::cache::Inner;
use crate::conditions::reason;
use crate::names::{Names, pointer};
use crate::proto::{Drift, Entry, ExplainResponse, LookupRequest};
use crate::refusal::Refusal;
use crate::{entry, files};

impl Inner {
    /// What a lookup missed by: the nearest result, what differs from it, and what would have hit. Spec: prompt-key §9.
    pub(crate) async fn explain(&self, caller: &Caller, request: &LookupRequest) -> Result<ExplainResponse, Refusal> {
        let invocation = request.invocation.as_ref().ok_or_else(|| Refusal::invalid("`invocation` is missing"))?;
        Self::check(caller, Role::Read, &invocation.namespace)?;
        let asked = match self.asked(caller, invocation).await? {
            Ok(asked) => asked,
            Err(why) => return Ok(ExplainResponse { uncacheable: why.reason(), ..Default::default() }),
        };
        let names = self.names(caller, &invocation.namespace);
        let common = self.common_prefix(&names, &asked.chain).await?;
        let mut answer = ExplainResponse {
            key: asked.id.to_string(),
            common_prefix: u32::try_from(common).unwrap_or(u32::MAX),
            of: u32::try_from(asked.chain.len()).unwrap_or(u32::MAX),
            ..Default::default()
        };
        let alternates = asked.alternates(&invocation.request);
        let nearest = self.nearest(&names, &asked, common, &alternates).await?;
        let Some((key, entry)) = nearest else {
            answer.why = vec![reason("unknown", "nothing like it is recorded")];
            return Ok(answer);
        };
        answer.nearest = key.to_string();
        answer.drift = drift(&asked, &entry, common, key == asked.id);
        answer.would_hit_with = would_hit(&entry, &alternates);
        answer.suggestions = self.suggestions(&names, &asked, &invocation.request, &answer.drift);
        if request.text {
            answer.nearest_request = self.text(&names, &key, &entry).await?;
        }
        if let Some(result) = &entry.result {
            answer.why = self.verdict(&names, request, &asked, &entry, result).await?;
            if answer.why.iter().any(|why| why.code == "needs_tree") {
                answer.needs = files::needs(result);
            }
        }
        Ok(answer)
    }

    /// The entry itself; or one with the same messages, one that an opt-in rule makes the same, one with the same beginning
    /// of the chain, one with the same first turn.
    async fn nearest(
        &self,
        names: &Names,
        asked: &Asked,
        common: usize,
        alternates: &[(Rule, PromptKeyId, bool)],
    ) -> Result<Option<(PromptKeyId, Entry)>, Refusal> {
        let mut places = Vec::new();
        places.extend(asked.key.as_ref().map(|key| names.messages(&key.messages)));
        places.extend(alternates.iter().map(|(_, key, _)| names.alternate(key)));
        places.extend(common.checked_sub(1).and_then(|last| asked.chain.get(last)).map(|link| names.link(link)));
        places.extend(asked.key.as_ref().and_then(|key| key.opening).map(|opening| names.messages(&opening)));
        let mut keys = vec![asked.id];
        for place in &places {
            keys.extend(entry::load_pointer(self, place).await?);
        }
        for key in keys {
            if let Some(entry) = entry::find(self, names, &key).await? {
                return Ok(Some((key, entry)));
            }
        }
        Ok(None)
    }
}

fn drift(asked: &Asked, entry: &Entry, common: usize, is_itself: bool) -> Vec<Drift> {
    if is_itself {
        return Vec::new();
    }
    let (Some(ours), Some(theirs)) = (&asked.key, entry.key()) else { return Vec::new() };
    let mut drift: Vec<Drift> = ours.drift(&theirs).components.into_iter().map(on_wire).collect();
    let is_prefix = usize::try_from(entry.of).is_ok_and(|of| of <= common);
    if drift.iter().all(|drift| matches!(drift.component.as_str(), "gen" | "seed"))
        && common > 0
        && common < asked.chain.len()
    {
        let item = match is_prefix {
            true => format!("block {} is new", common - 1),
            false => format!("block {}", common - 1),
        };
        drift.push(Drift { component: "messages".to_owned(), item, fields: Vec::new() });
    }
    drift
}

fn on_wire(drift: ComponentDrift) -> Drift {
    let component = drift.component.name().to_owned();
    let (item, fields) = match drift.part {
        None => (String::new(), Vec::new()),
        Some(Part::Tool { name, fields }) => (name, fields),
        Some(Part::Field(name)) => (String::new(), vec![name]),
        Some(other) => (other.to_string(), Vec::new()),
    };
    Drift { component, item, fields }
}

/// The rules under which the asked key and the entry's are one.
fn would_hit(entry: &Entry, alternates: &[(Rule, PromptKeyId, bool)]) -> Vec<String> {
    let is_same =
        |rule: Rule, key: Bytes| entry.alternates.iter().any(|known| known.rule == rule.name() && known.key == key);
    let rules = alternates.iter().filter(|(rule, key, _)| is_same(*rule, pointer(key)));
    rules.map(|(rule, ..)| rule.name().to_owned()).collect()
}
