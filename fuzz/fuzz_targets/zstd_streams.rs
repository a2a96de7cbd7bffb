//! Compressed uploads: any bytes are refused or decode to no more than was allowed, and plain data survives both ways.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reapi::ZstdLimits;
use reapi::zstd_stream::{decode_all, encode_all};

const LIMIT_BYTES: u64 = 64 * 1024;

fuzz_target!(|data: &[u8]| {
    if let Ok(decoded) = decode_all(data.to_vec().into(), LIMIT_BYTES, ZstdLimits::default()) {
        assert!(decoded.len() as u64 <= LIMIT_BYTES);
    }
    let encoded = encode_all(data).expect("memory is compressed without I/O");
    let decoded = decode_all(encoded.into(), data.len() as u64, ZstdLimits::default()).expect("what was just encoded");
    assert_eq!(decoded, data);
});
