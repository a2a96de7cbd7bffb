//! Blobs and action results of repeatable bytes that no other call of the run has used.

use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use reapi::proto::re;

/// Bytes and the digest that names them.
#[derive(Clone)]
pub struct Blob {
    pub digest: re::Digest,
    pub data: Bytes,
}

/// Makes data from a running number, so that nothing comes twice.
pub struct Source(u64);

impl Source {
    pub fn new(seed: u64) -> Self {
        Self(seed << 40)
    }

    /// A blob that no compressor makes smaller.
    pub fn blob(&mut self, size_bytes: usize) -> Blob {
        self.0 += 1;
        let mut state = self.0;
        let mut data = Vec::with_capacity(size_bytes + 8);
        while data.len() < size_bytes {
            data.extend_from_slice(&split_mix(&mut state).to_le_bytes());
        }
        data.truncate(size_bytes);
        Blob { digest: digest(&data), data: data.into() }
    }

    pub fn blobs(&mut self, count: usize, size_bytes: usize) -> Vec<Blob> {
        (0..count).map(|_| self.blob(size_bytes)).collect()
    }

    /// A digest that names nothing.
    pub fn absent(&mut self) -> re::Digest {
        self.0 += 1;
        digest(format!("absent {}", self.0).as_bytes())
    }

    /// The digest of an action, and a result with these blobs as its outputs.
    pub fn action(&mut self, outputs: &[Blob]) -> (re::Digest, re::ActionResult) {
        let action = self.absent();
        let output_files = outputs
            .iter()
            .enumerate()
            .map(|(index, blob)| re::OutputFile {
                path: format!("bazel-out/k8-fastbuild/bin/package/{}/output-{index}.o", action.size_bytes),
                digest: Some(blob.digest.clone()),
                ..Default::default()
            })
            .collect();
        let execution_metadata = Some(re::ExecutedActionMetadata { worker: "bench".to_owned(), ..Default::default() });
        (action, re::ActionResult { output_files, execution_metadata, ..Default::default() })
    }
}

fn digest(data: &[u8]) -> re::Digest {
    let digest = Digest::of(DigestFunction::Sha256, data);
    re::Digest { hash: digest.hash().to_string(), size_bytes: digest.size_i64() }
}

fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}
