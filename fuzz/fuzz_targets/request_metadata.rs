//! What a request says of itself, as it is counted: any metadata is read or ignored, any path has a route.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|sent: &[u8]| {
    if let Some(requester) = reapi::observer::Requester::parse(sent) {
        let instance = cache_types::InstanceName::default();
        let asker = requester.asker(&instance);
        // Base 64 is longer than what it stands for.
        assert!(asker.tool.len() + asker.mnemonic.len() <= sent.len());
    }
    if let Ok(path) = std::str::from_utf8(sent) {
        assert!(!reapi::observer::Route::of_path(path).name().is_empty());
        assert!(!reapi::observer::Rpc::of_path(path).name().is_empty());
    }
});
