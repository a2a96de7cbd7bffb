//! Chunk lists: whatever the pieces that bytes arrive in, the chunks are the same, keep to the bounds, and join again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use store::{Chunker, MAX_CHUNK_BYTES};

/// Repeats the seed until chunks are cut in it.
fn stretch(seed: &[u8]) -> Vec<u8> {
    let len = MAX_CHUNK_BYTES + MAX_CHUNK_BYTES / 2;
    seed.iter().enumerate().map(|(i, byte)| byte.wrapping_add((i / 251) as u8)).cycle().take(len).collect()
}

fn lengths(data: &[u8], piece_len: usize) -> Vec<usize> {
    let mut chunker = Chunker::default();
    let mut lengths = Vec::new();
    for piece in data.chunks(piece_len) {
        chunker.push(piece);
        while let Some(chunk) = chunker.next_chunk() {
            lengths.push(chunk.len());
        }
    }
    while let Some(chunk) = chunker.last_chunk() {
        lengths.push(chunk.len());
    }
    lengths
}

fuzz_target!(|input: (u16, &[u8])| {
    let (piece_len, seed) = input;
    if seed.is_empty() {
        return;
    }
    let data = stretch(seed);
    let whole = lengths(&data, data.len());
    assert_eq!(lengths(&data, usize::from(piece_len).max(4096)), whole);
    assert_eq!(whole.iter().sum::<usize>(), data.len());
    assert!(whole.iter().all(|len| *len > 0 && *len <= MAX_CHUNK_BYTES));
});
