//! Action results in JSON: refused, or read and written and read again as the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reapi::action_json::ActionJson;

thread_local! {
    static JSON: ActionJson = ActionJson::default();
}

fuzz_target!(|text: &[u8]| {
    JSON.with(|json| {
        let Ok(read) = json.decode(text) else {
            return;
        };
        let mut expected = read.clone();
        if let Some(metadata) = &mut expected.execution_metadata {
            metadata.auxiliary_metadata.clear();
        }
        if let Ok(written) = json.encode(read) {
            assert_eq!(json.decode(&written).expect("what was just written"), expected);
        }
    });
});
