//! A folder that files are written in, and nowhere else: every folder on the way is opened by its name in the one above,
//! never through a symbolic link, so that a link that is put in the way meanwhile leads nowhere.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, bail};
use cache_types::Digest;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RenameFlags, mkdirat, openat, renameat, renameat_with, statat};
use rustix::fs::{fchmod, symlinkat, unlinkat};
use rustix::io::Errno;

use super::state;

/// The folder that a result is applied in.
pub struct Folder(OwnedFd);

/// What becomes of folders that are not there.
#[derive(Clone, Copy, PartialEq)]
enum Missing {
    Make,
    Tell,
}

/// What is at a place.
#[derive(Clone, Debug, PartialEq)]
pub enum Before {
    Absent,
    File(Digest),
}

/// A file or link of a name that nobody knows, removed unless it gets its own.
pub struct Unnamed {
    folder: OwnedFd,
    name: Option<String>,
}

/// A place below a folder.
struct Place<'a> {
    parent: OwnedFd,
    name: &'a str,
}

impl Folder {
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(path, flags, Mode::empty());
        Ok(Self(folder.with_context(|| format!("cannot use {}", path.display()))?))
    }

    /// Refuses a path that could lie elsewhere, or that is a folder now.
    pub fn check(&self, path: &str) -> anyhow::Result<()> {
        let Some(place) = self.place(path, Missing::Tell)? else { return Ok(()) };
        match place.kind()? {
            Some(FileType::Directory) => bail!("there is a folder of that name"),
            _ => Ok(()),
        }
    }

    /// The permissions of a file that is there.
    pub fn mode(&self, path: &str) -> anyhow::Result<Option<u32>> {
        let Some(place) = self.place(path, Missing::Tell)? else { return Ok(None) };
        match statat(&place.parent, place.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile => {
                Ok(Some(stat.st_mode & 0o777))
            }
            Ok(_) | Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// A new file without its name yet, with these permissions and what `write` writes.
    pub fn unnamed_file(&self, mode: u32) -> anyhow::Result<(Unnamed, File)> {
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let (unnamed, file) = self.unnamed(|folder, name| openat(folder, name, flags, Mode::from_raw_mode(0o600)))?;
        // The umask does not apply to what was recorded.
        fchmod(&file, Mode::from_raw_mode(mode & 0o777))?;
        Ok((unnamed, file.into()))
    }

    fn unnamed<T>(&self, make: impl Fn(&OwnedFd, &str) -> Result<T, Errno>) -> anyhow::Result<(Unnamed, T)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let folder = self.0.try_clone().context("cannot keep the folder open")?;
        loop {
            let name = format!(".twofold-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            match make(&folder, &name) {
                Ok(made) => return Ok((Unnamed { folder, name: Some(name) }, made)),
                Err(Errno::EXIST) => {}
                Err(error) => return Err(error).context("cannot write in the folder"),
            }
        }
    }

    /// Gives the file its name, if what is there is still what was there before.
    pub fn name(&self, unnamed: Unnamed, path: &str, before: &Before) -> anyhow::Result<()> {
        let place = self.made(path)?;
        place.check_file(before)?;
        unnamed.rename(&place, before)
    }

    /// Puts a symbolic link there, if what is there is still what was there before.
    pub fn link(&self, target: &str, path: &str, before: &Before) -> anyhow::Result<()> {
        let place = self.made(path)?;
        place.check_file(before)?;
        let (unnamed, ()) = self.unnamed(|folder, name| symlinkat(target, folder, name))?;
        unnamed.rename(&place, before)
    }

    pub fn remove(&self, path: &str, before: &Before) -> anyhow::Result<()> {
        let place = self.there(path)?;
        place.check_file(before)?;
        unlinkat(&place.parent, place.name, AtFlags::empty()).context("cannot remove it")
    }

    pub fn rename(&self, from: &str, to: &str, before: &Before) -> anyhow::Result<()> {
        let (from, to) = (self.there(from)?, self.made(to)?);
        from.check_file(before)?;
        to.check_file(&Before::Absent)?;
        rename_new(&from.parent, from.name, &to)
    }

    pub fn chmod(&self, path: &str, mode: u32, before: &Before) -> anyhow::Result<()> {
        let place = self.there(path)?;
        place.check_file(before)?;
        let file = place.open()?;
        fchmod(&file, Mode::from_raw_mode(mode & 0o777)).context("cannot change its mode")
    }

    fn made<'a>(&self, path: &'a str) -> anyhow::Result<Place<'a>> {
        self.place(path, Missing::Make)?.context("a folder on the way cannot be made")
    }

    fn there<'a>(&self, path: &'a str) -> anyhow::Result<Place<'a>> {
        self.place(path, Missing::Tell)?.context("it is gone")
    }

    /// The place of a path; `None` when a folder on the way is not there and is not to be made.
    fn place<'a>(&self, path: &'a str, missing: Missing) -> anyhow::Result<Option<Place<'a>>> {
        let is_segment = |segment: &str| !matches!(segment, "" | "." | "..") && !segment.contains('\0');
        if !path.split('/').all(is_segment) {
            bail!("it is no relative path without . and ..");
        }
        let (folders, name) = path.rsplit_once('/').map_or((None, path), |(folders, name)| (Some(folders), name));
        let mut parent = self.0.try_clone().context("cannot keep the folder open")?;
        for segment in folders.into_iter().flat_map(|folders| folders.split('/')) {
            if missing == Missing::Make {
                match mkdirat(&parent, segment, Mode::from_raw_mode(0o777)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error).with_context(|| format!("cannot make {segment}")),
                }
            }
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            parent = match openat(&parent, segment, flags, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) if missing == Missing::Tell => return Ok(None),
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    bail!("{segment} is no folder but a file or a symbolic link; nothing is written through it");
                }
                Err(error) => return Err(error).with_context(|| format!("cannot open {segment}")),
            };
        }
        Ok(Some(Place { parent, name }))
    }
}

impl Place<'_> {
    fn kind(&self) -> anyhow::Result<Option<FileType>> {
        match statat(&self.parent, self.name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
            Err(Errno::NOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn open(&self) -> anyhow::Result<File> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let file = openat(&self.parent, self.name, flags, Mode::empty());
        Ok(file.with_context(|| format!("cannot open {}", self.name))?.into())
    }

    fn check_file(&self, before: &Before) -> anyhow::Result<()> {
        match (before, self.kind()?) {
            (Before::Absent, None) => Ok(()),
            (Before::File(digest), Some(FileType::RegularFile)) => {
                let now = state::digest_of(self.open()?, digest.function())?;
                if now != *digest {
                    bail!("it changed since it was looked at");
                }
                Ok(())
            }
            (Before::File(_), None) => bail!("it is gone"),
            (_, Some(_)) => bail!("something else is there now"),
        }
    }
}

impl Unnamed {
    fn rename(mut self, to: &Place<'_>, before: &Before) -> anyhow::Result<()> {
        let name = self.name.as_deref().unwrap_or_default();
        match before {
            Before::Absent => rename_new(&self.folder, name, to)?,
            Before::File(_) => {
                renameat(&self.folder, name, &to.parent, to.name).context("cannot give the file its name")?;
            }
        }
        self.name = None;
        Ok(())
    }
}

impl Drop for Unnamed {
    fn drop(&mut self) {
        if let Some(name) = &self.name {
            // What cannot be removed stays under a name that nothing uses.
            unlinkat(&self.folder, name.as_str(), AtFlags::empty()).ok();
        }
    }
}

/// Renames to a name that nothing has.
fn rename_new(folder: impl AsFd, name: &str, to: &Place<'_>) -> anyhow::Result<()> {
    match renameat_with(&folder, name, &to.parent, to.name, RenameFlags::NOREPLACE) {
        // Some file systems cannot do it in one step; the name was free a moment ago.
        Err(Errno::INVAL | Errno::NOSYS) => renameat(&folder, name, &to.parent, to.name),
        other => other,
    }
    .with_context(|| format!("cannot give the file the name {}", to.name))
}

/// Writes all of a piece.
pub fn write(mut file: &File, piece: &[u8]) -> anyhow::Result<()> {
    Ok(file.write_all(piece)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::sync::atomic::AtomicBool;

    use cache_types::DigestFunction;

    use super::*;

    fn file(folder: &Folder, text: &str) -> Unnamed {
        let (unnamed, file) = folder.unnamed_file(0o640).expect("a file");
        write(&file, text.as_bytes()).expect("written");
        unnamed
    }

    fn was(text: &str) -> Before {
        Before::File(Digest::of(DigestFunction::Sha256, text.as_bytes()))
    }

    #[test]
    fn paths_that_leave_the_folder_are_refused() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path();
        fs::create_dir(root.join("real")).expect("a folder");
        symlink("/tmp", root.join("link")).expect("a link");
        symlink("real", root.join("near")).expect("a link");
        fs::write(root.join("file"), "x").expect("a file");
        let folder = Folder::open(root).expect("a folder");
        for path in ["../x", "/etc/x", "a/../../x", "./x", "a//b", "", "link/x", "near/x", "file/x", "real", "a\0b"] {
            assert!(folder.check(path).is_err(), "{path}");
        }
        for path in ["x", "real/x", "new/deep/x", "link"] {
            assert!(folder.check(path).is_ok(), "{path}");
        }
    }

    #[test]
    fn what_changed_since_it_was_looked_at_stays_as_it_is() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let folder = Folder::open(dir.path()).expect("a folder");
        let read = |name: &str| fs::read_to_string(dir.path().join(name)).expect("a file");
        folder.name(file(&folder, "one"), "a/b", &Before::Absent).expect("a new file");
        assert!(folder.name(file(&folder, "two"), "a/b", &Before::Absent).is_err());
        assert!(folder.name(file(&folder, "two"), "a/b", &was("other")).is_err());
        assert!(folder.remove("a/b", &was("other")).is_err());
        assert!(folder.chmod("a/b", 0o600, &was("other")).is_err());
        assert!(folder.rename("a/b", "c", &was("other")).is_err());
        assert!(folder.link("b", "a/b", &was("other")).is_err());
        assert_eq!((read("a/b"), folder.mode("a/b").expect("asked")), ("one".to_owned(), Some(0o640)));
        folder.name(file(&folder, "two"), "a/b", &was("one")).expect("replaced");
        folder.chmod("a/b", 0o755, &was("two")).expect("changed");
        folder.rename("a/b", "new/c", &was("two")).expect("renamed");
        assert_eq!((read("new/c"), folder.mode("new/c").expect("asked")), ("two".to_owned(), Some(0o755)));
        folder.link("c", "new/c", &was("two")).expect("a link in its place");
        assert_eq!(fs::read_link(dir.path().join("new/c")).expect("a link"), Path::new("c"));
        // A link is no file, whatever it leads to.
        assert!(folder.remove("new/c", &was("two")).is_err());
        let left = fs::read_dir(dir.path()).expect("a folder").count();
        assert_eq!(left, 2, "files that got no name are gone");
    }

    #[test]
    fn a_link_that_is_put_in_the_way_meanwhile_leads_nowhere() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let root = dir.path().join("root");
        let outside = dir.path().join("outside");
        for folder in [&root.join("real"), &outside] {
            fs::create_dir_all(folder).expect("a folder");
        }
        symlink(&outside, root.join("link")).expect("a link");
        let folder = Folder::open(&root).expect("a folder");
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                // `real` is the folder and the link by turns.
                while !is_over.load(Ordering::Relaxed) {
                    renameat_with(&folder.0, "real", &folder.0, "link", RenameFlags::EXCHANGE).expect("exchanged");
                }
            });
            let mut written = 0;
            let mut refused = 0;
            for number in 0..20_000 {
                match folder.name(file(&folder, "x"), &format!("real/{number}"), &Before::Absent) {
                    Ok(()) => written += 1,
                    Err(_) => refused += 1,
                }
                if written > 20 && refused > 20 {
                    break;
                }
            }
            is_over.store(true, Ordering::Relaxed);
        });
        assert_eq!(fs::read_dir(&outside).expect("a folder").count(), 0, "written outside");
    }
}
