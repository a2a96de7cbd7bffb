//! htpasswd files: any text is read or refused, and no user of one is let in by an empty password.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::identity::Htpasswd;

fuzz_target!(|text: &str| {
    if let Ok(users) = Htpasswd::parse(text) {
        assert!(users.users().all(|user| !user.is_empty() && !user.contains(':')));
        assert!(!users.verify("", "") && !users.has(""));
    }
});
