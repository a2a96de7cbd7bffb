use std::collections::BTreeSet;
use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::Mutex;
use prompt_key::{KeyDigest, Span};
use store::RecordKey;

use crate::asked::Asked;
use crate::cache::Inner;
use crate::names::Names;
use crate::proto::{Drift, Suggestion};

/// Misses that differ in one span alone before it is told.
const MIN_MISSES: u32 = 5;
/// Spans that are remembered; the least recently seen go first.
const MAX_SPANS: NonZeroUsize = NonZeroUsize::new(50_000).expect("not zero");

/// How often a miss came back with nothing but one span of its text another one. It holds no text, and applies nothing.
///
/// Spec: prompt-key §4, "Volatile-field detector".
pub(crate) struct Volatile(Mutex<LruCache<RecordKey, Seen>>);

struct Seen {
    misses: u32,
    last: KeyDigest,
}

impl Default for Volatile {
    fn default() -> Self {
        Self(Mutex::new(LruCache::new(MAX_SPANS)))
    }
}

impl Volatile {
    /// Counts one more miss, unless it is the last one again; how many there were.
    fn count(&self, span: RecordKey, value: KeyDigest) -> u32 {
        let mut seen = self.0.lock();
        let seen = seen.get_or_insert_mut(span, || Seen { misses: 0, last: prompt_key::hash("none", []) });
        if seen.last != value {
            seen.last = value;
            seen.misses = seen.misses.saturating_add(1);
        }
        seen.misses
    }
}

impl Inner {
    /// The spans that kept an invocation from being found, again and again; it differs from its nearest entry by `drift`.
    pub(crate) fn suggestions(&self, names: &Names, asked: &Asked, request: &[u8], drift: &[Drift]) -> Vec<Suggestion> {
        let components: BTreeSet<&str> = drift.iter().map(|drift| drift.component.as_str()).collect();
        let (Some(component), 1) = (components.first(), components.len()) else { return Vec::new() };
        // A request that has a key is read again.
        let spans = prompt_key::volatile_spans(request, &asked.options, component).unwrap_or_default();
        let is_often = |span: &Span| {
            let value = prompt_key::hash("value", [span.text.as_bytes()]);
            self.volatile.count(names.span(&span.rest), value) >= MIN_MISSES
        };
        let often = spans.into_iter().filter(|span| is_often(span));
        often.map(|span| suggestion(component, span)).collect()
    }
}

fn suggestion(component: &str, span: Span) -> Suggestion {
    Suggestion {
        component: component.to_owned(),
        pointer: span.pointer,
        kind: span.kind.name().to_owned(),
        span: span.text,
        rule: span.rule.map(|rule| rule.name().to_owned()).unwrap_or_default(),
    }
}
