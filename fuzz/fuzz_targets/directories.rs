#![no_main]

use cache_types::DigestFunction;
use cache_types::directory::Directory;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(directory) = Directory::decode(bytes, DigestFunction::Sha256) {
        assert_eq!(directory.encode(), bytes);
    }
});
