use std::path::Path;

/// All names of [`PathMap`] start with this; text that holds it already cannot be mapped back.
const PREFIX: &str = "/twofold/";

/// Folders of this machine, each with the fixed name that stands for it in keys and in stored text.
///
/// So a unit that was compiled in one checkout is found from another.
#[derive(Clone, Debug)]
pub(crate) struct PathMap {
    /// Real folder and its name, the longest folder first.
    roots: Vec<(String, String)>,
}

impl PathMap {
    /// A map of these folders; `name` is one path segment. Folders that are not UTF-8, or not absolute, are left out.
    pub(crate) fn new<'a>(roots: impl IntoIterator<Item = (&'a Path, &'static str)>) -> Self {
        let mut roots: Vec<(String, String)> = roots
            .into_iter()
            .filter_map(|(real, name)| {
                Some((real.to_str()?.trim_end_matches('/').to_owned(), format!("{PREFIX}{name}")))
            })
            .filter(|(real, _)| real.len() > 1 && real.starts_with('/'))
            .collect();
        roots.sort_by(|a, b| b.0.len().cmp(&a.0.len()).then_with(|| a.cmp(b)));
        roots.dedup_by(|later, first| later.0 == first.0);
        Self { roots }
    }

    /// The text with each folder replaced by its name.
    pub(crate) fn to_names(&self, text: &str) -> String {
        replace(text, self.roots.iter().map(|(real, name)| (real.as_str(), name.as_str())))
    }

    /// The text with each name replaced by the folder that it stands for.
    pub(crate) fn to_real(&self, text: &str) -> String {
        if !text.contains(PREFIX) {
            return text.to_owned();
        }
        replace(text, self.roots.iter().map(|(real, name)| (name.as_str(), real.as_str())))
    }

    /// Whether the text holds what would be taken for a name.
    pub(crate) fn is_ambiguous(text: &str) -> bool {
        text.contains(PREFIX)
    }

    /// The folders that occur in these bytes, which so belong to this place alone: name and real folder.
    pub(crate) fn embedded_in<'a>(&'a self, bytes: &'a [u8]) -> impl Iterator<Item = (&'a str, &'a str)> {
        let occurs = |(real, _): &&(String, String)| contains(bytes, real.as_bytes());
        self.roots.iter().filter(occurs).map(|(real, name)| (name.as_str(), real.as_str()))
    }

    /// The real folder that a name stands for.
    pub(crate) fn real(&self, name: &str) -> Option<&str> {
        self.roots.iter().find(|(_, known)| known == name).map(|(real, _)| real.as_str())
    }

    /// What tells rustc to write names where it would write folders; one `--remap-path-prefix` for each folder, the
    /// longest last, since the last that fits wins.
    pub(crate) fn remap_arguments(&self) -> Vec<String> {
        self.roots.iter().rev().map(|(real, name)| format!("--remap-path-prefix={real}={name}")).collect()
    }
}

/// Whether `needle` occurs in `bytes`.
fn contains(bytes: &[u8], needle: &[u8]) -> bool {
    let Some(&first) = needle.first() else {
        return true;
    };
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        rest = &rest[at..];
        if rest.starts_with(needle) {
            return true;
        }
        rest = &rest[1..];
    }
    false
}

/// Replaces each path that starts a pair; the pairs come longest first.
fn replace<'a>(text: &str, pairs: impl Iterator<Item = (&'a str, &'a str)> + Clone) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    let mut before = None;
    while let Some(next) = rest.chars().next() {
        let found = if next == '/' && before.is_none_or(starts_after) {
            pairs.clone().find(|(from, _)| {
                rest.strip_prefix(from).is_some_and(|after| after.chars().next().is_none_or(ends_before))
            })
        } else {
            None
        };
        let taken = match found {
            Some((from, to)) => {
                out.push_str(to);
                from.len()
            }
            None => {
                out.push(next);
                next.len_utf8()
            }
        };
        before = rest[..taken].chars().next_back();
        rest = &rest[taken..];
    }
    out
}

/// Whether an absolute path may follow this character.
fn starts_after(before: char) -> bool {
    !(before.is_alphanumeric() || matches!(before, '_' | '.' | '-'))
}

/// Whether a folder's path may end before this character.
fn ends_before(after: char) -> bool {
    !(after.is_alphanumeric() || matches!(after, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn map() -> PathMap {
        PathMap::new([(Path::new("/home/me/ws"), "workspace"), (Path::new("/home/me/ws/target"), "target")])
    }

    #[test]
    fn folders_are_replaced_at_the_borders_of_paths_only() {
        for (real, name) in [
            ("-Ldependency=/home/me/ws/target/debug", "-Ldependency=/twofold/target/debug"),
            ("/home/me/ws", "/twofold/workspace"),
            ("file:///home/me/ws/x", "file:///twofold/workspace/x"),
            ("\"/home/me/ws/a\",\"/home/me/ws\"", "\"/twofold/workspace/a\",\"/twofold/workspace\""),
            ("/home/me/ws2/a", "/home/me/ws2/a"),
            ("/x/home/me/ws/a", "/x/home/me/ws/a"),
            ("/home/me/ws.bak", "/home/me/ws.bak"),
        ] {
            assert_eq!(map().to_names(real), name);
            assert_eq!(map().to_real(name), real);
        }
    }

    #[test]
    fn the_inner_folder_wins_in_the_arguments_of_rustc() {
        let arguments = map().remap_arguments();
        assert_eq!(
            arguments.last().map(String::as_str),
            Some("--remap-path-prefix=/home/me/ws/target=/twofold/target")
        );
    }

    #[test]
    fn embedded_folders_are_found() {
        let map = map();
        let found: Vec<_> = map.embedded_in(b"abc\0//home/me/ws/x").collect();
        assert_eq!(found, [("/twofold/workspace", "/home/me/ws")]);
        assert_eq!(map.real("/twofold/workspace"), Some("/home/me/ws"));
        assert_eq!(map.embedded_in(b"/home/me/w").count(), 0);
    }

    proptest! {
        #[test]
        fn text_without_names_comes_back(text in "(/home/me/ws|/home|/|me|[a-z =:\"]){0,12}") {
            prop_assert_eq!(map().to_real(&map().to_names(&text)), text);
        }
    }
}
