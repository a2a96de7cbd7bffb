//! Lists of digests as FindMissingBlobs carries them: what is read without a copy is what the decoder reads.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reapi::digest_list::DigestList;

fuzz_target!(|bytes: &[u8]| {
    if let Some(list) = DigestList::parse(bytes) {
        assert!(list.is_what_the_decoder_reads(bytes));
    }
});
