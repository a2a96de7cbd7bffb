use proptest::prelude::*;

use super::*;
use crate::{Fault, Uncacheable};

fn fault(text: &str) -> Fault {
    match parse(text.as_bytes()) {
        Err(Uncacheable::Json { fault, .. }) => fault,
        other => panic!("{text}: {other:?}"),
    }
}

fn canonical(text: &str) -> String {
    String::from_utf8(parse(text.as_bytes()).expect(text).canonical()).expect("UTF-8")
}

#[test]
fn duplicate_members_are_refused_however_they_are_spelled() {
    assert_eq!(fault(r#"{"a":1,"a":1}"#), Fault::DuplicateMember("a".into()));
    assert_eq!(fault(r#"{"x":[{"a":1,"b":2,"\u0061":3}]}"#), Fault::DuplicateMember("a".into()));
    assert_eq!(canonical(r#"{"a":{"a":1},"b":{"a":1}}"#), r#"{"a":{"a":1},"b":{"a":1}}"#);
}

#[test]
fn integers_pass_up_to_two_to_the_53_less_one() {
    assert_eq!(canonical("[9007199254740991,-9007199254740991]"), "[9007199254740991,-9007199254740991]");
    for text in [
        "9007199254740992",
        "9007199254740993",
        "-9007199254740992",
        "18446744073709551616",
        "1e20",
        "9.007199254740992e15",
        &"9".repeat(400),
    ] {
        assert!(matches!(fault(text), Fault::Integer(_)), "{text}");
    }
}

#[test]
fn numbers_of_one_value_have_one_form() {
    for one in ["1", "1.0", "1e0", "10e-1", "0.1E+1", "1.000"] {
        assert_eq!(canonical(one), "1", "{one}");
    }
    for zero in ["0", "-0", "0.0", "-0.0e5", "0e99999999999999999999"] {
        assert_eq!(canonical(zero), "0", "{zero}");
    }
    assert_eq!(canonical("[0.7,0.70,7e-1,0.69999999999999996]"), "[0.7,0.7,0.7,0.7]");
    assert_eq!(canonical("[1E21,1e-7,1.7976931348623157e308,5e-324]"), "[1e+21,1e-7,1.7976931348623157e+308,5e-324]");
}

#[test]
fn numbers_that_a_double_would_merge_are_refused() {
    let texts = ["1e400", "-1e400", "1e-400", "0.1000000000000000055511151231257827", "1e99999999999999999999"];
    for text in texts {
        assert!(matches!(fault(text), Fault::Number(_)), "{text}");
    }
    for text in ["NaN", "Infinity", "-Infinity", r#"{"a":NaN}"#] {
        assert!(matches!(fault(text), Fault::NotANumber(_)), "{text}");
    }
}

#[test]
fn halves_of_surrogate_pairs_are_refused() {
    for text in [r#""\ud800""#, r#""\udc00""#, r#""\ud800x""#, r#""\ud800\n""#, r#""\ud800\ud800""#, r#"{"\udfff":1}"#]
    {
        assert_eq!(fault(text), Fault::LoneSurrogate, "{text}");
    }
    assert_eq!(canonical(r#""\ud83d\ude00""#), "\"😀\"");
    // The same, encoded as bytes, is no UTF-8.
    assert!(matches!(parse(b"\"\xed\xa0\x80\""), Err(Uncacheable::Json { fault: Fault::Utf8, at: 1 })));
}

#[test]
fn what_is_no_json_is_refused() {
    let texts = [
        "",
        " ",
        "{",
        "[",
        "[1,]",
        "{,}",
        r#"{"a":1,}"#,
        r#"{"a"}"#,
        "{a:1}",
        "01",
        "1.",
        ".5",
        "+1",
        "1e",
        "--1",
        "'a'",
        "tru",
        "nul",
        "1 2",
        "{}{}",
        "\"\n\"",
        "\"\t\"",
        r#""\x""#,
        r#""\u12""#,
        r#""\u+123""#,
        r#""\"#,
        "\"",
        "\u{feff}{}",
        "[1 2]",
        "// c\n1",
        "\"\\é\"",
    ];
    for text in texts {
        assert!(matches!(fault(text), Fault::Syntax(_)), "{text}");
    }
    assert!(matches!(fault(&"[".repeat(100_000)), Fault::TooDeep(_)));
    assert!(parse(format!("{}{}", "[".repeat(MAX_DEPTH), "]".repeat(MAX_DEPTH)).as_bytes()).is_ok());
}

#[test]
fn the_example_of_rfc_8785_has_its_form() {
    let text = r#"{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\u20ac$\u000F\u000aA'\u0042\u0022\u005c\\\"\/","literals":[null,true,false]}"#;
    let form = "{\"literals\":[null,true,false],\"numbers\":[333333333.3333333,1e+30,4.5,0.002,1e-27],\"string\":\"€$\\u000f\\nA'B\\\"\\\\\\\\\\\"/\"}";
    assert_eq!(canonical(text), form);
    let order = r#"{"\u20ac":1,"\r":2,"\ufb33":3,"1":4,"\ud83d\ude00":5,"\u0080":6,"\u00f6":7}"#;
    assert_eq!(canonical(order), "{\"\\r\":2,\"1\":4,\"\u{80}\":6,\"ö\":7,\"€\":1,\"😀\":5,\"\u{fb33}\":3}");
}

/// Any value that the parser can give.
pub(crate) fn any_json() -> impl Strategy<Value = Json> {
    let number = prop_oneof![
        any::<i32>().prop_map(f64::from),
        any::<i32>().prop_map(|eighths| f64::from(eighths) / 8.0),
        Just(0.1),
        Just(1e21)
    ];
    let leaf = prop_oneof![
        Just(Json::Null),
        any::<bool>().prop_map(Json::Bool),
        number.prop_map(|number| Json::Number(if number == 0.0 { 0.0 } else { number })),
        any::<String>().prop_map(Json::String),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Json::Array),
            proptest::collection::btree_map(any::<String>(), inner, 0..4).prop_map(Json::Object),
        ]
    })
}

proptest! {
    #[test]
    fn every_double_is_read_back(number in any::<f64>().prop_filter("finite", |number| number.is_finite())) {
        let bytes = Json::Number(number).canonical();
        match parse(&bytes) {
            Ok(read) => prop_assert_eq!(read, Json::Number(number)),
            Err(_) => prop_assert!(number.abs() > 9_007_199_254_740_991.0 && number.abs() < 1e21),
        }
    }

    #[test]
    fn the_canonical_form_is_read_back_and_is_its_own(value in any_json()) {
        let bytes = value.canonical();
        let read = parse(&bytes).expect("canonical JSON is strict JSON");
        prop_assert_eq!(&read, &value);
        prop_assert_eq!(read.canonical(), bytes);
    }

    #[test]
    fn it_agrees_with_serde_json_on_what_is_json(value in any_json()) {
        let bytes = value.canonical();
        let theirs: serde_json::Value = serde_json::from_slice(&bytes).expect("JSON");
        let ours = parse(serde_json::to_string_pretty(&theirs).expect("JSON").as_bytes()).expect("JSON");
        prop_assert_eq!(ours.canonical(), bytes);
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if parse(&bytes).is_ok() {
            prop_assert!(serde_json::from_slice::<serde_json::Value>(&bytes).is_ok());
        }
    }

    #[test]
    fn any_text_of_json_signs_is_read_or_refused(text in "[\\[\\]{}\",:0-9eE.+\\-a-f\\\\u ntrlsNI]{0,40}") {
        if parse(text.as_bytes()).is_ok() {
            prop_assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{}", text);
        }
    }
}
