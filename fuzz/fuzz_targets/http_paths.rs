//! Paths of URLs, WebDAV's among them: refused, or a key without steps out of its place.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|path: &str| {
    if let Some((_route, key)) = reapi::http::probe::path(path) {
        assert!(key.split('/').all(|segment| segment != ".." && segment != "."), "{key}");
        assert!(!key.chars().any(char::is_control) && !key.contains('\\'), "{key}");
        assert!(key.len() <= 4096);
    }
});
