//! Token files: any text is refused or reads back as it is written.
#![no_main]

use libfuzzer_sys::fuzz_target;
use server::identity::parse_token_file;

fuzz_target!(|text: &str| {
    if let Ok(lines) = parse_token_file(text) {
        let written: String = lines.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(parse_token_file(&written), Ok(lines));
    }
});
