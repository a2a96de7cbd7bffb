use std::fmt;

/// How a blob's bytes are encoded on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Compressor {
    /// As they are.
    Identity,
    /// One zstd frame or several in a row.
    Zstd,
}

impl Compressor {
    /// The compressor a `compressed-blobs/` segment names; `identity` is not one. Spec: R-061.
    pub fn from_segment(segment: &str) -> Option<Self> {
        (segment == "zstd").then_some(Self::Zstd)
    }
}

impl fmt::Display for Compressor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Identity => "identity",
            Self::Zstd => "zstd",
        })
    }
}
