use cache_types::{Caller, Role};
use data_encoding::HEXLOWER;

use crate::cache::Inner;
use crate::entry;
use crate::proto::{Entry, InvalidateRequest, InvalidateResponse, Invalidations, Result as PromptResult};
use crate::refusal::Refusal;

/// Invalidations of one tenant that are remembered.
const MAX_RULES: usize = 1_000;

impl Inner {
    /// Makes results of a namespace of the caller's tenant unfit for replay, from now on.
    pub(crate) async fn invalidate(
        &self,
        caller: &Caller,
        request: &InvalidateRequest,
    ) -> Result<InvalidateResponse, Refusal> {
        Self::check(caller, Role::Admin, &request.namespace)?;
        let nothing = InvalidateRequest { namespace: request.namespace.clone(), ..InvalidateRequest::default() };
        if *request == nothing {
            return Err(Refusal::invalid("say what: model, tool, profile, path_prefix, writer or before_ms"));
        }
        let now = self.now_ms();
        let before_ms = if request.before_ms == 0 { now.saturating_add(1) } else { request.before_ms };
        let rule = InvalidateRequest { before_ms, ..request.clone() };
        let name = self.names(caller, &request.namespace).invalidations();
        let _one = self.changing(&name).await;
        let mut all: Invalidations = entry::load(self, &name).await?.unwrap_or_default();
        let alike = |known: &InvalidateRequest| InvalidateRequest { before_ms, ..known.clone() } == rule;
        let is_full = all.rules.len() >= MAX_RULES;
        match all.rules.iter_mut().find(|known| alike(known)) {
            Some(known) => known.before_ms = known.before_ms.max(before_ms),
            None if !is_full => all.rules.push(rule),
            None => return Err(Refusal::invalid(format!("{MAX_RULES} invalidations are remembered already"))),
        }
        entry::save(self, name.clone(), &all, caller.name()).await?;
        self.held.forget(&name);
        Ok(InvalidateResponse { before_ms })
    }
}

/// Whether everything that the rule names is true of the entry.
pub(crate) fn covers(rule: &InvalidateRequest, entry: &Entry, result: &PromptResult) -> bool {
    let is = |wanted: &str, found: &str| wanted.is_empty() || wanted == found;
    let is_below = |path: &str| path.starts_with(&rule.path_prefix);
    let mut paths =
        result.changes.iter().map(|op| op.path.as_str()).chain(result.reads.iter().map(|read| read.path.as_str()));
    let mut tools = entry.tools.iter().map(|tool| HEXLOWER.encode(&tool.digest));
    result.created_ms < rule.before_ms
        && is(&rule.model, &result.model)
        && is(&rule.profile, &result.profile)
        && is(&rule.writer, &result.writer)
        && (rule.tool.is_empty() || tools.any(|tool| tool == rule.tool))
        && (rule.path_prefix.is_empty() || paths.any(is_below))
}
