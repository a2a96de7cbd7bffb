//! What a folder says of the places that a result depends on.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use anyhow::Context;
use cache_types::{Digest, DigestFunction, Hasher};
use prompt_cache::{ABSENT, Glob, listing_digest};

/// The state of each place below a folder: a digest, or that nothing is there. A place that is no file, or that lies
/// behind a symbolic link, is left out.
pub fn of(folder: &Path, places: &[String], function: DigestFunction) -> anyhow::Result<BTreeMap<String, String>> {
    let mut states = BTreeMap::new();
    for place in places {
        let state = state(folder, place, function).with_context(|| format!("cannot read {place}"))?;
        if let Some(state) = state {
            states.insert(place.clone(), state);
        }
    }
    Ok(states)
}

fn state(folder: &Path, place: &str, function: DigestFunction) -> io::Result<Option<String>> {
    if let Some(glob) = Glob::of_place(place) {
        let glob = glob.map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        return Ok(Some(Glob::digest(matched(folder, &glob)?).to_string()));
    }
    let path = folder.join(place.trim_end_matches('/'));
    if passes_link(folder, place)? {
        return Ok(None);
    }
    let kind = match fs::symlink_metadata(&path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok((!place.ends_with('/')).then(|| ABSENT.to_owned()));
        }
        Err(error) => return Err(error),
    };
    match (place.ends_with('/'), kind.is_dir(), kind.is_file()) {
        (true, true, _) => Ok(Some(listing_digest(names(&path)?).to_string())),
        (false, _, true) => Ok(Some(digest(&path, function)?.to_string())),
        _ => Ok(None),
    }
}

/// The paths of files and links that a pattern matches.
fn matched(folder: &Path, glob: &Glob) -> io::Result<BTreeSet<String>> {
    let mut paths = BTreeSet::new();
    let mut folders = vec![String::new()];
    while let Some(prefix) = folders.pop() {
        for entry in fs::read_dir(folder.join(&prefix))? {
            let entry = entry?;
            let path = format!("{prefix}{}", entry.file_name().to_string_lossy());
            match entry.file_type()?.is_dir() {
                true if glob.may_match_below(&path) => folders.push(format!("{path}/")),
                false if glob.matches(&path) => drop(paths.insert(path)),
                _ => {}
            }
        }
    }
    Ok(paths)
}

/// Whether a folder on the way to the place is a symbolic link.
fn passes_link(folder: &Path, place: &str) -> io::Result<bool> {
    let mut path = folder.to_owned();
    let segments: Vec<&str> = place.trim_end_matches('/').split('/').collect();
    for segment in segments.iter().take(segments.len().saturating_sub(1)) {
        path.push(segment);
        match fs::symlink_metadata(&path) {
            Ok(metadata) if metadata.file_type().is_symlink() => return Ok(true),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => break,
            Err(error) => return Err(error),
        }
    }
    Ok(false)
}

fn names(folder: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let mark = if entry.file_type()?.is_dir() { "/" } else { "" };
        names.push(format!("{}{mark}", entry.file_name().to_string_lossy()));
    }
    Ok(names)
}

/// The digest of a file.
pub fn digest(path: &Path, function: DigestFunction) -> io::Result<Digest> {
    digest_of(fs::File::open(path)?, function)
}

/// The digest of an open file.
pub fn digest_of(mut file: fs::File, function: DigestFunction) -> io::Result<Digest> {
    let size_bytes = file.metadata()?.len();
    let mut hasher = Hasher::new(function, size_bytes);
    let mut piece = vec![0; 256 * 1024];
    let mut total = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            break;
        }
        total += read as u64;
        hasher.update(piece.get(..read).unwrap_or_default());
    }
    if total != size_bytes {
        return Err(io::Error::other("the file changed while it was read"));
    }
    Digest::new(hasher.finish(), size_bytes).map_err(io::Error::other)
}
