//! Tasks: the files that a result depends on, and the evidence for it.

use super::*;

#[tokio::test]
async fn a_task_hits_when_reads_and_befores_are_as_they_were_and_it_was_built() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    let asked = bench.task(BTreeMap::new(), "any").await;
    assert_eq!((codes(&asked), asked.needs.len()), (vec!["needs_tree"], 3));
    assert_eq!(codes(&bench.task(tree(), "").await), ["evidence"]);
    assert_eq!(bench.task(tree(), "any").await.outcome(), Outcome::Hit);
    bench.report(&key, evidence(0, 0, 0)).await;
    assert_eq!(bench.task(tree(), "").await.outcome(), Outcome::Hit);
    assert_eq!(codes(&bench.task(tree(), "tested").await), ["evidence"]);
    bench.report(&key, evidence(0, 4, 0)).await;
    assert_eq!(bench.task(tree(), "tested").await.outcome(), Outcome::Hit);
    assert_eq!(codes(&bench.task(tree(), "signed").await), ["evidence"]);
}

#[tokio::test]
async fn a_changed_file_is_a_miss_that_names_it() {
    let bench = bench();
    bench.put("new").await;
    bench.recorded(plain(), change()).await;
    for (path, state, code) in [
        ("lib.rs", digest_of("other").to_string(), "read_changed"),
        ("new.rs", digest_of("there").to_string(), "read_changed"),
        ("src/rows.py", ABSENT.to_owned(), "before_changed"),
    ] {
        let mut tree = tree();
        tree.insert(path.to_owned(), state.clone());
        let answer = bench.task(tree, "any").await;
        assert_eq!((answer.outcome() == Outcome::Hit, codes(&answer)), (false, vec![code]));
        assert_eq!((answer.why[0].path.as_str(), &answer.why[0].now), (path, &state));
    }
    let mut silent = tree();
    silent.remove("lib.rs");
    assert_eq!(codes(&bench.task(silent, "any").await), ["needs_tree"]);
    // A call with changes needs the tree as well.
    assert_eq!(codes(&bench.call(plain()).await), ["needs_tree"]);
}

#[tokio::test]
async fn a_red_report_demotes_at_once_and_a_new_result_takes_its_place() {
    let bench = bench();
    bench.put("new").await;
    let key = bench.recorded(plain(), change()).await;
    bench.report(&key, evidence(0, 3, 0)).await;
    bench.report(&key, evidence(1, 2, 1)).await;
    let answer = bench.task(tree(), "any").await;
    assert_eq!(codes(&answer), ["red_report"]);
    assert!(answer.why[0].text.contains("1 tests failed"));
    bench.report(&key, evidence(0, 3, 0)).await;
    assert_eq!(codes(&bench.task(tree(), "any").await), ["red_report"]);
    assert!(!bench.record(plain(), change()).await.already);
    assert_eq!(bench.task(tree(), "any").await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn declared_reads_are_not_enough_for_others_once_a_shell_ran() {
    let bench = bench();
    bench.put("new").await;
    let call = |name: &str| vec![ToolCall { name: name.to_owned(), ..ToolCall::default() }];
    let declared = |calls| PromptResult {
        completeness: Completeness::Declared.into(),
        calls,
        session: "s1".to_owned(),
        ..change()
    };
    bench.recorded(plain(), declared(call("Bash"))).await;
    assert_eq!(codes(&bench.task(tree(), "any").await), ["reads_incomplete"]);
    let own = Invocation { session: "s1".to_owned(), ..plain() };
    let request = LookupRequest { invocation: Some(own), task: true, tree: tree(), ..LookupRequest::default() };
    assert_eq!(bench.ask(request).await.outcome(), Outcome::Hit);
    let slot = Invocation { slot: 1, ..plain() };
    bench.recorded(slot.clone(), declared(call("Read"))).await;
    let request = LookupRequest {
        invocation: Some(slot),
        task: true,
        tree: tree(),
        policy: "any".to_owned(),
        ..LookupRequest::default()
    };
    assert_eq!(bench.ask(request).await.outcome(), Outcome::Hit);
}

#[tokio::test]
async fn a_pattern_that_matches_other_files_is_a_miss_that_names_it() {
    let bench = bench();
    bench.put("new").await;
    let found = |names: &[&str]| crate::Glob::digest(names.iter().map(|name| (*name).to_owned()).collect()).to_string();
    let pattern = Read { path: "src/**/*.py".to_owned(), kind: ReadKind::Glob.into(), digest: found(&["src/rows.py"]) };
    let mut result = change();
    result.reads.push(pattern.clone());
    bench.recorded(plain(), result).await;
    let needs = bench.task(BTreeMap::new(), "any").await.needs;
    assert!(needs.contains(&"glob:src/**/*.py".to_owned()), "{needs:?}");
    let with = |state: String| tree().into_iter().chain([("glob:src/**/*.py".to_owned(), state)]).collect();
    assert_eq!(bench.task(with(found(&["src/rows.py"])), "any").await.outcome(), Outcome::Hit);
    let changed = bench.task(with(found(&["src/rows.py", "src/deep/new.py"])), "any").await;
    assert_eq!((codes(&changed), changed.why[0].path.as_str()), (vec!["read_changed"], "glob:src/**/*.py"));
    for path in ["../*.py", "a[", ""] {
        let mut result = change();
        result.reads.push(Read { path: path.to_owned(), ..pattern.clone() });
        assert!(matches!(bench.try_record(plain(), result).await, Err(Refusal::Invalid(_))), "{path:?}");
    }
}
