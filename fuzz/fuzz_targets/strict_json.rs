//! Strict JSON: bytes are refused, or their canonical form reads back as the same value.
#![no_main]

use libfuzzer_sys::fuzz_target;
use prompt_key::json;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = json::parse(bytes) {
        let canonical = value.canonical();
        assert_eq!(json::parse(&canonical).as_ref(), Ok(&value));
    }
});
