use sha2::Digest as _;

/// Bytes of a leaf.
const LEAF: usize = 1024;

/// The start state of the block function for inner nodes. Spec: reapi §1, SHA256TREE.
const NODE_START: [u32; 8] =
    [0xcbbb_9d5d, 0x629a_292a, 0x9159_015a, 0x152f_ecd8, 0x6733_2667, 0x8eb4_4a87, 0xdb0c_2e0d, 0x47b5_481d];

/// SHA256TREE over a stream: one open leaf and the left subtrees that wait for their right halves.
///
/// Every subtree on the stack is full, and each is larger than those above it, so the stack holds at most 54 hashes.
#[derive(Default)]
pub(crate) struct TreeHasher {
    leaf: sha2::Sha256,
    leaf_len: usize,
    full_leaves: u64,
    subtrees: Vec<[u8; 32]>,
}

impl TreeHasher {
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        while !data.is_empty() {
            // A leaf is closed only when more bytes follow: the last one may be full and still be the right edge.
            if self.leaf_len == LEAF {
                self.close_leaf();
            }
            let (now, later) = data.split_at(data.len().min(LEAF - self.leaf_len));
            self.leaf.update(now);
            self.leaf_len += now.len();
            data = later;
        }
    }

    fn close_leaf(&mut self) {
        let mut hash: [u8; 32] = std::mem::take(&mut self.leaf).finalize().into();
        self.leaf_len = 0;
        self.full_leaves += 1;
        let mut leaves = self.full_leaves;
        while leaves.is_multiple_of(2) {
            let Some(left) = self.subtrees.pop() else { break };
            hash = node(&left, &hash);
            leaves /= 2;
        }
        self.subtrees.push(hash);
    }

    pub(crate) fn finish(mut self) -> [u8; 32] {
        let mut hash: [u8; 32] = self.leaf.finalize().into();
        while let Some(left) = self.subtrees.pop() {
            hash = node(&left, &hash);
        }
        hash
    }
}

/// The hash of an inner node: one run of the block function, its start state not added back.
fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut block = [0u8; 64];
    block[..32].copy_from_slice(left);
    block[32..].copy_from_slice(right);
    let mut state = NODE_START;
    sha2::block_api::compress256(&mut state, &[block]);
    let mut hash = [0u8; 32];
    for (bytes, (word, start)) in hash.chunks_exact_mut(4).zip(state.into_iter().zip(NODE_START)) {
        bytes.copy_from_slice(&word.wrapping_sub(start).to_be_bytes());
    }
    hash
}

#[cfg(test)]
mod tests {
    use crate::DigestFunction;

    #[test]
    fn sha256tree_gives_the_published_vectors() {
        let vectors = [
            (1025, "36c0998b21839ef74300b9de47d96d1f62323dc81f2b4231e98ce70cd6ffe750"),
            (2048, "b584996386f01793751c5cf0c39561f51b7e9924b818943b3cb2f6928cea0fa9"),
            (2049, "7318d2029b0392edf4cf109edb5a086b4bdadbb7950f710a1483eb881d9e5d44"),
            (4097, "c3ec942c1b8f4580320d3a06bcf4f8fe1f5db2be797ab67061ea4c2a95f208f2"),
            (16384, "a7a10149a8cb00be537000560edb83b196306b780b72fad8af218f369f75fc19"),
            (102_400, "0668d69e5331840d2f1823d717b7b3f5d1fdc8a09504cddb692b87ff83d50e5f"),
        ];
        for (len, hex) in vectors {
            let data: Vec<u8> = (0..=250u8).cycle().take(len).collect();
            assert_eq!(DigestFunction::Sha256Tree.hash(&data).to_string(), hex, "{len} bytes");
        }
    }
}
