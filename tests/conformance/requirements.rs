//! Which requirements there are, which of them do not apply to this server, and the table.

use std::collections::BTreeSet;

use crate::harness::say;

/// Every number that the specification has.
const NUMBERS: &[std::ops::RangeInclusive<u16>] = &[
    1..=12,
    15..=18,
    20..=22,
    30..=35,
    40..=45,
    50..=58,
    60..=66,
    70..=78,
    80..=82,
    85..=93,
    95..=112,
    120..=128,
    130..=138,
    140..=140,
    150..=152,
    155..=156,
    160..=162,
    170..=178,
    180..=183,
];

/// Those that no test on the wire can hold this server to, and why.
const NOT_APPLICABLE: &[(std::ops::RangeInclusive<u16>, &str)] = &[
    (93..=93, "how an answer is copied inside the server; nothing of it is on the wire"),
    (128..=128, "how the completeness check asks the store; nothing of it is on the wire"),
    (135..=135, "no identities in this version: whoever reaches the server may write, and capabilities say so (R-022)"),
    (140..=140, "this server makes no Directory messages"),
    (170..=178, "the Remote Asset API is not offered in this version"),
    (183..=183, "no identities in this version; the server listens on loopback and Unix sockets only"),
];

/// Prints `requirement | test | result`; what makes the test fail. `is_whole` is false when only some cases ran.
pub fn print_table(results: &[(&'static str, Result<(), String>)], is_whole: bool) -> Vec<String> {
    let mut faults = Vec::new();
    let mut tested = BTreeSet::new();
    let mut rows: Vec<(u16, String, String)> = Vec::new();
    for (name, result) in results {
        let (numbers, label) = requirements_of(name);
        let verdict = match result {
            Ok(()) => "pass".to_owned(),
            Err(reason) => {
                faults.push(format!("{name}: {reason}"));
                format!("FAIL: {}", reason.lines().next().unwrap_or_default())
            }
        };
        for number in &numbers {
            tested.insert(*number);
            rows.push((*number, format!("R-{number:03} | {name}"), verdict.clone()));
        }
        if numbers.is_empty() {
            rows.push((u16::MAX, format!("{label} | {name}"), verdict));
        }
    }
    for (range, reason) in NOT_APPLICABLE {
        for number in range.clone() {
            rows.push((number, format!("R-{number:03} | –"), format!("does not apply: {reason}")));
        }
    }
    rows.sort();
    say("\nrequirement | test | result\n--- | --- | ---");
    for (_, row, verdict) in &rows {
        say(format!("{row} | {verdict}"));
    }
    if is_whole {
        faults.extend(gaps(&tested));
    }
    let failed = results.iter().filter(|(_, result)| result.is_err()).count();
    say(format!(
        "\n{} requirements tested by {} cases: {} passed, {failed} failed; {} do not apply; {} without a test\n",
        tested.len(),
        results.len(),
        results.len() - failed,
        NOT_APPLICABLE.iter().map(|(range, _)| range.len()).sum::<usize>(),
        gaps(&tested).len(),
    ));
    faults
}

/// Numbers without a test, and tests without a number.
fn gaps(tested: &BTreeSet<u16>) -> Vec<String> {
    let known: BTreeSet<u16> = NUMBERS.iter().cloned().flatten().collect();
    let excused: BTreeSet<u16> = NOT_APPLICABLE.iter().flat_map(|(range, _)| range.clone()).collect();
    let untested = known.iter().filter(|number| !tested.contains(number) && !excused.contains(number));
    let unknown = tested.iter().filter(|number| !known.contains(number) || excused.contains(number));
    untested
        .map(|number| format!("R-{number:03} has no test"))
        .chain(unknown.map(|number| format!("R-{number:03} is tested, but is not a requirement that applies")))
        .collect()
}

/// The numbers at the start of a case's name (`r_092_r_100_…`), or what else it is about.
fn requirements_of(name: &str) -> (Vec<u16>, String) {
    let mut numbers = Vec::new();
    let mut rest = name;
    while let Some((number, tail)) = rest.strip_prefix("r_").and_then(|rest| rest.split_once('_')) {
        let Ok(number) = number.parse() else { break };
        numbers.push(number);
        rest = tail;
    }
    let label = name.split('_').take_while(|part| !part.starts_with("the")).take(2).collect::<Vec<_>>().join(" ");
    (numbers, label)
}
