use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::*;

/// The only file of a folder.
fn only_file(folder: PathBuf) -> PathBuf {
    let mut files: Vec<_> =
        std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()).collect();
    assert_eq!(files.len(), 1);
    files.remove(0)
}

fn flip(path: &Path, at: u64) {
    let file = std::fs::OpenOptions::new().read(true).write(true).open(path).expect("opened");
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).expect("read");
    file.write_all_at(&[byte[0] ^ 0x10], at).expect("written");
}

/// Damages what is on disk while the store is closed, and opens it again.
fn damaged(folder: &Path, store: Embedded, damage: impl FnOnce()) -> Embedded {
    drop(store);
    damage();
    open(folder)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_pack_is_never_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let (first, second) = (noise(1, 50_000), noise(2, 50_000));
    let digests = [put(&store, &first).await, put(&store, &second).await];
    let store = damaged(folder.path(), store, || flip(&only_file(folder.path().join("packs")), 20_000));
    assert_eq!(get(&store, &digests[0]).await, None);
    assert!(!is_here(&store, &digests[0]).await, "what cannot be read is missing");
    assert_eq!(get(&store, &digests[1]).await, Some(second));
    assert_eq!(store.stats().quarantined, 1);
    put(&store, &first).await;
    assert_eq!(get(&store, &digests[0]).await, Some(first), "a new write mends it");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_first_frame_of_a_file_reads_as_missing() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let data = noise(1, 4 << 20);
    let digest = put(&store, &data).await;
    let file = only_file(folder.path().join("files"));
    let store = damaged(folder.path(), store, || flip(&file, 1000));
    assert_eq!(get(&store, &digest).await, None);
    assert!(!is_here(&store, &digest).await);
    eventually("the file is put aside", || !file.exists()).await;
    let aside = only_file(folder.path().join("quarantine"));
    assert_eq!(aside.file_name(), file.file_name());
    put(&store, &data).await;
    assert!(get(&store, &digest).await == Some(data));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_a_later_frame_ends_the_stream() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let data = noise(1, 4 << 20);
    let digest = put(&store, &data).await;
    let file = only_file(folder.path().join("files"));
    let store = damaged(folder.path(), store, || flip(&file, (2 << 20) + 77));
    let start = ByteRange::new(0, Some(2 << 20));
    let body = store.read(&digest, start).await.expect("read").expect("here");
    assert!(body.collect(usize::MAX).await.expect("frames that are whole") == Some(data.slice(..2 << 20)));
    let mut body = store.read(&digest, ByteRange::ALL).await.expect("read").expect("here");
    let mut served = Vec::new();
    let error = loop {
        match futures::StreamExt::next(&mut body).await {
            Some(Ok(piece)) => served.extend_from_slice(&piece),
            Some(Err(error)) => break error,
            None => panic!("the stream ended well"),
        }
    };
    assert!(matches!(error, StoreError::Damaged(of) if of == digest), "{error:?}");
    assert!(served == data[..2 << 20], "a wrong byte was served");
    assert!(!is_here(&store, &digest).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_in_the_table_or_a_cut_tail_reads_as_missing() {
    for cut in [false, true] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = open(folder.path());
        let digest = put(&store, &noise(1, 3 << 20)).await;
        let file = only_file(folder.path().join("files"));
        let len = file.metadata().expect("metadata").len();
        let store = damaged(folder.path(), store, || {
            if cut {
                std::fs::OpenOptions::new()
                    .write(true)
                    .open(&file)
                    .and_then(|file| file.set_len(len - 100))
                    .expect("cut");
            } else {
                flip(&file, len - 40);
            }
        });
        assert_eq!(get(&store, &digest).await, None, "cut: {cut}");
        assert!(!is_here(&store, &digest).await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_gone_read_as_missing() {
    for folder_name in ["packs", "files"] {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let store = open(folder.path());
        let data = noise(1, if folder_name == "packs" { 10_000 } else { 3 << 20 });
        let digest = put(&store, &data).await;
        let file = only_file(folder.path().join(folder_name));
        let store = damaged(folder.path(), store, || std::fs::remove_file(&file).expect("removed"));
        assert_eq!(get(&store, &digest).await, None);
        assert!(!is_here(&store, &digest).await);
        assert_eq!(store.stats().lost, 1);
        put(&store, &data).await;
        assert!(get(&store, &digest).await == Some(data));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_record_is_never_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    store.put(record_key("damaged"), Bytes::from_static(b"a value that is right")).await.expect("put");
    // The row itself is changed, as a fault in memory would before RocksDB adds its own checksum.
    let engine = store.engine();
    let key = crate::key::Key::record(&record_key("damaged"));
    let row = engine.index.record(&key).expect("asked").expect("here");
    let mut batch = engine.index.batch();
    let value = Bytes::from_static(b"a value that is wrong");
    batch.put_record(&key, &crate::row::RecordRow { value, ..row });
    batch.write(crate::index::Sync::Yes).expect("written");
    assert_eq!(store.get(&record_key("damaged")).await.expect("asked"), None);
    assert_eq!(store.stats().quarantined, 1);
    assert_eq!(store.stats().records, 0);
    store.put(record_key("damaged"), Bytes::from_static(b"again")).await.expect("put");
    assert_eq!(store.get(&record_key("damaged")).await.expect("asked").as_deref(), Some(&b"again"[..]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_bit_in_the_index_is_never_served() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let (small, value) = (noise(1, 1500), noise(2, 1500));
    let digest = put(&store, &small).await;
    store.put(record_key("r"), value.clone()).await.expect("put");
    // Into a table file, where each block has RocksDB's checksum.
    store.engine().index.compact(MIB, &std::sync::atomic::AtomicBool::new(false)).expect("compacted");
    drop(store);
    let tables: Vec<PathBuf> = std::fs::read_dir(folder.path().join("index"))
        .expect("the index")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "sst"))
        .collect();
    let (mut hits, needles) = (0, [small.slice(700..720), value.slice(700..720)]);
    for table in tables {
        let bytes = std::fs::read(&table).expect("read");
        for needle in &needles {
            if let Some(at) = bytes.windows(needle.len()).position(|window| window == needle) {
                flip(&table, at as u64);
                hits += 1;
            }
        }
    }
    assert_eq!(hits, 2, "both values were found in the tables");
    let store = open(folder.path());
    assert_eq!(get(&store, &digest).await, None);
    assert_eq!(store.get(&record_key("r")).await.expect("asked"), None);
    put(&store, &small).await;
    assert_eq!(get(&store, &digest).await, Some(small));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inspection_names_what_is_damaged_wherever_it_lies_and_nothing_else() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = open(folder.path());
    let whole = noise(1, 9 << 20);
    let data = [noise(2, 500), noise(3, 50_000), noise(4, 50_000), noise(5, 4 << 20), whole.clone()];
    let mut digests = Vec::new();
    for data in &data {
        digests.push(put(&store, data).await);
    }
    let chunks = store.split(&digests[4]).await.expect("cut").expect("here");
    assert!(chunks.len() > 1);
    assert_eq!(store.damaged(&digests).await.expect("asked"), []);
    let absent = Digest::of(DigestFunction::Blake3, b"absent");
    assert_eq!(store.damaged(&[absent, digests[0]]).await.expect("asked"), [absent]);

    // A chunk that lies in a file of its own, the file of one blob, and the pack with the two small ones.
    drop(store);
    for part in ["files", "packs"] {
        for entry in std::fs::read_dir(folder.path().join(part)).expect("a folder") {
            let path = entry.expect("an entry").path();
            flip(&path, 20_000);
        }
    }
    let store = open(folder.path());
    let mut damaged = store.damaged(&digests).await.expect("asked");
    damaged.sort_unstable();
    let mut expected: Vec<Digest> = digests[1..].to_vec();
    expected.retain(|digest| *digest != digests[2] || damaged.contains(digest));
    expected.retain(|digest| *digest != digests[1] || damaged.contains(digest));
    expected.sort_unstable();
    assert_eq!(damaged, expected);
    assert_eq!(damaged.len(), 3, "one of the two in the pack, the file, and the one that was cut");
    for digest in &damaged {
        assert!(!is_here(&store, digest).await, "what is damaged is missing from then on");
    }
    assert_eq!(get(&store, &digests[0]).await.as_ref(), Some(&data[0]));
    for (digest, data) in digests.iter().zip(&data) {
        store.write(*digest, data.clone().into()).await.expect("written");
    }
    assert_eq!(store.damaged(&digests).await.expect("asked"), [], "a new write mends it");
}
