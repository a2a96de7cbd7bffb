use std::num::NonZeroUsize;

use cache_types::{Caller, Role};
use lru::LruCache;
use parking_lot::Mutex;

use crate::PromptCache;
use crate::cache::Inner;
use crate::proto::{LookupResponse, Outcome, RecordResponse, Result as PromptResult, Savings, SavingsRequest};
use crate::refusal::Refusal;

/// Namespaces that are counted one by one.
const MAX_NAMESPACES: NonZeroUsize = NonZeroUsize::new(1_000).expect("not zero");

/// What was asked and what it spared since the server began: of all, and of each tenant's namespaces.
pub(crate) struct Tally {
    all: Mutex<Savings>,
    of: Mutex<LruCache<(String, String), Savings>>,
}

impl Tally {
    pub(crate) fn since(since_ms: i64) -> Self {
        let none = Savings { since_ms, ..Savings::default() };
        Self { all: Mutex::new(none), of: Mutex::new(LruCache::new(MAX_NAMESPACES)) }
    }

    fn add(&self, caller: &Caller, namespace: &str, add: impl Fn(&mut Savings)) {
        let since_ms = {
            let mut all = self.all.lock();
            add(&mut all);
            all.since_ms
        };
        let mut of = self.of.lock();
        let none = || Savings { since_ms, ..Savings::default() };
        add(of.get_or_insert_mut((caller.tenant().to_owned(), namespace.to_owned()), none));
    }

    /// Counts the answer to a lookup; one that asks for the state of files is no answer yet.
    pub(crate) fn looked(&self, caller: &Caller, namespace: &str, answer: &LookupResponse) {
        if !answer.needs.is_empty() {
            return;
        }
        self.add(caller, namespace, |savings| match answer.outcome() {
            Outcome::Hit => {
                savings.hits += 1;
                spare(savings, answer.result.as_ref());
            }
            Outcome::Prefix => savings.prefixes += 1,
            Outcome::Uncacheable => savings.uncacheable += 1,
            Outcome::Miss | Outcome::Unspecified => savings.misses += 1,
        });
    }

    /// Counts what became of a result that was to be recorded, and what it cost.
    pub(crate) fn recorded(&self, caller: &Caller, namespace: &str, answer: &RecordResponse, cost_microusd: i64) {
        if !answer.backend_drift.is_empty() {
            self.add(caller, namespace, |savings| savings.backend_drifts += 1);
        }
        self.add(caller, namespace, |savings| match (answer.refused.is_empty(), answer.already) {
            (false, _) => savings.refused += 1,
            (true, true) => {}
            (true, false) => {
                savings.recorded += 1;
                savings.recorded_microusd = savings.recorded_microusd.saturating_add(cost_microusd);
            }
        });
    }
}

/// Adds what the call behind a result took, which was not made again.
fn spare(savings: &mut Savings, result: Option<&PromptResult>) {
    let Some(result) = result else { return };
    if let Some(usage) = &result.usage {
        let input = [usage.input, usage.cache_read, usage.cache_write_5m, usage.cache_write_1h];
        savings.input_tokens = input.into_iter().fold(savings.input_tokens, u64::saturating_add);
        savings.output_tokens = savings.output_tokens.saturating_add(usage.output);
    }
    savings.saved_microusd = savings.saved_microusd.saturating_add(result.cost_microusd);
    savings.saved_ms = savings.saved_ms.saturating_add(result.model_ms);
}

impl PromptCache {
    /// What all callers were spared since the server began.
    pub fn savings(&self) -> Savings {
        *self.0.tally.all.lock()
    }
}

impl Inner {
    /// What the callers of a namespace were spared since the server began.
    pub(crate) fn savings(&self, caller: &Caller, request: &SavingsRequest) -> Result<Savings, Refusal> {
        Self::check(caller, Role::Read, &request.namespace)?;
        let key = (caller.tenant().to_owned(), request.namespace.clone());
        let since_ms = self.tally.all.lock().since_ms;
        let found = self.tally.of.lock().get(&key).copied();
        Ok(found.unwrap_or(Savings { since_ms, ..Savings::default() }))
    }
}
