use std::collections::BTreeMap;

/// What each test of a command said, as test harnesses print it: by the harness, counted from the first, and the test's
/// name. Documentation tests are named by lines, which a comment above them moves, so lines are no part of a name, and
/// one name may have several verdicts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdicts(BTreeMap<(usize, String), Vec<String>>);

impl Verdicts {
    /// Reads the standard output of a command that ran tests.
    pub(super) fn read(output: &str) -> Self {
        let mut found = Self::default();
        let mut harness = 0;
        for line in output.lines() {
            if line.starts_with("running ") && (line.ends_with(" tests") || line.ends_with(" test")) {
                harness += 1;
            }
            let Some((name, verdict)) = line.strip_prefix("test ").and_then(|line| line.rsplit_once(" ... ")) else {
                continue;
            };
            let verdicts = found.0.entry((harness, without_line(name))).or_default();
            verdicts.push(verdict.to_owned());
            verdicts.sort();
        }
        found
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// The first test whose verdict is another in `other`, if there is one.
    pub(super) fn difference(&self, other: &Self) -> Option<String> {
        let names = self.0.keys().chain(other.0.keys());
        let differs = names.into_iter().find(|name| self.0.get(name) != other.0.get(name))?;
        let said = |verdicts: &Self| verdicts.0.get(differs).map_or("not run".to_owned(), |all| all.join(", "));
        Some(format!("{} of harness {}: {}, and {}", differs.1, differs.0, said(self), said(other)))
    }
}

/// `file - name (line 12) - compile` without the line.
fn without_line(name: &str) -> String {
    let Some((before, rest)) = name.split_once(" (line ") else {
        return name.to_owned();
    };
    let after = rest.split_once(')').map_or("", |(_, after)| after);
    format!("{before}{after}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tests_of_one_name_in_two_harnesses_are_two_and_lines_do_not_matter() {
        let output = "running 1 test\ntest a ... ok\n\nrunning 2 tests\ntest a ... FAILED\n\
                      test src/x.rs - x::Y (line 12) - compile ... ok\ntest src/x.rs - x::Y (line 40) ... ignored\n";
        let read = Verdicts::read(output);
        assert_eq!(read.len(), 4);
        assert_eq!(read.difference(&Verdicts::read(&output.replace("12", "13"))), None);
        let other = read.difference(&Verdicts::read(&output.replace("FAILED", "ok"))).expect("a difference");
        assert_eq!(other, "a of harness 2: FAILED, and ok");
        let fewer = read.difference(&Verdicts::read("running 1 test\ntest a ... ok\n"));
        assert!(fewer.expect("a difference").ends_with("and not run"));
    }
}
