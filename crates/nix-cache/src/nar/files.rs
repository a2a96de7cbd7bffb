use std::ffi::OsString;
use std::fs::{self, File, FileType};
use std::io::{self, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::writer;

/// Bytes of a file that are read at once.
const PIECE_BYTES: usize = 256 * 1024;

/// Writes the NAR of a file, folder or link; links are not followed. Blocks.
///
/// # Errors
/// [`PackError`] names the file.
pub fn pack(path: &Path, out: &mut impl Write) -> Result<(), PackError> {
    let mut framing = Vec::new();
    writer::start_nar(&mut framing);
    node(path, &mut framing, out)?;
    flush(path, &mut framing, out)
}

/// Why files could not be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file cannot be read, or the NAR not written.
    #[error("cannot pack {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A file that was written to while it was packed.
    #[error("{} changed while it was packed", .0.display())]
    Changed(PathBuf),
    /// Neither file, folder nor link.
    #[error("{} is neither a file, a folder nor a link", .0.display())]
    Kind(PathBuf),
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PackError {
    move |source| PackError::Io { path: path.to_owned(), source }
}

fn flush(path: &Path, framing: &mut Vec<u8>, out: &mut impl Write) -> Result<(), PackError> {
    out.write_all(framing).map_err(failed(path))?;
    framing.clear();
    Ok(())
}

fn node(path: &Path, framing: &mut Vec<u8>, out: &mut impl Write) -> Result<(), PackError> {
    let metadata = fs::symlink_metadata(path).map_err(failed(path))?;
    let is = |kind: fn(&FileType) -> bool| kind(&metadata.file_type());
    if is(FileType::is_symlink) {
        let target = fs::read_link(path).map_err(failed(path))?;
        writer::symlink(framing, target.as_os_str().as_bytes());
        Ok(())
    } else if is(FileType::is_dir) {
        directory(path, framing, out)
    } else if is(FileType::is_file) {
        // Nix looks at the owner's bit alone.
        let is_executable = metadata.permissions().mode() & 0o100 != 0;
        file(path, is_executable, metadata.len(), framing, out)
    } else {
        Err(PackError::Kind(path.to_owned()))
    }
}

fn directory(path: &Path, framing: &mut Vec<u8>, out: &mut impl Write) -> Result<(), PackError> {
    writer::start_directory(framing);
    let entries = fs::read_dir(path).map_err(failed(path))?;
    let names = entries.map(|entry| entry.map(|entry| entry.file_name().into_vec()));
    let mut names: Vec<Vec<u8>> = names.collect::<io::Result<_>>().map_err(failed(path))?;
    names.sort();
    for name in names {
        writer::start_entry(framing, &name);
        node(&path.join(OsString::from_vec(name)), framing, out)?;
        writer::end_entry(framing);
        if framing.len() >= PIECE_BYTES {
            flush(path, framing, out)?;
        }
    }
    writer::end_directory(framing);
    Ok(())
}

fn file(
    path: &Path,
    is_executable: bool,
    size_bytes: u64,
    framing: &mut Vec<u8>,
    out: &mut impl Write,
) -> Result<(), PackError> {
    writer::start_file(framing, is_executable, size_bytes);
    flush(path, framing, out)?;
    let mut source = File::open(path).map_err(failed(path))?.take(size_bytes.saturating_add(1));
    let mut piece = vec![0; PIECE_BYTES];
    let mut left = size_bytes;
    loop {
        let count = source.read(&mut piece).map_err(failed(path))?;
        if count == 0 {
            break;
        }
        left = left.checked_sub(count as u64).ok_or_else(|| PackError::Changed(path.to_owned()))?;
        out.write_all(piece.get(..count).unwrap_or_default()).map_err(failed(path))?;
    }
    if left != 0 {
        return Err(PackError::Changed(path.to_owned()));
    }
    writer::end_file(framing, size_bytes);
    Ok(())
}
