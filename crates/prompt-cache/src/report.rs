use cache_types::{Caller, Digest, Role};
use prompt_key::PromptKeyId;

use crate::cache::Inner;
use crate::entry;
use crate::proto::{Evidence, ReportRequest, ReportResponse};
use crate::refusal::Refusal;

/// Reports that are kept with one result.
const MAX_EVIDENCE: usize = 64;

impl Inner {
    /// Adds evidence to a result; a red report demotes it at once.
    pub(crate) async fn report(&self, caller: &Caller, request: &ReportRequest) -> Result<ReportResponse, Refusal> {
        Self::check(caller, Role::PromptWrite, &request.namespace)?;
        let key: PromptKeyId = request.key.parse().map_err(Refusal::invalid)?;
        let mut evidence = request.evidence.clone().ok_or_else(|| Refusal::invalid("`evidence` is missing"))?;
        if !evidence.action.is_empty() {
            evidence.action.parse::<Digest>().map_err(|error| Refusal::invalid(format!("`action`: {error}")))?;
        }
        evidence.writer = caller.name().to_owned();
        evidence.at_ms = self.now_ms();
        let names = self.names(caller, &request.namespace);
        let _one = self.changing(&names.entry(&key)).await;
        let Some(mut stored) = entry::find(self, &names, &key).await? else { return Ok(ReportResponse::default()) };
        let Some(result) = stored.result.as_mut() else { return Ok(ReportResponse::default()) };
        if let Some(red) = red(&evidence) {
            stored.demoted = red;
        }
        result.evidence.push(evidence);
        let surplus = result.evidence.len().saturating_sub(MAX_EVIDENCE);
        result.evidence.drain(..surplus);
        let demoted = !stored.demoted.is_empty();
        let writer = result.writer.clone();
        entry::save(self, names.entry(&key), &stored, &writer).await?;
        Ok(ReportResponse { found: true, demoted })
    }
}

/// What speaks against a result, in words.
fn red(evidence: &Evidence) -> Option<String> {
    let on = if evidence.platform.is_empty() { String::new() } else { format!(" on {}", evidence.platform) };
    let by = &evidence.writer;
    if evidence.tests_failed > 0 {
        return Some(format!("{} tests failed{on}, reported by {by}", evidence.tests_failed));
    }
    (evidence.exit_code != 0).then(|| format!("the action ended with {}{on}, reported by {by}", evidence.exit_code))
}
