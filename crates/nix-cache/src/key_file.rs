use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use cache_types::nix::{KeyError, SecretKey, base32_encode};

/// A new key, from the random numbers of the system.
///
/// # Errors
/// The name is none, or the system has no random numbers.
pub fn make_key(name: &str) -> Result<SecretKey, KeyFileError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| KeyFileError::Random(error.to_string()))?;
    SecretKey::from_seed(name, &seed).map_err(KeyFileError::Name)
}

/// Reads a key from a file as `nix-store --generate-binary-cache-key` writes it.
///
/// # Errors
/// [`KeyFileError`] names the file.
pub fn read_key(path: &Path) -> Result<SecretKey, KeyFileError> {
    let text = fs::read_to_string(path).map_err(|source| KeyFileError::Io { path: path.to_owned(), source })?;
    SecretKey::parse(&text).map_err(|source| KeyFileError::Key { path: path.to_owned(), source })
}

/// Writes a key to a new file that its owner alone may read.
///
/// # Errors
/// [`KeyFileError::Io`]; a file that is there is left alone.
pub fn write_key(path: &Path, key: &SecretKey) -> Result<(), KeyFileError> {
    let write = || {
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(key.to_secret_text().as_bytes())?;
        file.sync_all()
    };
    write().map_err(|source| KeyFileError::Io { path: path.to_owned(), source })
}

/// Reads a key, or makes one where there is no file. Its name is `name` and random letters, since clients tell keys apart by
/// name.
///
/// # Errors
/// Any [`KeyFileError`].
pub fn read_or_make_key(path: &Path, name: &str) -> Result<SecretKey, KeyFileError> {
    match read_key(path) {
        Err(KeyFileError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            if let Some(folder) = path.parent() {
                fs::create_dir_all(folder).map_err(|source| KeyFileError::Io { path: folder.to_owned(), source })?;
            }
            let mut letters = [0; 5];
            getrandom::fill(&mut letters).map_err(|error| KeyFileError::Random(error.to_string()))?;
            let key = make_key(&format!("{name}-{}", base32_encode(&letters)))?;
            write_key(path, &key)?;
            Ok(key)
        }
        read => read,
    }
}

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read or written.
    #[error("key file {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file holds no key.
    #[error("key file {} holds no secret key: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: KeyError,
    },
    /// The name is none.
    #[error(transparent)]
    Name(KeyError),
    /// No random numbers.
    #[error("the system gives no random numbers: {0}")]
    Random(String),
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_readable_by_its_owner_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("nix/default.secret");
        let made = read_or_make_key(&path, "cache-1").expect("made");
        let read = read_or_make_key(&path, "another").expect("read");
        assert_eq!(made.public(), read.public());
        assert_eq!(fs::metadata(&path).expect("a file").permissions().mode() & 0o777, 0o600);
        assert!(write_key(&path, &made).is_err(), "a key that is there is not replaced");
        fs::write(&path, "nonsense").expect("written");
        assert!(matches!(read_or_make_key(&path, "cache-1"), Err(KeyFileError::Key { .. })));
    }
}
