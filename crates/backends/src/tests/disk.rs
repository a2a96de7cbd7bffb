use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use super::*;

/// A file system of 48 MiB, made for a test; only root can make one.
struct SmallDisk {
    folder: TempDir,
}

impl SmallDisk {
    /// `None` without the right to mount; in CI that is a failure.
    fn mount() -> Option<Self> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=48m", "tmpfs"]).arg(folder.path());
        if mount.status().is_ok_and(|status| status.success()) {
            return Some(Self { folder });
        }
        assert!(std::env::var_os("CI").is_none(), "this test needs the right to mount a tmpfs");
        None
    }

    fn data(&self) -> PathBuf {
        self.folder.path().join("data")
    }

    /// Somebody else takes what is left.
    fn fill(&self) {
        let taken = std::fs::write(self.hog(), vec![1; 64 << 20]);
        assert!(taken.is_err(), "the file system is larger than it should be");
    }

    fn empty(&self) {
        std::fs::remove_file(self.hog()).expect("removed");
    }

    fn hog(&self) -> PathBuf {
        self.folder.path().join("hog")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily, since a test that fails may have files open still.
        Command::new("umount").arg("-l").arg(self.folder.path()).status().ok();
    }
}

async fn write(store: &Embedded, data: &Bytes) -> Result<(), StoreError> {
    store.write(Digest::of(DigestFunction::Blake3, data), data.clone().into()).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_while_reads_go_on() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Embedded::open(settings(&disk.data(), 1024 * MIB)).expect("opened");
    let kept = put(&store, &noise(1, 100_000)).await;
    assert!(is_here(&store, &kept).await);
    disk.fill();
    let late = noise(2, 100_000);
    for data in [late.clone(), noise(3, 3 << 20), noise(4, 100)] {
        let refused = write(&store, &data).await;
        assert!(matches!(refused, Err(StoreError::Full { .. })), "{refused:?}");
    }
    assert!(matches!(store.put(record_key("full"), late.clone()).await, Err(StoreError::Full { .. })));
    assert_eq!(get(&store, &kept).await, Some(noise(1, 100_000)));
    assert!(is_here(&store, &kept).await);
    disk.empty();
    let digest = put(&store, &late).await;
    assert_eq!(get(&store, &digest).await, Some(late));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_that_met_a_full_disk_goes_on_when_there_is_room() {
    let Some(disk) = SmallDisk::mount() else { return };
    let store = Embedded::open(settings(&disk.data(), 1024 * MIB)).expect("opened");
    let kept = put(&store, &noise(1, 1000)).await;
    // What was promised is not evicted for the disk's sake.
    assert!(is_here(&store, &kept).await);
    disk.fill();
    // Past the store's own caution, until RocksDB itself fails.
    let index = &store.engine().index;
    let failed = (0..10_000).any(|n| {
        let mut batch = index.batch();
        batch.put_meta(&format!("filler {n}"), &noise(n, 3000));
        batch.write(crate::index::Sync::No).is_err()
    });
    assert!(failed, "the index never ran full");
    assert_eq!(get(&store, &kept).await, Some(noise(1, 1000)));
    assert!(matches!(write(&store, &noise(2, 1000)).await, Err(StoreError::Full { .. })));
    disk.empty();
    let start = Instant::now();
    while let Err(error) = write(&store, &noise(2, 1000)).await {
        assert!(start.elapsed() < Duration::from_secs(60), "{error:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    drop(store);
    let store = Embedded::open(settings(&disk.data(), 1024 * MIB)).expect("opened again");
    for (seed, len) in [(1, 1000), (2, 1000)] {
        let data = noise(seed, len);
        assert_eq!(get(&store, &Digest::of(DigestFunction::Blake3, &data)).await, Some(data));
    }
}
