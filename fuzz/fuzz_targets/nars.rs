#![no_main]

use libfuzzer_sys::fuzz_target;
use nix_cache::nar::{NarError, NarReader};

fn read(bytes: &[u8], piece_len: usize) -> Result<usize, NarError> {
    let mut reader = NarReader::default();
    let mut events = 0;
    for piece in bytes.chunks(piece_len) {
        reader.push(piece, &mut |_| {
            events += 1;
            Ok::<(), NarError>(())
        })?;
    }
    reader.finish().map(|()| events)
}

fuzz_target!(|bytes: &[u8]| {
    // Read or refused alike, whole and byte by byte.
    assert_eq!(read(bytes, usize::MAX).is_ok(), read(bytes, 1).is_ok());
});
