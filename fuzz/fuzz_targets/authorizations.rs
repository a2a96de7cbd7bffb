//! Authorization headers: any bytes are read or refused, and what is read is never shown.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::identity::Authorization;

fuzz_target!(|value: &[u8]| {
    if let Some(read) = Authorization::parse(value) {
        assert!(matches!(format!("{read:?}").as_str(), "Bearer" | "Basic"));
    }
});
