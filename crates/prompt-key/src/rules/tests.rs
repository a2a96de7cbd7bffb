use proptest::prelude::*;

use super::texts::{date, env, git};
use super::*;
use crate::{Api, PromptKey, key};

fn of(request: &str, rules: &[Rule], masks: &[(&str, &str)]) -> Result<PromptKey, Uncacheable> {
    let mut options = Options::new(Api::AnthropicMessages);
    options.profile = rules.iter().fold(options.profile, |profile, rule| profile.with(*rule));
    options.masks =
        Masks::new(masks.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned()))).expect("masks");
    key(request.as_bytes(), &options)
}

fn request(system: &str, content: &str) -> String {
    format!(r#"{{"model":"m","system":"{system}","messages":[{{"role":"user","content":{content}}}]}}"#)
}

#[test]
fn a_rule_is_a_part_of_the_key_even_where_it_changes_nothing() {
    let plain = of(&request("s", "\"a\""), &[], &[]).expect("a key");
    for rule in Rule::ALL {
        assert_ne!(of(&request("s", "\"a\""), &[rule], &[]).expect("a key").id(), plain.id(), "{rule}");
        assert_eq!(rule.name().parse(), Ok(rule));
    }
}

#[test]
fn dates_are_masked_in_date_lines_only() {
    assert_eq!(
        date("# currentDate\nToday's date is 2026-11-24.\nx 2026-11-24"),
        "# currentDate\nToday's date is ⟨date⟩.\nx 2026-11-24"
    );
    assert_eq!(date(" - Today's date: 2026/11/24"), " - Today's date: ⟨date⟩");
    assert_eq!(date("Today's date: 12026-11-24"), "Today's date: 12026-11-24");
    let day = |day: &str| of(&request(&format!("Today's date: 2026-11-{day}"), "\"a\""), &[Rule::MaskDate], &[]);
    assert_eq!(day("24").expect("a key").id(), day("25").expect("a key").id());
    assert_eq!(day("⟨date⟩").expect_err("a placeholder").reason(), "rule:mask-date@1");
}

#[test]
fn environment_lines_are_masked() {
    assert_eq!(
        env("Platform: linux\n - OS Version: 6.1\nShell: bash\nlinux"),
        "Platform: ⟨platform⟩\n - OS Version: ⟨os⟩\nShell: ⟨shell⟩\nlinux"
    );
}

#[test]
fn the_git_block_ends_where_lines_are_not_of_git() {
    let text = "Before\ngitStatus: snapshot\nCurrent branch: main\n\nStatus:\n M a.rs\n?? b\n\nRecent commits:\n05fef3c A subject\nNow do this.\n M kept";
    assert_eq!(git(text), "Before\n⟨git⟩\nNow do this.\n M kept");
}

#[test]
fn paths_are_masked_in_system_messages_and_results() {
    let at = |home: &str| {
        let content = format!(
            r#"[{{"type":"text","text":"see {home}/p/a.rs"}},{{"type":"tool_use","id":"a","name":"R","input":{{"path":"{home}/p/a.rs"}}}},{{"type":"tool_result","tool_use_id":"a","content":"{home}/q"}}]"#
        );
        of(
            &request(&format!("cwd: {home}/p"), &content),
            &[Rule::MaskPaths],
            &[("cwd", &format!("{home}/p")), ("home", home)],
        )
    };
    assert_eq!(at("/home/ann").expect("a key").id(), at("/home/bob").expect("a key").id());
    let taken = of(&request("⟨cwd⟩", "\"a\""), &[Rule::MaskPaths], &[("cwd", "/home/ann")]);
    assert_eq!(taken.expect_err("a placeholder").reason(), "rule:mask-paths@1");
}

#[test]
fn a_path_is_masked_as_a_whole_the_longest_first() {
    let masks =
        Masks::new([("home".into(), "/home/ann".into()), ("cwd".into(), "/home/ann/p/".into())]).expect("masks");
    let text = "/home/ann/p/x /home/ann/px /home/anna \"/home/ann\" x/home/ann /home/ann.bak";
    assert_eq!(masks.mask(text).as_deref(), Some("⟨cwd⟩/x ⟨home⟩/px /home/anna \"⟨home⟩\" x/home/ann /home/ann.bak"));
    assert_eq!(Masks::new([("a".into(), "/src".into())]), Err(RuleError::Short("/src".into())));
    assert_eq!(
        Masks::new([("a".into(), "/home/ann".into()), ("b".into(), "/home/ann".into())]),
        Err(RuleError::Ambiguous("b".into()))
    );
    assert_eq!(Masks::new([("A b".into(), "/home/ann".into())]), Err(RuleError::Name("A b".into())));
}

#[test]
fn text_is_normalised_where_people_wrote_it_and_never_in_results() {
    let rules = &[Rule::NormaliseText];
    let said = |text: &str| of(&request("s", &format!("\"{text}\"")), rules, &[]).expect("a key").id();
    assert_eq!(said("e\\u0301 \\r\\nb"), said("é\\nb"));
    let result = |text: &str| {
        of(&request("s", &format!(r#"[{{"type":"tool_result","tool_use_id":"a","content":"{text}"}}]"#)), rules, &[])
            .expect("a key")
            .id()
    };
    assert_ne!(result("a\\r\\n"), result("a\\n"));
}

#[test]
fn signatures_defaults_and_deferred_tools_are_dropped_when_asked() {
    let thought =
        |signature: &str| request("s", &format!(r#"[{{"type":"thinking","thinking":"t","signature":"{signature}"}}]"#));
    let id = |request: &str, rule: Rule| of(request, &[rule], &[]).expect("a key").id();
    assert_eq!(id(&thought("A"), Rule::DropSignatures), id(&thought("B"), Rule::DropSignatures));
    assert_ne!(id(&thought("A"), Rule::MaskDate), id(&thought("B"), Rule::MaskDate));
    let temperature = request("s", "\"a\"").replacen('{', "{\"temperature\":1.0,", 1);
    assert_eq!(id(&temperature, Rule::ExplicitDefaults), id(&request("s", "\"a\""), Rule::ExplicitDefaults));
    let tools =
        |content: &str| request("s", content).replacen('{', r#"{"tools":[{"name":"T","defer_loading":true}],"#, 1);
    assert_eq!(id(&tools("\"a\""), Rule::DropDeferredTools), id(&request("s", "\"a\""), Rule::DropDeferredTools));
    let named = r#"[{"type":"tool_result","tool_use_id":"a","content":[{"type":"tool_reference","tool_name":"T"}]}]"#;
    assert_ne!(id(&tools(named), Rule::DropDeferredTools), id(&request("s", named), Rule::DropDeferredTools));
}

proptest! {
    #[test]
    fn unmask_undoes_mask_on_every_output(text in "(/home/ann|/home/ann/p|/work/x|[ a-z/\"⟨⟩.:\\n]|⟨cwd⟩){0,30}") {
        let masks = Masks::new([("home".into(), "/home/ann".into()), ("cwd".into(), "/home/ann/p".into())]).expect("masks");
        match masks.mask(&text) {
            Some(masked) => prop_assert_eq!(masks.unmask(&masked), Some(text)),
            None => prop_assert!(text.contains("⟨cwd⟩") || text.contains("⟨home⟩")),
        }
    }

    #[test]
    fn what_another_machine_gets_masks_to_what_was_recorded(text in "(/home/ann|/home/ann/p|[ a-z/\".:\\n]){0,30}") {
        let at = |home: &str| Masks::new([("home".into(), home.to_owned()), ("cwd".into(), format!("{home}/p"))]).expect("masks");
        let masked = at("/home/ann").mask(&text).expect("no placeholder");
        if let Some(theirs) = at("/Users/bob").unmask(&masked) {
            prop_assert_eq!(at("/Users/bob").mask(&theirs), Some(masked));
        }
    }
}

#[test]
fn a_response_is_masked_whole_or_not_at_all() {
    let masks = |home: &str| Masks::new([("home".to_owned(), home.to_owned())]).expect("masks");
    let (ann, bob) = (masks("/home/ann"), masks("/home/robert"));
    let parse = |text: &str| crate::json::parse(text.as_bytes()).expect("JSON");
    let said =
        parse(r#"{"content":[{"text":"see /home/ann/p\nand /home/ann"},{"input":"{\"path\":\"/home/ann/p\"}"}]}"#);
    let masked = ann.mask_all(&said).expect("masked");
    assert_eq!(ann.names_in(&masked), ["home"]);
    assert_eq!(ann.unmask_all(&masked), Some(said));
    let theirs = bob.unmask_all(&masked).expect("restored");
    assert_eq!(
        theirs.get("content").and_then(Json::as_array).map(|all| all[0].clone()),
        Some(parse(r#"{"text":"see /home/robert/p\nand /home/robert"}"#))
    );
    for text in [r#"{"a":"file:///home/ann/p"}"#, r#"{"/home/ann":1}"#, r#"{"a":"⟨home⟩"}"#] {
        assert_eq!(ann.mask_all(&parse(text)), None, "{text}");
    }
    // What says the caller's path already would not be told from what was put back.
    assert_eq!(bob.unmask_all(&parse(r#"{"a":"⟨home⟩ /home/robert"}"#)), None);
}
