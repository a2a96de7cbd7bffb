use super::{Rule, RuleError, all_strings, refuse_placeholder, strings};
use crate::{Invocation, Json, Uncacheable};

/// The shortest path that is replaced: shorter ones are too easily other text.
const MIN_PATH_BYTES: usize = 6;

/// Paths of this machine and the placeholders that stand for them in keys: `cwd` ↔ `/home/me/project`.
///
/// The map goes both ways, so that what was recorded with placeholders is given back with the caller's own paths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Masks {
    /// Placeholder and path, the longest path first.
    pairs: Vec<(String, String)>,
}

impl Masks {
    /// A map from names, such as `cwd`, to paths.
    ///
    /// # Errors
    /// [`RuleError`] when a path is short or the map does not go both ways.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Result<Self, RuleError> {
        let mut masks = Self::default();
        for (name, path) in pairs {
            let is_name = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
            if name.is_empty() || !name.bytes().all(is_name) {
                return Err(RuleError::Name(name));
            }
            let path = path.trim_end_matches('/').to_owned();
            if path.len() < MIN_PATH_BYTES {
                return Err(RuleError::Short(path));
            }
            let placeholder = format!("⟨{name}⟩");
            if masks.pairs.iter().any(|(known, other)| *known == placeholder || *other == path) {
                return Err(RuleError::Ambiguous(name));
            }
            masks.pairs.push((placeholder, path));
        }
        masks.pairs.sort_by(|(_, a), (_, b)| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        Ok(masks)
    }

    /// Whether there is nothing to replace.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The text with placeholders for paths; `None` when it holds a placeholder already, for there is no way back then.
    pub fn mask(&self, text: &str) -> Option<String> {
        let is_taken = self.pairs.iter().any(|(placeholder, _)| text.contains(placeholder));
        (!is_taken).then(|| self.replace(text))
    }

    /// The text with paths for placeholders; `None` when masking the outcome would not give the text again.
    pub fn unmask(&self, text: &str) -> Option<String> {
        let unmasked =
            self.pairs.iter().fold(text.to_owned(), |text, (placeholder, path)| text.replace(placeholder, path));
        (self.mask(&unmasked).as_deref() == Some(text)).then_some(unmasked)
    }

    /// The names of the placeholders that a value holds, in its strings.
    pub fn names_in(&self, value: &Json) -> Vec<&str> {
        let mut found = Vec::new();
        let mut value = value.clone();
        strings(&mut value, &mut |text| {
            for (placeholder, _) in self.pairs.iter().filter(|(placeholder, _)| text.contains(placeholder.as_str())) {
                found.push(placeholder.trim_matches(['⟨', '⟩']));
            }
        });
        found.sort_unstable();
        found.dedup();
        found
    }

    /// The names of all placeholders.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.pairs.iter().map(|(placeholder, _)| placeholder.trim_matches(['⟨', '⟩']))
    }

    /// [`Masks::mask`] of every string of a value; `None` as well when a path is left, in the name of a member or as a part
    /// of another word: nobody could give that back with another path.
    pub fn mask_all(&self, value: &Json) -> Option<Json> {
        let mut masked = value.clone();
        let mut is_whole = true;
        strings(&mut masked, &mut |text| match self.mask(text) {
            Some(other) => *text = other,
            None => is_whole = false,
        });
        let text = String::from_utf8(masked.canonical()).ok()?;
        (is_whole && !self.is_in(&text)).then_some(masked)
    }

    /// [`Masks::unmask`] of every string of a value; `None` when one of them has no way back.
    pub fn unmask_all(&self, value: &Json) -> Option<Json> {
        let mut unmasked = value.clone();
        let mut is_whole = true;
        strings(&mut unmasked, &mut |text| match self.unmask(text) {
            Some(other) => *text = other,
            None => is_whole = false,
        });
        is_whole.then_some(unmasked)
    }

    /// Whether a text holds one of the paths, wherever in it.
    pub fn is_in(&self, text: &str) -> bool {
        self.pairs.iter().any(|(_, path)| text.contains(path.as_str()))
    }

    pub(super) fn apply(&self, invocation: &mut Invocation) -> Result<(), Uncacheable> {
        let placeholders: Vec<String> = self.pairs.iter().map(|(placeholder, _)| placeholder.clone()).collect();
        refuse_placeholder(invocation, Rule::MaskPaths, &placeholders)?;
        all_strings(invocation, &mut |text| *text = self.replace(text));
        Ok(())
    }

    /// Replaces each path where it stands as a whole, the longest first.
    fn replace(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut rest = text;
        let mut before = None;
        while let Some(char) = rest.chars().next() {
            let here = |path: &str| rest.strip_prefix(path).filter(|after| ends_token(after));
            let found = self.pairs.iter().find_map(|(placeholder, path)| Some((placeholder, here(path)?)));
            match found.filter(|_| starts_token(before)) {
                Some((placeholder, after)) => {
                    out.push_str(placeholder);
                    rest = after;
                    before = Some('⟩');
                }
                None => {
                    out.push(char);
                    before = Some(char);
                    rest = rest.get(char.len_utf8()..).unwrap_or("");
                }
            }
        }
        out
    }
}

/// Whether a path may start after this character.
fn starts_token(before: Option<char>) -> bool {
    before.is_none_or(|char| char.is_whitespace() || "\"'`([{<=:,;|".contains(char))
}

/// Whether a path may end before this text.
fn ends_token(after: &str) -> bool {
    after.chars().next().is_none_or(|char| char.is_whitespace() || "/\"'`)]}>:,;|".contains(char))
}
