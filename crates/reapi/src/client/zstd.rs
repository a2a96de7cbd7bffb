use std::io;

use bytes::{Buf, Bytes};
use zstd::stream::raw::{self, DParameter, Operation};

/// The level of uploads: about the speed of the network, most of the gain.
const LEVEL: i32 = 1;
/// A window of at most 128 MiB, so that a stream cannot ask for more memory than that.
const MAX_WINDOW_LOG: u32 = 27;
const PIECE_BYTES: usize = 256 * 1024;

/// One frame of `data`; `None` when the library refuses.
pub(super) fn compress(data: &[u8]) -> Option<Bytes> {
    zstd::bulk::compress(data, LEVEL).ok().map(Bytes::from)
}

/// The plain bytes of one frame or several, at most `limit_bytes` of them.
pub(super) fn decompress(data: &Bytes, limit_bytes: usize) -> io::Result<Bytes> {
    let mut decoder = Decoder::new()?;
    decoder.feed(data.clone());
    let mut plain = Vec::new();
    while let Some(piece) = decoder.next_piece()? {
        if plain.len() + piece.len() > limit_bytes {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "more bytes than the blob has"));
        }
        plain.extend_from_slice(&piece);
    }
    if !decoder.is_between_frames() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(plain.into())
}

/// A stream of zstd frames, decoded piece by piece.
pub(super) struct Decoder {
    raw: raw::Decoder<'static>,
    input: Bytes,
    /// The last piece was full: the decoder may hold more output without more input.
    holds_output: bool,
    in_frame: bool,
}

impl Decoder {
    pub(super) fn new() -> io::Result<Self> {
        let mut raw = raw::Decoder::new()?;
        raw.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(Self { raw, input: Bytes::new(), holds_output: false, in_frame: false })
    }

    /// Gives it the next compressed bytes; all earlier ones have been taken by [`Self::next_piece`].
    pub(super) fn feed(&mut self, input: Bytes) {
        self.input = input;
    }

    /// The next plain bytes, perhaps none yet; `None` when it needs to be fed.
    pub(super) fn next_piece(&mut self) -> io::Result<Option<Bytes>> {
        if self.input.is_empty() && !self.holds_output {
            return Ok(None);
        }
        let mut piece = vec![0; PIECE_BYTES];
        let status = self.raw.run_on_buffers(&self.input, &mut piece)?;
        self.input.advance(status.bytes_read);
        self.in_frame = status.remaining != 0;
        self.holds_output = self.in_frame && status.bytes_written == piece.len();
        piece.truncate(status.bytes_written);
        Ok(Some(piece.into()))
    }

    /// Whether the stream may end here.
    pub(super) fn is_between_frames(&self) -> bool {
        !self.in_frame
    }
}

/// One zstd frame, made piece by piece.
pub(super) struct Encoder(raw::Encoder<'static>);

impl Encoder {
    pub(super) fn new() -> io::Result<Self> {
        raw::Encoder::new(LEVEL).map(Self)
    }

    /// Takes plain bytes and gives what is ready of the frame, perhaps nothing yet.
    pub(super) fn push(&mut self, mut data: &[u8]) -> io::Result<Bytes> {
        let mut ready = Vec::new();
        let mut piece = vec![0; PIECE_BYTES.min(data.len() + 1024)];
        while !data.is_empty() {
            let status = self.0.run_on_buffers(data, &mut piece)?;
            ready.extend_from_slice(piece.get(..status.bytes_written).unwrap_or_default());
            data = data.get(status.bytes_read..).unwrap_or_default();
        }
        Ok(ready.into())
    }

    /// The rest of the frame.
    pub(super) fn finish(&mut self) -> io::Result<Bytes> {
        let mut ready = Vec::new();
        let mut piece = vec![0; PIECE_BYTES];
        loop {
            let mut out = raw::OutBuffer::around(piece.as_mut_slice());
            let left = self.0.finish(&mut out, true)?;
            ready.extend_from_slice(out.as_slice());
            if left == 0 {
                return Ok(ready.into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_in_a_row_decode_whatever_the_pieces() {
        let data: Vec<u8> = (0..2_000_000u32).flat_map(|i| (i / 7).to_le_bytes()).collect();
        let mut encoder = Encoder::new().expect("encoder");
        let mut frames = Vec::new();
        for piece in data.chunks(100_001) {
            frames.extend_from_slice(&encoder.push(piece).expect("push"));
        }
        frames.extend_from_slice(&encoder.finish().expect("finish"));
        assert!(frames.len() < data.len());
        frames.extend_from_slice(&compress(&data).expect("second frame"));
        for piece_len in [1000, 65_536, frames.len()] {
            let mut decoder = Decoder::new().expect("decoder");
            let mut plain = Vec::new();
            for piece in frames.chunks(piece_len) {
                decoder.feed(Bytes::copy_from_slice(piece));
                while let Some(bytes) = decoder.next_piece().expect("valid") {
                    plain.extend_from_slice(&bytes);
                }
            }
            assert!(decoder.is_between_frames());
            assert_eq!(plain, [data.as_slice(), &data].concat(), "pieces of {piece_len}");
        }
        let cut = Bytes::copy_from_slice(&frames[..frames.len() - 1]);
        assert!(decompress(&cut, usize::MAX).is_err());
        assert!(decompress(&frames.into(), data.len()).is_err());
    }
}
