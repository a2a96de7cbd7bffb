use bytes::{Bytes, BytesMut};
use fastcdc::v2020::{FastCDC, Normalization};

/// The average chunk, as advertised to clients. Spec: R-022, reapi §9.
pub const AVG_CHUNK_BYTES: usize = 512 * 1024;
/// The smallest chunk but for the last of a blob.
pub const MIN_CHUNK_BYTES: usize = AVG_CHUNK_BYTES / 4;
/// The largest chunk; a blob up to this size is one chunk to clients.
pub const MAX_CHUNK_BYTES: usize = AVG_CHUNK_BYTES * 4;

/// Cuts a stream into chunks by FastCDC 2020, normalisation level 2, seed 0. Holds at most one chunk and one piece.
///
/// Spec: reapi §9, "FastCDC 2020, exact".
#[derive(Default)]
pub struct Chunker {
    pending: BytesMut,
}

impl Chunker {
    /// Takes the next bytes of the stream.
    pub fn push(&mut self, piece: &[u8]) {
        self.pending.extend_from_slice(piece);
    }

    /// The next chunk whose end does not depend on bytes yet to come.
    pub fn next_chunk(&mut self) -> Option<Bytes> {
        // A cut looks at no more than the largest chunk, so with that many bytes here the cut is final.
        (self.pending.len() >= MAX_CHUNK_BYTES).then(|| self.cut())
    }

    /// The chunks that are left when the stream has ended, one by one.
    pub fn last_chunk(&mut self) -> Option<Bytes> {
        (!self.pending.is_empty()).then(|| self.cut())
    }

    fn cut(&mut self) -> Bytes {
        let cutter = FastCDC::with_level(
            &self.pending,
            MIN_CHUNK_BYTES,
            AVG_CHUNK_BYTES,
            MAX_CHUNK_BYTES,
            Normalization::Level2,
        );
        let (_fingerprint, end) = cutter.cut(0, self.pending.len());
        self.pending.split_to(end).freeze()
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn cuts_are_those_of_the_specification() {
        let data: Vec<u8> =
            (0..262_144u64).flat_map(|i| DigestFunction::Sha256.hash(&i.to_le_bytes()).as_bytes().to_vec()).collect();
        let expected = [
            560_905, 636_753, 708_026, 322_071, 533_378, 662_298, 556_544, 573_335, 617_449, 660_916, 541_350, 602_020,
            495_627, 588_824, 329_112,
        ];
        for piece_len in [16 * 1024, 1_000_003, data.len()] {
            let mut chunker = Chunker::default();
            let mut chunks = Vec::new();
            for piece in data.chunks(piece_len) {
                chunker.push(piece);
                while let Some(chunk) = chunker.next_chunk() {
                    chunks.push(chunk);
                }
            }
            while let Some(chunk) = chunker.last_chunk() {
                chunks.push(chunk);
            }
            let lengths: Vec<usize> = chunks.iter().map(Bytes::len).collect();
            assert_eq!(lengths, expected, "pieces of {piece_len}");
            assert_eq!(
                DigestFunction::Sha256.hash(&chunks[0]).to_string(),
                "d432704e372ca8edc2db1f38db519f3f0baa97162a106b9ad2bd883f95e47db5"
            );
        }
    }
}
