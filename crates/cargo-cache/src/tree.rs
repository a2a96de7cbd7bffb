use std::path::{Path, PathBuf};

/// No folder that is looked through has more files.
const MAX_FILES: usize = 100_000;

/// All files below a folder but those that are skipped; `None` when one cannot be read, there are too many, or a link or
/// something else than a file or a folder is among them.
pub(crate) fn files(folder: &Path, skipped: &impl Fn(&Path) -> bool) -> Option<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut left = vec![folder.to_owned()];
    while let Some(folder) = left.pop() {
        for entry in std::fs::read_dir(&folder).ok()? {
            let entry = entry.ok()?;
            let (path, kind) = (entry.path(), entry.file_type().ok()?);
            if skipped(&path) {
                continue;
            }
            if kind.is_dir() {
                left.push(path);
            } else if kind.is_file() && found.len() < MAX_FILES {
                found.push(path);
            } else {
                return None;
            }
        }
    }
    found.sort();
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_in_order_and_a_link_is_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        for file in ["b/c", "a", "skipped/x"] {
            let path = dir.path().join(file);
            std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
            std::fs::write(path, file).expect("a write");
        }
        let skipped = |path: &Path| path.ends_with("skipped");
        let found = files(dir.path(), &skipped).expect("files");
        assert_eq!(found, [dir.path().join("a"), dir.path().join("b/c")]);
        std::os::unix::fs::symlink("a", dir.path().join("link")).expect("a link");
        assert_eq!(files(dir.path(), &skipped), None);
        assert_eq!(files(&dir.path().join("absent"), &skipped), None);
    }
}
