//! NAR, the archive of one store path: reading it from pieces, and writing it. Spec: nix-binary-cache §5.

mod files;
mod reader;
mod writer;

pub use files::{PackError, pack};
pub use reader::{Event, MAX_DEPTH, NarError, NarReader};
pub use writer::{
    end_directory, end_entry, end_file, padding, start_directory, start_entry, start_file, start_nar, symlink,
};

/// The first string of every NAR.
const MAGIC: &[u8] = b"nix-archive-1";
