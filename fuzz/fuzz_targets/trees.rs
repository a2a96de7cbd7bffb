//! Tree messages of output directories: the digests in them are found or the message is refused.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|encoded: &[u8]| {
    if let Ok(digests) = reapi::tree::digests(encoded) {
        // Each digest takes its hexadecimal form in the message.
        let hex: usize = digests.iter().map(|digest| digest.function().hash_len() * 2).sum();
        assert!(hex <= encoded.len());
    }
});
