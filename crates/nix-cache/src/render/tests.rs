use std::sync::Arc;

use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use proptest::prelude::*;
use store::{BlobStore, MemoryStore};

use super::*;
use crate::compression::Compression;
use crate::keep;
use crate::nar::{self, Event, NarError, NarReader};
use crate::records::NarRecord;
use crate::settings::UploadLimits;
use crate::spool::Room;
use crate::unpack::{Bench, UnpackedNar, unpack_nar};

/// A tree with what is easily got wrong: names in lists of their own, empty files and folders, doubled content.
fn nar_of(files: &[(String, Vec<u8>, bool)], with_traps: bool) -> Vec<u8> {
    let mut names: std::collections::BTreeMap<&[u8], usize> = std::collections::BTreeMap::new();
    for (at, (name, _, _)) in files.iter().enumerate() {
        names.insert(name.as_bytes(), at);
    }
    let mut out = Vec::new();
    nar::start_nar(&mut out);
    nar::start_directory(&mut out);
    for (name, at) in names {
        nar::start_entry(&mut out, name);
        let (_, data, is_executable) = &files[at];
        match at % 4 {
            1 if with_traps => nar::symlink(&mut out, b"/nix/store/x"),
            2 if with_traps => {
                nar::start_directory(&mut out);
                nar::start_entry(&mut out, b"inner");
                nar::start_directory(&mut out);
                nar::end_directory(&mut out);
                nar::end_entry(&mut out);
                nar::end_directory(&mut out);
            }
            _ => {
                nar::start_file(&mut out, *is_executable, data.len() as u64);
                out.extend_from_slice(data);
                nar::end_file(&mut out, data.len() as u64);
            }
        }
        nar::end_entry(&mut out);
    }
    nar::end_directory(&mut out);
    out
}

fn unpack(bytes: &[u8]) -> UnpackedNar {
    let no_progress = std::time::Duration::from_secs(5);
    let limits = UploadLimits { max_bytes: 1 << 30, no_progress, zstd_window_log: 23, ratio: 0 };
    let bench = Bench { room: Room::new(), folder: std::env::temp_dir().into(), limits };
    unpack_nar(bytes, Compression::None, &bench).expect("a NAR")
}

async fn stored(bytes: &[u8]) -> (Arc<MemoryStore>, Arc<Plan>, NarRecord) {
    let store = Arc::new(MemoryStore::default());
    let unpacked = unpack(bytes);
    keep::nar(&*store, &unpacked).await.expect("stored");
    let record = NarRecord { size: unpacked.nar.size_bytes(), root: unpacked.root };
    let plan = load(&*store, *unpacked.nar.hash(), &record).await.expect("a plan");
    (store, Arc::new(plan), record)
}

async fn range(store: &Arc<MemoryStore>, plan: &Arc<Plan>, range: std::ops::Range<u64>) -> Bytes {
    let body = plain(store.clone(), plan.clone(), range);
    body.collect(usize::MAX).await.expect("the parts are here").expect("no limit")
}

/// Where the data of each file begin.
fn offsets(bytes: &[u8]) -> Vec<u64> {
    let mut offsets = Vec::new();
    NarReader::default()
        .push(bytes, &mut |event| {
            if let Event::File { offset, .. } = event {
                offsets.push(offset);
            }
            Ok::<(), NarError>(())
        })
        .expect("a NAR");
    offsets
}

fn listed(value: &serde_json::Value, out: &mut Vec<u64>) {
    if let Some(offset) = value["narOffset"].as_u64() {
        out.push(offset);
    }
    for below in value["entries"].as_object().into_iter().flat_map(|entries| entries.values()) {
        listed(below, out);
    }
}

fn files() -> impl Strategy<Value = Vec<(String, Vec<u8>, bool)>> {
    let name = prop_oneof![Just("a".to_owned()), Just("a-b".to_owned()), Just("a.b".to_owned()), "[a-zé]{1,6}"];
    let data = proptest::collection::vec(any::<u8>(), 0..300);
    proptest::collection::vec((name, data, any::<bool>()), 0..12)
}

proptest! {
    #[test]
    fn nars_are_rendered_byte_for_byte_whole_and_in_parts(files in files(), a: prop::sample::Index, b: prop::sample::Index) {
        let bytes = nar_of(&files, true);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async {
            let (store, plan, record) = stored(&bytes).await;
            assert_eq!(plan.size, bytes.len() as u64);
            assert!(range(&store, &plan, 0..plan.size).await == bytes);
            assert!(is_sound(store.clone(), plan.clone()).await.expect("answers"));
            let (a, b) = (a.index(bytes.len()), b.index(bytes.len()));
            let (start, end) = (a.min(b), a.max(b) + 1);
            assert!(range(&store, &plan, start as u64..end as u64).await == bytes[start..end]);
            let listing = listing(&*store, &record).await.expect("answers").expect("a tree");
            let mut found = Vec::new();
            listed(&listing["root"], &mut found);
            found.sort();
            assert_eq!(found, offsets(&bytes));
        });
    }
}

#[tokio::test]
async fn large_files_are_stored_as_chunks_and_rendered_the_same() {
    let data: Vec<u8> = (0..600_000u64).flat_map(|at| (at.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_le_bytes()).collect();
    let bytes = nar_of(&[("large".to_owned(), data.clone(), true)], false);
    let (store, plan, _) = stored(&bytes).await;
    assert!(range(&store, &plan, 0..plan.size).await == bytes);
    let digest = Digest::of(DigestFunction::Sha256, &data);
    let chunks = store.split(&digest).await.expect("answers").expect("here");
    assert!(chunks.len() > 1, "{} bytes are one chunk", data.len());
}

#[tokio::test]
async fn packed_nars_unpack_to_the_same_bytes() {
    let bytes = nar_of(&[("a".to_owned(), vec![7; 300_000], false), ("b".to_owned(), vec![], false)], false);
    let (store, plan, _) = stored(&bytes).await;
    for compression in [Compression::Zstd, Compression::Xz, Compression::Bzip2, Compression::Gzip] {
        let body = plain(store.clone(), plan.clone(), 0..plan.size);
        let body = packed(body, compression).expect("memory").expect("one that packs");
        let file = body.collect(usize::MAX).await.expect("here").expect("no limit");
        assert!(file.len() < bytes.len() / 10);
        let mut out = Vec::new();
        std::io::Read::read_to_end(&mut compression.unpack(&file[..], 23).expect("a reader"), &mut out)
            .expect("packed");
        assert!(out == bytes, "{}", compression.name());
    }
}

#[tokio::test]
async fn a_nar_without_a_part_is_not_sound() {
    let bytes = nar_of(&[("a".to_owned(), b"one".to_vec(), false), ("b".to_owned(), b"two".to_vec(), false)], false);
    let (_, plan, record) = stored(&bytes).await;
    for part in &plan.parts {
        let (store, plan, _) = stored(&bytes).await;
        store.forget(part);
        assert_eq!(store.find_missing(&plan.parts).await.expect("answers"), [*part]);
        let sound = is_sound(store.clone(), plan.clone()).await.expect("answers");
        // Folders are in the plan already.
        let is_folder = record.root == crate::records::Root::Directory { digest: *part };
        assert_eq!(sound, is_folder);
        if !is_folder {
            let read = plain(store, plan.clone(), 0..plan.size).collect(usize::MAX).await;
            assert!(read.is_err(), "a stream that ends without its end");
        }
    }
}
