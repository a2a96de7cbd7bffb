//! Digests: any text is refused or reads back as it is written, and only lower-case hexadecimal of the right length passes.
#![no_main]

use cache_types::Digest;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(digest) = text.parse::<Digest>() {
        assert_eq!(digest.to_string().parse::<Digest>(), Ok(digest));
        assert_eq!(digest.hash().to_string().len(), digest.function().hash_len() * 2);
    }
});
