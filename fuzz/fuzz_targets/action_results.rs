//! Action results as a peer or the disk gives them: accepted or refused, never a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|encoded: &[u8]| {
    // The verdict is free; that there is one is the property.
    let _accepted = reapi::validate::action_result(encoded).is_ok();
});
