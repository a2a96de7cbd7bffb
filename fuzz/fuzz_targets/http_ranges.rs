//! Range headers: whatever they say, they ask for a part of the blob or for nothing.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|asked: (&str, u64)| {
    let (header, size_bytes) = asked;
    if let Some(range) = reapi::http::probe::range(header, size_bytes) {
        assert!(range.start <= range.end && range.end <= size_bytes);
    }
});
