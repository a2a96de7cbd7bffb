//! zstd as the wire has it: one frame or several in a row, skippable frames among them. Spec.

use std::io;

use bytes::Bytes;
use zstd::stream::raw::{DParameter, Decoder, Encoder, InBuffer, Operation, OutBuffer};

use crate::ZstdLimits;

/// The largest piece that one step of a decoder gives, in bytes.
const PIECE_BYTES: usize = 256 * 1024;

/// What may come out whatever went in: a blob of zeros is a blob too.
const FREE_BYTES: u64 = 256 * 1024 * 1024;

/// The level of what this server compresses: the fastest that is worth its time on a local network.
const LEVEL: i32 = 1;

/// Why a compressed stream was refused.
#[derive(Debug, thiserror::Error)]
pub enum ZstdError {
    /// Not zstd, damaged, a window over the limit, or other bytes after the last frame.
    #[error("the zstd stream cannot be decoded: it is damaged, or its window is over {window_bytes} bytes")]
    Malformed {
        /// The largest window.
        window_bytes: u64,
        /// What the library says.
        source: io::Error,
    },
    /// More output for its input than allowed.
    #[error("the zstd stream holds more than {ratio} bytes for each that it has (limits.zstd_ratio)")]
    TooDense {
        /// What was allowed.
        ratio: u64,
    },
    /// More output than allowed.
    #[error("the zstd stream holds more than {limit_bytes} bytes")]
    TooLong {
        /// What was allowed.
        limit_bytes: u64,
    },
    /// The stream ends inside a frame.
    #[error("the zstd stream ends inside a frame")]
    Cut,
    /// The library could not set up a stream.
    #[error("no zstd context")]
    Context(#[source] io::Error),
}

/// Decodes a stream of frames in bounded steps. Never gives more than the limit and one byte.
pub struct Decompressor {
    decoder: Decoder<'static>,
    input: Bytes,
    limits: ZstdLimits,
    limit_bytes: u64,
    consumed: u64,
    produced: u64,
    /// Whether the bytes so far end with a frame, or there were none.
    at_frame_end: bool,
    /// Whether the last step filled its output, so that the decoder may hold more.
    holds_output: bool,
}

impl Decompressor {
    /// A decoder of at most `limit_bytes` of output.
    ///
    /// # Errors
    /// [`ZstdError::Context`] when the library refuses.
    pub fn new(limit_bytes: u64, limits: ZstdLimits) -> Result<Self, ZstdError> {
        let mut decoder = Decoder::new().map_err(ZstdError::Context)?;
        decoder.set_parameter(DParameter::WindowLogMax(limits.window_log)).map_err(ZstdError::Context)?;
        Ok(Self {
            decoder,
            input: Bytes::new(),
            limits,
            limit_bytes,
            consumed: 0,
            produced: 0,
            at_frame_end: true,
            holds_output: false,
        })
    }

    /// Takes the next bytes of the stream; the last ones must have been used up by [`Self::next_piece`].
    pub fn push(&mut self, input: Bytes) {
        self.input = input;
    }

    /// The next decoded bytes, never empty; `None` when the input is used up.
    ///
    /// # Errors
    /// [`ZstdError::Malformed`], [`ZstdError::TooLong`] or [`ZstdError::TooDense`].
    pub fn next_piece(&mut self) -> Result<Option<Bytes>, ZstdError> {
        while !self.input.is_empty() || self.holds_output {
            let piece = self.step()?;
            if self.produced > self.limit_bytes {
                return Err(ZstdError::TooLong { limit_bytes: self.limit_bytes });
            }
            let ratio = self.limits.ratio;
            if ratio != 0 && self.produced > FREE_BYTES && self.produced / ratio > self.consumed {
                return Err(ZstdError::TooDense { ratio });
            }
            if !piece.is_empty() {
                return Ok(Some(piece.into()));
            }
        }
        Ok(None)
    }

    fn step(&mut self) -> Result<Vec<u8>, ZstdError> {
        let left = self.limit_bytes.saturating_sub(self.produced);
        let room = usize::try_from(left).map_or(PIECE_BYTES, |left| left.saturating_add(1).min(PIECE_BYTES));
        let mut piece = vec![0; room];
        let mut input = InBuffer::around(&self.input);
        let mut output = OutBuffer::around(piece.as_mut_slice());
        let window_bytes = 1 << self.limits.window_log;
        let malformed = |source| ZstdError::Malformed { window_bytes, source };
        let hint = self.decoder.run(&mut input, &mut output).map_err(malformed)?;
        let (used, filled) = (input.pos(), output.pos());
        piece.truncate(filled);
        self.input = self.input.slice(used..);
        self.consumed += used as u64;
        self.produced += filled as u64;
        self.at_frame_end = hint == 0;
        self.holds_output = filled == room && !self.at_frame_end;
        Ok(piece)
    }

    /// The decoded bytes so far.
    pub fn produced(&self) -> u64 {
        self.produced
    }

    /// Checks that the stream may end here.
    ///
    /// # Errors
    /// [`ZstdError::Cut`] inside a frame.
    pub fn finish(&self) -> Result<(), ZstdError> {
        if self.at_frame_end { Ok(()) } else { Err(ZstdError::Cut) }
    }
}

/// Decodes a stream that is here already, of at most `limit_bytes` of output.
///
/// # Errors
/// Any [`ZstdError`].
pub fn decode_all(stream: Bytes, limit_bytes: u64, limits: ZstdLimits) -> Result<Bytes, ZstdError> {
    let mut decompressor = Decompressor::new(limit_bytes, limits)?;
    decompressor.push(stream);
    let Some(first) = decompressor.next_piece()? else {
        decompressor.finish()?;
        return Ok(Bytes::new());
    };
    let mut all = Vec::from(first);
    while let Some(piece) = decompressor.next_piece()? {
        all.extend_from_slice(&piece);
    }
    decompressor.finish()?;
    Ok(all.into())
}

/// Compresses a stream into one frame, piece by piece.
pub struct Compressor {
    encoder: Encoder<'static>,
}

impl Compressor {
    /// An encoder of one frame.
    ///
    /// # Errors
    /// The library's own, when it has no memory.
    pub fn new() -> io::Result<Self> {
        Ok(Self { encoder: Encoder::new(LEVEL)? })
    }

    /// Takes the next bytes and gives what is ready of the frame, often nothing.
    ///
    /// # Errors
    /// The library's own.
    pub fn push(&mut self, data: &[u8]) -> io::Result<Bytes> {
        let mut ready = Vec::with_capacity(zstd::zstd_safe::compress_bound(data.len()));
        let mut input = InBuffer::around(data);
        while input.pos() < data.len() {
            ready.reserve(PIECE_BYTES / 4);
            let filled = ready.len();
            let mut output = OutBuffer::around_pos(&mut ready, filled);
            self.encoder.run(&mut input, &mut output)?;
        }
        Ok(ready.into())
    }

    /// The end of the frame.
    ///
    /// # Errors
    /// The library's own.
    pub fn finish(mut self) -> io::Result<Bytes> {
        let mut ready = Vec::new();
        loop {
            ready.reserve(PIECE_BYTES / 2);
            let filled = ready.len();
            let mut output = OutBuffer::around_pos(&mut ready, filled);
            if self.encoder.finish(&mut output, true)? == 0 {
                return Ok(ready.into());
            }
        }
    }
}

/// Compresses bytes that are here already into one frame.
///
/// # Errors
/// The library's own.
pub fn encode_all(data: &[u8]) -> io::Result<Vec<u8>> {
    zstd::bulk::compress(data, LEVEL)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn streamed(data: &[u8], piece_len: usize) -> Vec<u8> {
        let mut compressor = Compressor::new().expect("context");
        let mut stream = Vec::new();
        for piece in data.chunks(piece_len) {
            stream.extend_from_slice(&compressor.push(piece).expect("compresses"));
        }
        stream.extend_from_slice(&compressor.finish().expect("ends"));
        stream
    }

    /// Decodes in pieces of `piece_len`, as messages bring them.
    fn decode(stream: &[u8], piece_len: usize, limit: u64) -> Result<Vec<u8>, ZstdError> {
        let mut decompressor = Decompressor::new(limit, ZstdLimits::default())?;
        let mut all = Vec::new();
        for piece in stream.chunks(piece_len) {
            decompressor.push(Bytes::copy_from_slice(piece));
            while let Some(piece) = decompressor.next_piece()? {
                assert!(piece.len() <= PIECE_BYTES);
                all.extend_from_slice(&piece);
            }
        }
        decompressor.finish()?;
        Ok(all)
    }

    #[test]
    fn a_bomb_gives_one_byte_more_than_declared_and_no_more() {
        let bomb = streamed(&vec![0; 64 << 20], 1 << 20);
        let mut decompressor = Decompressor::new(10, ZstdLimits::default()).expect("context");
        decompressor.push(bomb.into());
        assert!(matches!(decompressor.next_piece(), Err(ZstdError::TooLong { limit_bytes: 10 })));
        assert_eq!(decompressor.produced(), 11);
    }

    #[test]
    fn zeros_are_taken_up_to_the_ratio() {
        let mut compressor = Compressor::new().expect("context");
        let zeros = vec![0; 1 << 20];
        let mut stream = Vec::new();
        (0..300).for_each(|_| stream.extend_from_slice(&compressor.push(&zeros).expect("compresses")));
        stream.extend_from_slice(&compressor.finish().expect("ends"));
        let stream = Bytes::from(stream);
        let with = |ratio| {
            let mut decompressor = Decompressor::new(300 << 20, ZstdLimits { ratio, ..ZstdLimits::default() })?;
            decompressor.push(stream.clone());
            while decompressor.next_piece()?.is_some() {}
            decompressor.finish().map(|()| decompressor.produced())
        };
        assert!(matches!(with(1000), Err(ZstdError::TooDense { ratio: 1000 })));
        for ratio in [0, 1_000_000] {
            assert_eq!(with(ratio).expect("decodes"), 300 << 20);
        }
    }

    #[test]
    fn a_window_over_the_limit_is_refused() {
        let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).expect("context");
        encoder.window_log(24).expect("a legal window");
        encoder.include_contentsize(false).expect("settable");
        std::io::Write::write_all(&mut encoder, &vec![7; 1000]).expect("memory");
        let stream = encoder.finish().expect("memory");
        assert!(matches!(decode(&stream, 100, 1000), Err(ZstdError::Malformed { .. })));
        let wider = ZstdLimits { window_log: 24, ..ZstdLimits::default() };
        assert_eq!(decode_all(stream.into(), 1000, wider).expect("decodes").len(), 1000);
    }

    #[test]
    fn the_empty_blob_is_one_empty_frame() {
        assert_eq!(decode(&streamed(&[], 1), 3, 0).expect("decodes"), b"");
        let published = [0x28, 0xb5, 0x2f, 0xfd, 0x20, 0x00, 0x01, 0x00, 0x00];
        assert_eq!(decode(&published, 1, 0).expect("decodes"), b"");
    }

    proptest! {
        #[test]
        fn round_trip_in_any_pieces(
            seed in proptest::collection::vec(any::<u8>(), 0..2000),
            repeats in 1usize..400,
            into in 1usize..300_000,
            out_of in 1usize..5000,
        ) {
            let data = seed.repeat(repeats);
            let stream = streamed(&data, into);
            prop_assert_eq!(decode(&stream, out_of, data.len() as u64).expect("decodes"), &data[..]);
            let whole = decode_all(stream.clone().into(), data.len() as u64, ZstdLimits::default()).expect("decodes");
            prop_assert_eq!(&whole[..], &data[..]);
            if !data.is_empty() {
                let short = decode(&stream, out_of, data.len() as u64 - 1);
                let too_long = matches!(short, Err(ZstdError::TooLong { .. }));
                prop_assert!(too_long);
            }
        }

        #[test]
        fn frames_in_a_row_and_skippable_ones_are_one_stream(
            parts in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3000), 0..6),
            skipped in proptest::collection::vec(any::<u8>(), 0..50),
            piece_len in 1usize..700,
        ) {
            let mut stream = Vec::new();
            for part in &parts {
                stream.extend_from_slice(&0x184d_2a50u32.to_le_bytes());
                stream.extend_from_slice(&u32::try_from(skipped.len()).expect("short").to_le_bytes());
                stream.extend_from_slice(&skipped);
                stream.extend_from_slice(&encode_all(part).expect("compresses"));
            }
            let data = parts.concat();
            prop_assert_eq!(decode(&stream, piece_len, data.len() as u64).expect("decodes"), &data[..]);
        }

        #[test]
        fn a_cut_stream_and_bytes_after_it_are_refused(
            data in proptest::collection::vec(any::<u8>(), 1..3000),
            at in any::<prop::sample::Index>(),
            rest in proptest::collection::vec(0u8..0x20, 4..40),
        ) {
            let stream = encode_all(&data).expect("compresses");
            let cut = 1 + at.index(stream.len() - 1);
            prop_assert!(decode(&stream[..cut], 100, data.len() as u64).is_err());
            let followed = [&stream[..], &rest[..]].concat();
            prop_assert!(decode(&followed, 100, data.len() as u64).is_err());
        }

        #[test]
        fn any_bytes_are_decoded_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            if let Ok(data) = decode(&bytes, 50, 10_000) {
                prop_assert!(data.len() <= 10_000);
            }
            let framed = [&[0x28, 0xb5, 0x2f, 0xfd], &bytes[..]].concat();
            if let Ok(data) = decode_all(framed.into(), 10_000, ZstdLimits::default()) {
                prop_assert!(data.len() <= 10_000);
            }
        }
    }
}
