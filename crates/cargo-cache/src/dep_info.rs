use crate::path_map::PathMap;

/// What rustc says that it read: the dep-info file beside its outputs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct DepInfo {
    /// The files, each once, as rustc names them.
    pub(crate) files: Vec<String>,
    /// The variables that `env!` and `option_env!` read, with the values seen; `None` where one was not set.
    pub(crate) variables: Vec<(String, Option<String>)>,
}

impl DepInfo {
    /// Reads the make rules that rustc writes; `None` when the text is something else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut found = Self::default();
        for line in text.lines() {
            if let Some(variable) = line.strip_prefix("# env-dep:") {
                let (name, value) = match variable.split_once('=') {
                    Some((name, value)) => (name, Some(unescape(value)?)),
                    None => (variable, None),
                };
                found.variables.push((unescape(name)?, value));
            } else if !line.is_empty() && !line.starts_with('#') {
                let (_target, files) = split_rule(line)?;
                for file in files {
                    if !found.files.contains(&file) {
                        found.files.push(file);
                    }
                }
            }
        }
        Some(found)
    }
}

/// The dep-info text with the folders of this machine replaced by their names; `None` when it could not be read back.
pub(crate) fn to_names(text: &str, map: &PathMap) -> Option<String> {
    let mapped = map.to_names(text);
    (!PathMap::is_ambiguous(text) && map.to_real(&mapped) == text).then_some(mapped)
}

/// Splits `target: file file`. A blank within a path is written `\ `.
fn split_rule(line: &str) -> Option<(String, Vec<String>)> {
    let colon = line.find(": ").or_else(|| line.strip_suffix(':').map(str::len))?;
    let (target, rest) = (&line[..colon], line[colon + 1..].trim_start());
    let mut files = Vec::new();
    let mut file = String::new();
    let mut chars = rest.chars();
    while let Some(next) = chars.next() {
        match next {
            '\\' => match chars.next() {
                Some(' ') => file.push(' '),
                Some(other) => {
                    file.push('\\');
                    file.push(other);
                }
                None => file.push('\\'),
            },
            ' ' if file.is_empty() => {}
            ' ' => files.push(std::mem::take(&mut file)),
            other => file.push(other),
        }
    }
    if !file.is_empty() {
        files.push(file);
    }
    Some((target.to_owned(), files))
}

/// Reads `\n`, `\r` and `\\`.
fn unescape(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(next) = chars.next() {
        out.push(match next {
            '\\' => match chars.next()? {
                'n' => '\n',
                'r' => '\r',
                '\\' => '\\',
                _ => return None,
            },
            other => other,
        });
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn files_and_variables_are_read() {
        let text = "/t/debug/deps/a-1.d: src/lib.rs src/a\\ b.rs\n\n/t/debug/deps/liba-1.rlib: src/lib.rs /x/out/gen.rs\n\n\
                    src/lib.rs:\nsrc/a\\ b.rs:\n\n# env-dep:CARGO_PKG_NAME=a\n# env-dep:LINES=1\\n2\n# env-dep:UNSET\n";
        let read = DepInfo::parse(text).expect("dep-info");
        assert_eq!(read.files, ["src/lib.rs", "src/a b.rs", "/x/out/gen.rs"]);
        let variable = |name: &str, value: Option<&str>| (name.to_owned(), value.map(str::to_owned));
        let expected =
            [variable("CARGO_PKG_NAME", Some("a")), variable("LINES", Some("1\n2")), variable("UNSET", None)];
        assert_eq!(read.variables, expected);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in "(src/a\\.rs|: |:|\\\\|# env-dep:|=|\n|[a-z/ ]){0,40}") {
            let _read = DepInfo::parse(&text);
        }
    }
}
