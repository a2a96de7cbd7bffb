//! Requests of Gemini generateContent: bytes have a reason or a key, and the canonical form of a request has the same one.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prompt_key::{Api, Options, json, key};

fuzz_target!(|bytes: &[u8]| {
    let options = Options { model: Some("m".to_owned()), ..Options::new(Api::Gemini) };
    if let Ok(found) = key(bytes, &options) {
        let canonical = json::parse(bytes).expect("what has a key is JSON").canonical();
        assert_eq!(key(&canonical, &options), Ok(found));
    }
});
