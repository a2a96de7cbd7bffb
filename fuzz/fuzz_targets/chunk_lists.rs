//! Chunk lists as a peer gives them: refused, or within the bounds, with sizes that are summed without overflow.
#![no_main]

use libfuzzer_sys::fuzz_target;
use reapi::chunk_list::ChunkList;

fuzz_target!(|encoded: &[u8]| {
    if let Ok(list) = ChunkList::parse(encoded) {
        let sum = list.chunks().iter().map(|chunk| u128::from(chunk.size_bytes())).sum::<u128>();
        assert_eq!(list.adds_up(), sum == u128::from(list.blob().size_bytes()));
    }
});
