use std::collections::BTreeSet;

use cache_types::Digest;

use crate::files::listing_digest;

/// How a place in a tree is written that is all paths which a pattern matches.
const PLACE: &str = "glob:";
/// Patterns that braces may stand for.
const MAX_ALTERNATIVES: usize = 256;

/// A pattern of paths: `*` and `?` within a segment, `[a-z]` and `[!a-z]`, `{one,other}`, and `**` for any segments.
///
/// It matches files and symbolic links by their paths below a folder, names that begin with a dot among them; nothing below
/// a folder called `.git`, and nothing through a link.
#[derive(Clone, Debug)]
pub struct Glob(Vec<Vec<Segment>>);

#[derive(Clone, Debug)]
enum Segment {
    /// `**`: none or more.
    Any,
    Of(Vec<Part>),
}

#[derive(Clone, Debug)]
enum Part {
    Char(char),
    One,
    Many,
    Class { not: bool, ranges: Vec<(char, char)> },
}

/// A pattern that is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no pattern of relative paths")]
pub struct GlobError(String);

impl Glob {
    /// Reads a pattern.
    ///
    /// # Errors
    /// [`GlobError`] when a bracket or a brace is not closed, a segment is empty, `.` or `..`, or braces stand for too many.
    pub fn new(pattern: &str) -> Result<Self, GlobError> {
        let error = || GlobError(pattern.to_owned());
        let alternatives = expand(pattern).ok_or_else(error)?;
        let read = |pattern: &String| pattern.split('/').map(segment).collect::<Option<Vec<_>>>();
        Ok(Self(alternatives.iter().map(read).collect::<Option<_>>().ok_or_else(error)?))
    }

    /// The pattern of a place such as `glob:src/**/*.rs`; `None` when the place is none.
    ///
    /// # Errors
    /// As [`Glob::new`].
    pub fn of_place(place: &str) -> Option<Result<Self, GlobError>> {
        place.strip_prefix(PLACE).map(Self::new)
    }

    /// How a tree names what a pattern matches.
    pub fn place(pattern: &str) -> String {
        format!("{PLACE}{pattern}")
    }

    /// Whether a path is one of the pattern.
    pub fn matches(&self, path: &str) -> bool {
        let path: Vec<&str> = path.split('/').collect();
        self.0.iter().any(|pattern| fits(pattern, &path, Asked::Itself))
    }

    /// Whether paths below a folder may be of the pattern, so that it has to be looked into.
    pub fn may_match_below(&self, folder: &str) -> bool {
        let path: Vec<&str> = folder.split('/').collect();
        path.last() != Some(&".git") && self.0.iter().any(|pattern| fits(pattern, &path, Asked::Below))
    }

    /// What a tree says of a pattern: the digest of the paths that it matches, in order, a line each.
    pub fn digest(paths: BTreeSet<String>) -> Digest {
        listing_digest(paths.into_iter().collect())
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Asked {
    Itself,
    Below,
}

/// Takes the names one by one, and keeps every place in the pattern that they may have led to.
fn fits(pattern: &[Segment], path: &[&str], asked: Asked) -> bool {
    let mut at = vec![false; pattern.len() + 1];
    at[0] = true;
    pass_any(pattern, &mut at);
    for name in path {
        let name: Vec<char> = name.chars().collect();
        let mut next = vec![false; at.len()];
        for (index, segment) in pattern.iter().enumerate().filter(|(index, _)| at[*index]) {
            match segment {
                Segment::Any => next[index] = true,
                Segment::Of(parts) => next[index + 1] |= is_like(parts, &name),
            }
        }
        pass_any(pattern, &mut next);
        at = next;
    }
    match asked {
        Asked::Itself => at[pattern.len()],
        Asked::Below => at[..pattern.len()].contains(&true),
    }
}

/// `**` stands for nothing, too.
fn pass_any(pattern: &[Segment], at: &mut [bool]) {
    for (index, segment) in pattern.iter().enumerate() {
        at[index + 1] |= at[index] && matches!(segment, Segment::Any);
    }
}

/// Whether a name is like the parts. Goes back to the last `*` alone, so it takes no more than the product of both lengths.
fn is_like(parts: &[Part], name: &[char]) -> bool {
    let (mut part, mut at) = (0, 0);
    let mut back: Option<(usize, usize)> = None;
    loop {
        match (parts.get(part), name.get(at)) {
            (Some(Part::Many), _) => {
                back = Some((part, at));
                part += 1;
                continue;
            }
            (Some(one), Some(char)) if one.takes(*char) => {
                part += 1;
                at += 1;
                continue;
            }
            (None, None) => return true,
            _ => {}
        }
        match back {
            Some((star, from)) if from < name.len() => {
                back = Some((star, from + 1));
                part = star + 1;
                at = from + 1;
            }
            _ => return false,
        }
    }
}

impl Part {
    fn takes(&self, char: char) -> bool {
        match self {
            Self::Char(own) => *own == char,
            Self::One | Self::Many => true,
            Self::Class { not, ranges } => ranges.iter().any(|(from, to)| (*from..=*to).contains(&char)) != *not,
        }
    }
}

/// The patterns that braces stand for; `None` when they are not closed or are too many.
fn expand(pattern: &str) -> Option<Vec<String>> {
    let Some(open) = pattern.find('{') else {
        return (!pattern.contains('}')).then(|| vec![pattern.to_owned()]);
    };
    let (head, tail) = (pattern.get(..open)?, pattern.get(open + 1..)?);
    let (mut depth, mut start, mut parts, mut close) = (0, 0, Vec::new(), None);
    for (index, char) in tail.char_indices() {
        match char {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                parts.push(tail.get(start..index)?);
                start = index + 1;
                if char == '}' {
                    close = Some(start);
                    break;
                }
            }
            _ => {}
        }
    }
    let rest = tail.get(close?..)?;
    let mut all = Vec::new();
    for part in parts {
        all.extend(expand(&format!("{head}{part}{rest}"))?);
        if all.len() > MAX_ALTERNATIVES {
            return None;
        }
    }
    Some(all)
}

fn segment(text: &str) -> Option<Segment> {
    if text == "**" {
        return Some(Segment::Any);
    }
    if matches!(text, "" | "." | "..") || text.contains(['\0', '\\']) {
        return None;
    }
    let mut parts = Vec::new();
    let mut rest = text.chars();
    while let Some(char) = rest.next() {
        parts.push(match char {
            '*' => Part::Many,
            '?' => Part::One,
            '[' => {
                let (inside, after) = rest.as_str().split_once(']').filter(|(inside, _)| !inside.is_empty())?;
                rest = after.chars();
                class(inside)?
            }
            ']' => return None,
            other => Part::Char(other),
        });
    }
    Some(Segment::Of(parts))
}

fn class(inside: &str) -> Option<Part> {
    let not = inside.starts_with(['!', '^']);
    let chars: Vec<char> = inside.chars().skip(usize::from(not)).collect();
    let mut ranges = Vec::new();
    let mut rest = chars.as_slice();
    while let Some((from, after)) = rest.split_first() {
        match after {
            ['-', to, after @ ..] => {
                ranges.push((*from, *to));
                rest = after;
            }
            after => {
                ranges.push((*from, *from));
                rest = after;
            }
        }
    }
    (!ranges.is_empty()).then_some(Part::Class { not, ranges })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(pattern: &str, path: &str) -> bool {
        Glob::new(pattern).expect(pattern).matches(path)
    }

    #[test]
    fn a_pattern_matches_whole_paths() {
        for (pattern, path) in [
            ("*.rs", "a.rs"),
            ("**/*.rs", "a.rs"),
            ("**/*.rs", "src/deep/a.rs"),
            ("src/**", "src/a/b"),
            ("src/**/b", "src/b"),
            ("a?c", "abc"),
            ("[a-c]x.{ts,tsx}", "bx.tsx"),
            ("{a,b/{c,d}}/*", "b/d/e"),
            ("[!a]b", "xb"),
            ("*a*b*", "xxaybz"),
            ("*", ".hidden"),
        ] {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in [
            ("*.rs", "src/a.rs"),
            ("src/*", "src/a/b"),
            ("a?c", "ac"),
            ("[!a]b", "ab"),
            ("*a*b", "xxaybz"),
            ("src/**/b", "b"),
            ("*.rs", "a.rsx"),
        ] {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn folders_that_cannot_hold_a_match_are_passed_by() {
        let glob = Glob::new("src/*/x/**").expect("a pattern");
        assert!(["src", "src/a", "src/a/x", "src/a/x/deep"].iter().all(|folder| glob.may_match_below(folder)));
        assert!(["lib", "src/a/y", "src/.git"].iter().all(|folder| !glob.may_match_below(folder)));
        assert!(!Glob::new("*.rs").expect("a pattern").may_match_below("src"));
        assert!(!Glob::new("**").expect("a pattern").may_match_below("a/.git"));
    }

    #[test]
    fn what_is_no_pattern_is_refused() {
        let many = "{a,b}".repeat(9);
        for pattern in ["", "/a", "a//b", "../a", "a/./b", "{a", "a}", "[a", "a]", "[]", "[!]", "a\\b", &many] {
            assert_eq!(Glob::new(pattern).err(), Some(GlobError(pattern.to_owned())), "{pattern}");
        }
        // A pattern that goes back again and again takes no more than the product of the lengths.
        assert!(!matches(&"*a".repeat(2000), &"a".repeat(1999)));
    }
}
