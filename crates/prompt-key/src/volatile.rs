//! What changes from call to call in a request though it means the same: dates, ids, hashes, counters, paths.
//!
//! Spec: prompt-key §4, "Volatile-field detector".

use crate::rules::by_line;
use crate::{Invocation, Json, KeyDigest, Link, Options, Rule, Uncacheable, adapter, hash, json, rules};

/// Spans that are told of one component.
const MAX_SPANS: usize = 64;
/// The shortest absolute path, as for `mask-paths@1`.
const MIN_PATH_BYTES: usize = 6;

/// What a span looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// `2026-11-24`, and a time behind it.
    Date,
    /// A UUID.
    Uuid,
    /// Hexadecimal digits, seven or more.
    Hash,
    /// Digits.
    Counter,
    /// An absolute path.
    Path,
}

impl SpanKind {
    /// The kind's name in answers.
    pub fn name(self) -> &'static str {
        match self {
            Self::Date => "date",
            Self::Uuid => "uuid",
            Self::Hash => "hash",
            Self::Counter => "counter",
            Self::Path => "path",
        }
    }
}

/// A piece of text in a component that may change from call to call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Where the text is in the component, as a JSON pointer.
    pub pointer: String,
    /// What it looks like.
    pub kind: SpanKind,
    /// The piece itself.
    pub text: String,
    /// The opt-in rule that masks it, if there is one.
    pub rule: Option<Rule>,
    /// Digest of the whole component but for the piece: two requests with the same differ in the piece alone.
    pub rest: KeyDigest,
}

/// The spans of one component of a request: `system`, `tools`, `gen` or `messages`; none of any other.
///
/// # Errors
/// As [`crate::key`].
pub fn volatile_spans(request: &[u8], options: &Options, component: &str) -> Result<Vec<Span>, Uncacheable> {
    let mut invocation = adapter::read(json::parse(request)?, options)?;
    rules::apply(&mut invocation, options)?;
    let Some(mut whole) = part(invocation, component) else { return Ok(Vec::new()) };
    let mut texts = Vec::new();
    collect(&whole, String::new(), &mut texts);
    let mut found = Vec::new();
    for (pointer, text) in texts {
        let spans = spans(&text);
        if spans.is_empty() {
            continue;
        }
        let around = without(&mut whole, &pointer);
        for (kind, start, end) in spans {
            let (Some(before), Some(span), Some(after)) = (text.get(..start), text.get(start..end), text.get(end..))
            else {
                continue;
            };
            let parts = [component.as_bytes(), pointer.as_bytes(), before.as_bytes(), after.as_bytes(), &around];
            found.push(Span {
                pointer: pointer.clone(),
                kind,
                text: span.to_owned(),
                rule: rule(kind, &text, span),
                rest: hash("volatile", parts),
            });
            if found.len() == MAX_SPANS {
                return Ok(found);
            }
        }
    }
    Ok(found)
}

fn part(invocation: Invocation, component: &str) -> Option<Json> {
    let said =
        |link: Link| Json::from([("role", link.role), ("block", link.block), ("message", Json::Object(link.message))]);
    match component {
        "system" => Some(Json::Array(invocation.system)),
        "tools" => Some(Json::Array(invocation.tools.into_iter().map(|tool| tool.definition).collect())),
        "gen" => Some(Json::Object(invocation.generation)),
        "messages" => Some(Json::Array(invocation.links.into_iter().map(said).collect())),
        _ => None,
    }
}

/// Every string of a value, with its pointer.
fn collect(value: &Json, at: String, texts: &mut Vec<(String, String)>) {
    match value {
        Json::String(text) => texts.push((at, text.clone())),
        Json::Array(items) => {
            items.iter().enumerate().for_each(|(index, item)| collect(item, format!("{at}/{index}"), texts));
        }
        Json::Object(members) => {
            for (name, value) in members {
                collect(value, format!("{at}/{}", name.replace('~', "~0").replace('/', "~1")), texts);
            }
        }
        Json::Null | Json::Bool(_) | Json::Number(_) => {}
    }
}

/// The canonical bytes of the value as it would be with the string at the pointer empty.
fn without(whole: &mut Json, pointer: &str) -> Vec<u8> {
    let taken = at(whole, pointer).map(|text| std::mem::replace(text, Json::Null));
    let bytes = whole.canonical();
    if let (Some(taken), Some(place)) = (taken, at(whole, pointer)) {
        *place = taken;
    }
    bytes
}

fn at<'a>(whole: &'a mut Json, pointer: &str) -> Option<&'a mut Json> {
    pointer.split('/').skip(1).try_fold(whole, |value, step| match value {
        Json::Array(items) => items.get_mut(step.parse::<usize>().ok()?),
        Json::Object(members) => members.get_mut(&step.replace("~1", "/").replace("~0", "~")),
        _ => None,
    })
}

/// The rule under which the text does not say the span any more.
fn rule(kind: SpanKind, text: &str, span: &str) -> Option<Rule> {
    let masked = by_line().into_iter().find(|(_, mask)| !mask(text).contains(span)).map(|(rule, _)| rule);
    masked.or((kind == SpanKind::Path).then_some(Rule::MaskPaths))
}

/// The spans of a text, in order, none over another.
fn spans(text: &str) -> Vec<(SpanKind, usize, usize)> {
    let is_inside = |char: char| char.is_ascii_alphanumeric() || "-:./+_~".contains(char);
    let mut found = Vec::new();
    let mut start = 0;
    for token in text.split_inclusive(|char| !is_inside(char)) {
        let word = token.trim_end_matches(|char| !is_inside(char)).trim_end_matches(['.', ':', '-']);
        found.extend(of_word(word).into_iter().map(|(kind, from, to)| (kind, start + from, start + to)));
        start += token.len();
    }
    found
}

fn of_word(word: &str) -> Vec<(SpanKind, usize, usize)> {
    let whole = |kind| vec![(kind, 0, word.len())];
    if word.starts_with('/') && word.len() >= MIN_PATH_BYTES {
        return whole(SpanKind::Path);
    }
    if word.get(..10).is_some_and(is_date) {
        return whole(SpanKind::Date);
    }
    if is_uuid(word) {
        return whole(SpanKind::Uuid);
    }
    let is_hex = word.len() >= 7 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    if is_hex && word.bytes().any(|byte| byte.is_ascii_alphabetic()) && word.bytes().any(|byte| byte.is_ascii_digit()) {
        return whole(SpanKind::Hash);
    }
    let mut counters: Vec<(SpanKind, usize, usize)> = Vec::new();
    for (index, _) in word.char_indices().filter(|(_, char)| char.is_ascii_digit()) {
        match counters.last_mut().filter(|(_, _, end)| *end == index) {
            Some((_, _, end)) => *end += 1,
            None => counters.push((SpanKind::Counter, index, index + 1)),
        }
    }
    counters
}

fn is_date(text: &str) -> bool {
    text.bytes().enumerate().all(|(index, byte)| match index {
        4 | 7 => byte == b'-' || byte == b'/',
        _ => byte.is_ascii_digit(),
    })
}

fn is_uuid(word: &str) -> bool {
    let lens: Vec<usize> = word.split('-').map(str::len).collect();
    lens == [8, 4, 4, 4, 12] && word.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Api;

    fn of(system: &str) -> Vec<Span> {
        let request = format!(r#"{{"model":"m","system":"{system}","messages":[{{"role":"user","content":"a"}}]}}"#);
        let options = Options::new(Api::AnthropicMessages);
        volatile_spans(request.as_bytes(), &options, "system").expect("a request that has a key")
    }

    #[test]
    fn each_kind_is_told_with_the_rule_that_masks_it() {
        for (text, kind, span, rule) in [
            ("Today's date: 2026-11-24.", SpanKind::Date, "2026-11-24", Some(Rule::MaskDate)),
            ("at 2026-11-24T10:00:00Z", SpanKind::Date, "2026-11-24T10:00:00Z", None),
            ("in /home/ann/p,", SpanKind::Path, "/home/ann/p", Some(Rule::MaskPaths)),
            ("run 7f9c24e8-3b12-4a5e-9d1c-0a1b2c3d4e5f", SpanKind::Uuid, "7f9c24e8-3b12-4a5e-9d1c-0a1b2c3d4e5f", None),
            ("Shell: bash5", SpanKind::Counter, "5", Some(Rule::MaskEnv)),
            ("head 05fef3c", SpanKind::Hash, "05fef3c", None),
            ("turn-17 of many", SpanKind::Counter, "17", None),
        ] {
            let found = of(text);
            let told: Vec<_> = found.iter().map(|span| (span.kind, span.text.as_str(), span.rule)).collect();
            assert_eq!(told, [(kind, span, rule)], "{text}");
            assert_eq!(found[0].pointer, "/0/text");
        }
        assert_eq!(of("No digits, a/relative/path, cafe, face."), []);
    }

    #[test]
    fn what_is_around_a_span_is_the_same_only_if_all_else_is() {
        let rests = |text: &str| of(text).into_iter().map(|span| span.rest).collect::<Vec<_>>();
        assert_eq!(rests("turn 1 of x")[0], rests("turn 22 of x")[0]);
        assert_ne!(rests("turn 1 of x")[0], rests("turn 1 of y")[0]);
        // Two that change at once are no single span.
        let (one, other) = (rests("turn 1 of 2"), rests("turn 3 of 4"));
        assert!(one.iter().all(|rest| !other.contains(rest)));
        assert!(rests("turn 1 of 2")[0] == rests("turn 3 of 2")[0]);
    }
}
