use std::collections::BTreeMap;

use crate::asked::Asked;
use crate::files;
use crate::proto::{Completeness, Entry, Evidence, Invocation, LookupRequest, Reason, Result as PromptResult};
use crate::refusal::Refusal;

/// Tools that read and write files and nothing else: what they looked at is what their calls say.
const FILE_TOOLS: &[&str] = &[
    "Read",
    "Edit",
    "MultiEdit",
    "Write",
    "Glob",
    "Grep",
    "LS",
    "NotebookEdit",
    "NotebookRead",
    "str_replace_based_edit_tool",
    "str_replace_editor",
];

/// How much evidence a replay needs. Spec: prompt-key §7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Policy {
    /// None.
    Any,
    /// An action that ended with 0.
    Built,
    /// An action that ran tests, all of which passed.
    Tested,
    /// A signature of a person or an agent.
    Signed,
}

impl Policy {
    /// The policy that was asked for: for a task `built`, unless it is within the session that recorded it.
    pub(crate) fn of(request: &LookupRequest, is_own_session: bool) -> Result<Self, Refusal> {
        match request.policy.as_str() {
            "" if request.task && !is_own_session => Ok(Self::Built),
            "" | "any" => Ok(Self::Any),
            "built" => Ok(Self::Built),
            "tested" => Ok(Self::Tested),
            "signed" => Ok(Self::Signed),
            other => Err(Refusal::invalid(format!("`{other}` is no policy: any, built, tested, signed"))),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Any => "any",
            Self::Built => "built",
            Self::Tested => "tested",
            Self::Signed => "signed",
        }
    }

    fn is_met(self, evidence: &[Evidence], signing: Signing) -> bool {
        match self {
            Self::Any => true,
            Self::Built => evidence.iter().any(|evidence| evidence.exit_code == 0),
            Self::Tested => evidence.iter().any(|evidence| evidence.exit_code == 0 && evidence.tests_passed > 0),
            Self::Signed => signing == Signing::Counts,
        }
    }
}

/// Whether somebody whose signature counts has signed a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signing {
    /// Somebody has.
    Counts,
    /// Nobody but the server.
    Nobody,
}

impl From<bool> for Signing {
    fn from(is_signed: bool) -> Self {
        if is_signed { Self::Counts } else { Self::Nobody }
    }
}

/// A reason without a path.
pub(crate) fn reason(code: &str, text: impl Into<String>) -> Reason {
    Reason { code: code.to_owned(), text: text.into(), ..Reason::default() }
}

/// Whether the invocation is made in the session that recorded the result.
pub(crate) fn is_own_session(invocation: &Invocation, result: &PromptResult) -> bool {
    !invocation.session.is_empty() && invocation.session == result.session
}

/// Why the entry may not be replayed, beside what the caller's files say.
pub(crate) fn unfit(entry: &Entry, result: &PromptResult, now_ms: i64) -> Option<Reason> {
    if !entry.demoted.is_empty() {
        return Some(reason("red_report", entry.demoted.clone()));
    }
    if result.expires_ms <= now_ms {
        return Some(reason("expired", "the result has expired"));
    }
    None
}

/// Every reason why the caller may not have the result: evidence, and the files that it depends on.
pub(crate) fn unmet(
    request: &LookupRequest,
    asked: &Asked,
    result: &PromptResult,
    signing: Signing,
    tree: Option<&BTreeMap<String, String>>,
) -> Result<Vec<Reason>, Refusal> {
    let is_own_session = request.invocation.as_ref().is_some_and(|invocation| is_own_session(invocation, result));
    let mut reasons = Vec::new();
    let policy = Policy::of(request, is_own_session)?;
    if !policy.is_met(&result.evidence, signing) {
        reasons.push(reason("evidence", format!("evidence={} not met", policy.name())));
    }
    let needs_tree = request.task || !result.changes.is_empty() || asked.profile.needs_tree();
    if request.task && !is_own_session && result.completeness() == Completeness::Declared {
        let other = result.calls.iter().find(|call| !FILE_TOOLS.contains(&call.name.as_str()));
        let doubt = match (other, result.calls.is_empty()) {
            (Some(call), _) => Some(format!("the declared reads are not all once {} ran", call.name)),
            (None, true) => {
                Some("no tool calls are recorded, so nothing says that the declared reads are all".to_owned())
            }
            (None, false) => None,
        };
        reasons.extend(doubt.map(|doubt| reason("reads_incomplete", doubt)));
    }
    let is_whole_tree = result.completeness() == Completeness::WholeTree && !result.base.is_empty();
    if is_whole_tree && result.reads.is_empty() && request.root != result.base && needs_tree {
        reasons.push(reason("needs_tree", format!("the result depends on the whole tree {}", result.base)));
    }
    match tree {
        Some(tree) => reasons.extend(files::changed(result, tree)),
        None if needs_tree && !files::needs(result).is_empty() => {
            reasons.push(reason("needs_tree", "the result depends on files: give their digests"));
        }
        None if asked.profile.needs_tree() => {
            reasons.push(reason("needs_tree", format!("{} needs a tree or a read-set", asked.profile)));
        }
        None => {}
    }
    Ok(reasons)
}
