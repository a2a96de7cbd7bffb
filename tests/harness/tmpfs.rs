use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small file system of its own, gone when dropped. Needs root.
pub struct Tmpfs(pub PathBuf);

impl Tmpfs {
    /// Mounts one of this size.
    pub fn mount(at: &Path, size: &str) -> Self {
        std::fs::create_dir(at).expect("a folder in a temporary folder");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status();
        assert!(mounted.expect("mount").success(), "this test mounts a small tmpfs and has to run as root");
        Self(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: it goes once the server that is being killed has let go of it.
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// Writes a file until the disk has no byte left.
pub fn fill_up(file: &Path) {
    let mut file = std::fs::File::create(file).expect("an empty file");
    loop {
        match file.write_all(&[1; 4096]) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}
