#![no_main]

use cache_types::nix::{NarInfo, StoreDir};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let dir = StoreDir::default();
    if let Ok(info) = NarInfo::parse(text, &dir) {
        assert_eq!(NarInfo::parse(&info.print(&dir), &dir), Ok(info));
    }
});
