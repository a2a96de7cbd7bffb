use std::fs::File;
use std::io;

use bytes::Bytes;
use parking_lot::Mutex;
use rustix::buffer::spare_capacity;
use zstd::bulk::{Compressor, Decompressor};

/// The raw bytes of one frame of a file; a pack record is one frame of up to this.
pub(crate) const FRAME_BYTES: usize = 1024 * 1024;

/// Contexts kept for reuse; each holds about a megabyte.
const MAX_KEPT: usize = 4;

/// Below this, zstd cannot save enough to matter.
const MIN_COMPRESSED_BYTES: usize = 128;

/// A sample of so many bytes, in pieces from all over the blob, tells noise from what can be compressed.
const SAMPLE_BYTES: usize = SAMPLE_PIECES * PIECE_BYTES;
const SAMPLE_PIECES: usize = 16;
const PIECE_BYTES: usize = 64;
/// Below this, the squares of the counts of a sample's bytes are those of noise.
const MAX_NOISE: u32 = 6000;

/// A piece of a blob as it is stored: as it is, or as one zstd frame where that saves more than a tenth.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub stored: Bytes,
    pub zstd: bool,
    /// crc32c of the stored bytes.
    pub crc: u32,
}

impl Frame {
    /// Reads the stored bytes of a frame; nothing is checked here.
    pub(crate) fn read(file: &File, offset: u64, stored_len: u32, (zstd, crc): (bool, u32)) -> io::Result<Self> {
        let len = stored_len as usize;
        // Not zeroed before: for a megabyte that is dear.
        let mut stored = Vec::with_capacity(len);
        while stored.len() < len {
            let at = offset + stored.len() as u64;
            match rustix::io::pread(file, spare_capacity(&mut stored), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        // The buffer may have more room than was asked for.
        stored.truncate(len);
        Ok(Self { stored: stored.into(), zstd, crc })
    }
}

/// Whether all byte values are about as frequent as in random data, by a sample. What is compressed already is like that,
/// and hardly anything that zstd could pack.
fn is_noise(raw: &[u8]) -> bool {
    if raw.len() < SAMPLE_BYTES {
        return false;
    }
    let mut counts = [0u32; 256];
    for start in (0..SAMPLE_PIECES).map(|at| (raw.len() - PIECE_BYTES) / (SAMPLE_PIECES - 1) * at) {
        raw[start..start + PIECE_BYTES].iter().for_each(|byte| counts[usize::from(*byte)] += 1);
    }
    // The squares add up to least where all are as frequent, and to 5,116 on average where they are random.
    counts.iter().map(|count| count * count).sum::<u32>() < MAX_NOISE
}

/// Encodes and decodes frames, and keeps a few zstd contexts for it.
#[derive(Default)]
pub(crate) struct Codec {
    compressors: Mutex<Vec<Compressor<'static>>>,
    decompressors: Mutex<Vec<Decompressor<'static>>>,
}

impl Codec {
    pub(crate) fn encode(&self, raw: Bytes) -> Frame {
        let packed = self.compress(&raw).filter(|packed| packed.len() < raw.len() - raw.len() / 10);
        let zstd = packed.is_some();
        let stored = packed.map_or(raw, Bytes::from);
        Frame { crc: crc32c::crc32c(&stored), stored, zstd }
    }

    /// `None` when zstd has nothing to give: the blob is then stored as it is.
    fn compress(&self, raw: &[u8]) -> Option<Vec<u8>> {
        if raw.len() < MIN_COMPRESSED_BYTES || is_noise(raw) {
            return None;
        }
        let kept = self.compressors.lock().pop();
        let mut compressor = kept.or_else(|| Compressor::new(1).ok())?;
        let packed = compressor.compress(raw).ok();
        let mut kept = self.compressors.lock();
        if kept.len() < MAX_KEPT {
            kept.push(compressor);
        }
        packed
    }

    /// The raw bytes; `None` when the checksum, the encoding or the length is wrong.
    pub(crate) fn decode(&self, frame: Frame, raw_len: usize) -> Option<Bytes> {
        if crc32c::crc32c(&frame.stored) != frame.crc {
            return None;
        }
        if !frame.zstd {
            return (frame.stored.len() == raw_len).then_some(frame.stored);
        }
        let kept = self.decompressors.lock().pop();
        let mut decompressor = kept.or_else(|| Decompressor::new().ok())?;
        let raw = decompressor.decompress(&frame.stored, raw_len).ok().filter(|raw| raw.len() == raw_len);
        let mut kept = self.decompressors.lock();
        if kept.len() < MAX_KEPT {
            kept.push(decompressor);
        }
        raw.map(Bytes::from)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn frames_read_back_and_a_changed_byte_is_seen(
            seed in proptest::collection::vec(any::<u8>(), 1..40), repeat in 1usize..200, at in any::<prop::sample::Index>(),
        ) {
            let raw = Bytes::from(seed.repeat(repeat));
            let codec = Codec::default();
            let frame = codec.encode(raw.clone());
            prop_assert_eq!(codec.decode(frame.clone(), raw.len()), Some(raw.clone()));
            prop_assert_eq!(codec.decode(frame.clone(), raw.len() + 1), None);
            let mut stored = frame.stored.to_vec();
            let at = at.index(stored.len());
            stored[at] ^= 1;
            prop_assert_eq!(codec.decode(Frame { stored: stored.into(), ..frame }, raw.len()), None);
        }

        #[test]
        fn what_zstd_can_pack_is_no_noise(
            words in proptest::collection::vec(any::<u32>(), 4000), used in 1u32..160, len in 2000usize..16_000,
        ) {
            let noise: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect();
            prop_assert!(is_noise(&noise));
            let packs: Vec<u8> = noise.iter().map(|byte| (u32::from(*byte) * used / 256) as u8).collect();
            prop_assert!(!is_noise(&packs));
            let raw = Bytes::from(packs);
            prop_assert!(used > 64 || Codec::default().encode(raw).zstd);
        }

        #[test]
        fn any_bytes_with_a_right_checksum_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), len in 0usize..5000) {
            let stored = Bytes::from(bytes);
            let frame = Frame { crc: crc32c::crc32c(&stored), stored, zstd: true };
            if let Some(raw) = Codec::default().decode(frame, len) {
                prop_assert_eq!(raw.len(), len);
            }
        }
    }
}
