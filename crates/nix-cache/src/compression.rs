use std::fmt;
use std::io::{self, BufReader, Read, Write};
use std::str::FromStr;

/// The most memory that unpacking xz may take.
const MAX_XZ_BYTES: u64 = 256 * 1024 * 1024;
/// Packed bytes that are read at once.
const PIECE_BYTES: usize = 128 * 1024;
/// How hard zstd tries.
const ZSTD_LEVEL: i32 = 3;
/// How hard xz tries; it is packed while a client waits.
const XZ_LEVEL: u32 = 1;

/// What every file that is packed with gzip begins with, and no NAR.
const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];

/// How a file is packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compression {
    None,
    Zstd,
    Xz,
    Bzip2,
    Gzip,
    Brotli,
}

impl Compression {
    const ALL: [Self; 6] = [Self::None, Self::Zstd, Self::Xz, Self::Bzip2, Self::Gzip, Self::Brotli];

    /// The name in narinfo files.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Xz => "xz",
            Self::Bzip2 => "bzip2",
            Self::Gzip => "gzip",
            Self::Brotli => "br",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.name() == name)
    }

    /// What a file that is named as if it were not packed is packed with, by its first bytes: some versions of Nix give
    /// files that are packed with gzip no suffix.
    pub(crate) fn of_unmarked(first: &[u8]) -> Self {
        if first.starts_with(&GZIP_MAGIC) { Self::Gzip } else { Self::None }
    }

    /// What follows `.nar` in the name of a file. Spec: N-52.
    pub(crate) fn suffix(self) -> &'static str {
        match self {
            Self::None => "",
            Self::Zstd => ".zst",
            Self::Xz => ".xz",
            Self::Bzip2 => ".bz2",
            Self::Gzip => ".gz",
            Self::Brotli => ".br",
        }
    }

    pub(crate) fn from_suffix(suffix: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.suffix() == suffix)
    }

    /// The compression that a `Content-Encoding` names. Spec: N-53.
    pub(crate) fn from_encoding(encoding: &str) -> Option<Self> {
        match encoding {
            "" | "identity" => Some(Self::None),
            "x-gzip" => Some(Self::Gzip),
            name => Self::from_name(name),
        }
    }

    /// Unpacks what `source` gives; `zstd_window_log` is the binary logarithm of the largest window of zstd. After the end of what is packed, `source` may hold more.
    pub(crate) fn unpack<R: Read>(self, source: R, zstd_window_log: u32) -> io::Result<Unpacking<R>> {
        let source = BufReader::with_capacity(PIECE_BYTES, source);
        Ok(match self {
            Self::None => Unpacking::None(source),
            Self::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(source)?;
                decoder.window_log_max(zstd_window_log)?;
                Unpacking::Zstd(Box::new(decoder))
            }
            Self::Xz => {
                let stream = liblzma::stream::Stream::new_stream_decoder(MAX_XZ_BYTES, liblzma::stream::CONCATENATED)?;
                Unpacking::Xz(Box::new(liblzma::bufread::XzDecoder::new_stream(source, stream)))
            }
            Self::Bzip2 => Unpacking::Bzip2(Box::new(bzip2::bufread::MultiBzDecoder::new(source))),
            Self::Gzip => Unpacking::Gzip(Box::new(flate2::bufread::MultiGzDecoder::new(source))),
            Self::Brotli => Unpacking::Brotli(Box::new(brotli_decompressor::Decompressor::new(source, PIECE_BYTES))),
        })
    }

    /// Packs what is written to it; `None` for what cannot be packed here.
    pub(crate) fn pack(self) -> io::Result<Option<Packing>> {
        Ok(Some(match self {
            Self::None => Packing::None(Vec::new()),
            Self::Zstd => Packing::Zstd(zstd::stream::write::Encoder::new(Vec::new(), ZSTD_LEVEL)?),
            Self::Xz => Packing::Xz(liblzma::write::XzEncoder::new(Vec::new(), XZ_LEVEL)),
            Self::Bzip2 => Packing::Bzip2(bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast())),
            Self::Gzip => Packing::Gzip(flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast())),
            Self::Brotli => return Ok(None),
        }))
    }
}

impl fmt::Display for Compression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Compression {
    type Err = &'static str;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::from_name(name).ok_or("no compression of this name")
    }
}

/// A file that is being unpacked.
pub(crate) enum Unpacking<R: Read> {
    None(BufReader<R>),
    Zstd(Box<zstd::stream::read::Decoder<'static, BufReader<R>>>),
    Xz(Box<liblzma::bufread::XzDecoder<BufReader<R>>>),
    Bzip2(Box<bzip2::bufread::MultiBzDecoder<BufReader<R>>>),
    Gzip(Box<flate2::bufread::MultiGzDecoder<BufReader<R>>>),
    Brotli(Box<brotli_decompressor::Decompressor<BufReader<R>>>),
}

impl<R: Read> Unpacking<R> {
    /// What is left of the source once all is unpacked.
    pub(crate) fn rest(self) -> BufReader<R> {
        match self {
            Self::None(source) => source,
            Self::Zstd(decoder) => decoder.finish(),
            Self::Xz(decoder) => decoder.into_inner(),
            Self::Bzip2(decoder) => decoder.into_inner(),
            Self::Gzip(decoder) => decoder.into_inner(),
            Self::Brotli(decoder) => decoder.into_inner(),
        }
    }
}

impl<R: Read> Read for Unpacking<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::None(source) => source.read(out),
            Self::Zstd(decoder) => decoder.read(out),
            Self::Xz(decoder) => decoder.read(out),
            Self::Bzip2(decoder) => decoder.read(out),
            Self::Gzip(decoder) => decoder.read(out),
            Self::Brotli(decoder) => decoder.read(out),
        }
    }
}

/// A file that is being packed.
pub(crate) enum Packing {
    None(Vec<u8>),
    Zstd(zstd::stream::write::Encoder<'static, Vec<u8>>),
    Xz(liblzma::write::XzEncoder<Vec<u8>>),
    Bzip2(bzip2::write::BzEncoder<Vec<u8>>),
    Gzip(flate2::write::GzEncoder<Vec<u8>>),
}

impl Packing {
    /// Takes bytes; what is packed so far.
    pub(crate) fn push(&mut self, bytes: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Self::None(out) => out.extend_from_slice(bytes),
            Self::Zstd(encoder) => encoder.write_all(bytes)?,
            Self::Xz(encoder) => encoder.write_all(bytes)?,
            Self::Bzip2(encoder) => encoder.write_all(bytes)?,
            Self::Gzip(encoder) => encoder.write_all(bytes)?,
        }
        Ok(std::mem::take(match self {
            Self::None(out) => out,
            Self::Zstd(encoder) => encoder.get_mut(),
            Self::Xz(encoder) => encoder.get_mut(),
            Self::Bzip2(encoder) => encoder.get_mut(),
            Self::Gzip(encoder) => encoder.get_mut(),
        }))
    }

    /// The rest of what is packed.
    pub(crate) fn finish(self) -> io::Result<Vec<u8>> {
        match self {
            Self::None(out) => Ok(out),
            Self::Zstd(encoder) => encoder.finish(),
            Self::Xz(encoder) => encoder.finish(),
            Self::Bzip2(encoder) => encoder.finish(),
            Self::Gzip(encoder) => encoder.finish(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_packed_unpacks(
            data in proptest::collection::vec(any::<u8>(), 0..3000), piece_len in 1usize..500, which in 0usize..5,
        ) {
            let compression = Compression::ALL[which];
            let mut packing = compression.pack().expect("memory").expect("one that packs");
            let mut packed = Vec::new();
            for piece in data.chunks(piece_len) {
                packed.extend(packing.push(piece).expect("memory"));
            }
            packed.extend(packing.finish().expect("memory"));
            let mut unpacking = compression.unpack(packed.as_slice(), 23).expect("a reader");
            let mut out = Vec::new();
            unpacking.read_to_end(&mut out).expect("what was packed");
            prop_assert_eq!(out, data);
        }

        #[test]
        fn any_bytes_unpack_or_fail(data in proptest::collection::vec(any::<u8>(), 0..300), which in 0usize..6) {
            let mut out = Vec::new();
            let unpacked = Compression::ALL[which].unpack(data.as_slice(), 23).map(|reader| reader.take(1 << 20).read_to_end(&mut out));
            prop_assert!(matches!(unpacked, Ok(Ok(_) | Err(_)) | Err(_)));
        }
    }
}
