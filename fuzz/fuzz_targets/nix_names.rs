#![no_main]

use cache_types::nix::{
    ContentAddress, PublicKey, SecretKey, Signature, StorePath, base32_decode, base32_encode, parse_hash_text,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    if let Ok(bytes) = base32_decode::<32>(text) {
        assert_eq!(base32_encode(&bytes), text);
    }
    if let Ok(path) = StorePath::parse(text) {
        assert_eq!(path.to_string(), text);
    }
    if let Ok(signature) = Signature::parse(text) {
        assert_eq!(signature.to_string(), text);
    }
    if let Ok(key) = PublicKey::parse(text) {
        assert_eq!(key.to_string(), text);
    }
    if let Ok(address) = ContentAddress::parse(text) {
        assert_eq!(address.to_string(), text);
    }
    if let Ok(key) = SecretKey::parse(text) {
        assert_eq!(key.to_secret_text(), text.trim());
    }
    parse_hash_text(text).ok();
});
