use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use cache_types::{ByteRange, DigestFunction};
use futures::{StreamExt, stream};
use proptest::prelude::*;
use store::{BlobStore, MemoryStore};
use tonic::Code;

use super::*;
use crate::{Limits, Settings, zstd_stream};

fn core_with(settings: Settings) -> (Core, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (Core::new(store.clone(), store.clone(), settings), store)
}

fn digest(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

/// The messages of a well-formed upload of `sent` in pieces, with finish on the last.
fn messages(name: &str, sent: &[u8], piece_len: usize) -> Vec<WriteRequest> {
    let mut messages: Vec<_> = sent
        .chunks(piece_len)
        .scan(0, |offset, piece| {
            let write_offset = *offset;
            *offset += i64::try_from(piece.len()).expect("short");
            Some(WriteRequest { write_offset, data: Bytes::copy_from_slice(piece), ..Default::default() })
        })
        .collect();
    if messages.is_empty() {
        messages.push(WriteRequest::default());
    }
    messages[0].resource_name = name.to_owned();
    messages.last_mut().expect("one at least").finish_write = true;
    messages
}

async fn send(core: &Core, messages: Vec<WriteRequest>) -> Result<i64, Code> {
    write(core, &Caller::local(), stream::iter(messages.into_iter().map(Ok)).boxed())
        .await
        .map_err(|status| status.code())
}

async fn is_here(store: &MemoryStore, digest: &Digest) -> bool {
    store.find_missing(&[*digest]).await.expect("answers").is_empty()
}

fn plain_name(digest: &Digest) -> String {
    format!("uploads/u/blobs/{digest}")
}

fn zstd_name(digest: &Digest) -> String {
    format!("uploads/u/compressed-blobs/zstd/{digest}")
}

#[tokio::test]
async fn r_072_committed_size_row_by_row() {
    let data: Vec<u8> = b"compressible ".repeat(10_000);
    let digest = digest(&data);
    let compressed = zstd_stream::encode_all(&data).expect("compresses");
    let (full, count) = (digest.size_i64(), i64::try_from(compressed.len()).expect("short"));
    for (setting, expected) in
        [(CommittedSize::Compressed, count), (CommittedSize::Uncompressed, full), (CommittedSize::MinusOne, -1)]
    {
        let settings = Settings { committed_size: setting, ..Settings::default() };
        let (core, store) = core_with(settings.clone());
        assert_eq!(send(&core, messages(&zstd_name(&digest), &compressed, 500)).await, Ok(expected));
        assert!(is_here(&store, &digest).await);
        assert_eq!(send(&core, messages(&zstd_name(&digest), &compressed, 500)).await, Ok(-1), "here already");
        assert_eq!(send(&core, messages(&plain_name(&digest), &data, 16_384)).await, Ok(full), "here already");
        let (core, _store) = core_with(settings);
        assert_eq!(send(&core, messages(&plain_name(&digest), &data, 16_384)).await, Ok(full));
    }
}

#[tokio::test]
async fn what_breaks_a_rule_is_refused_and_stores_nothing() {
    let data = b"0123456789".repeat(10);
    let digest = digest(&data);
    let compressed = zstd_stream::encode_all(&data).expect("compresses");
    let (plain, zstd) = (plain_name(&digest), zstd_name(&digest));
    let changed = |edit: fn(&mut Vec<WriteRequest>)| {
        let mut messages = messages(&plain, &data, 30);
        edit(&mut messages);
        messages
    };
    let last = compressed.len();
    let cases = [
        ("no message", Vec::new()),
        ("bad name", messages("uploads/u/blobs/x/1", &data, 30)),
        ("no name", messages("", &data, 30)),
        ("other name", changed(|messages| messages[1].resource_name = "uploads/v/blobs/x/1".to_owned())),
        ("first offset", changed(|messages| messages[0].write_offset = 10)),
        ("negative offset", changed(|messages| messages[0].write_offset = -1)),
        ("later offset", changed(|messages| messages[2].write_offset += 1)),
        ("no finish", changed(|messages| messages[3].finish_write = false)),
        ("early finish", changed(|messages| messages[2].finish_write = true)),
        ("after finish", changed(|messages| messages.push(WriteRequest { write_offset: 100, ..Default::default() }))),
        ("too few", messages(&plain, &data[..99], 30)),
        ("too many", messages(&plain, &[&data[..], b"x"].concat(), 30)),
        ("other bytes", messages(&plain, &[1; 100], 30)),
        ("not zstd", messages(&zstd, &data, 30)),
        ("cut zstd", messages(&zstd, &compressed[..last - 1], 7)),
        ("garbage", messages(&zstd, &[&compressed[..], b"garbage"].concat(), 7)),
        ("two frames", messages(&zstd, &[&compressed[..], &compressed[..]].concat(), 7)),
        ("no frame", messages(&zstd, &[], 7)),
    ];
    let (core, store) = core_with(Settings::default());
    for (what, messages) in cases {
        assert_eq!(send(&core, messages).await, Err(Code::InvalidArgument), "{what}");
        assert!(!is_here(&store, &digest).await, "{what}");
    }
    assert_eq!(send(&core, messages(&plain, &data, 30)).await, Ok(100));
}

#[tokio::test]
async fn a_bomb_and_a_blob_over_the_limit_are_refused() {
    let (core, store) =
        core_with(Settings { limits: Limits { blob_bytes: 1000, ..Limits::default() }.into(), ..Settings::default() });
    let bomb = zstd_stream::encode_all(&vec![0; 64 << 20]).expect("compresses");
    let small = digest(b"0123456789");
    assert_eq!(send(&core, messages(&zstd_name(&small), &bomb, 4096)).await, Err(Code::InvalidArgument));
    assert!(!is_here(&store, &small).await);
    let large = vec![5; 1001];
    // Decided from the name: the second message never comes.
    let first = WriteRequest { resource_name: plain_name(&digest(&large)), ..Default::default() };
    let stream = stream::iter([Ok(first)]).chain(stream::pending());
    assert_eq!(
        write(&core, &Caller::local(), stream.boxed()).await.expect_err("too large").code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn an_upload_of_what_is_here_ends_at_the_first_message_or_after_a_small_rest() {
    let (core, store) = core_with(Settings::default());
    let large = vec![9u8; 3 << 20];
    let small = vec![8u8; 1000];
    for data in [&large, &small] {
        store.write(digest(data), Bytes::from(data.clone()).into()).await.expect("stored");
    }
    let mut first = messages(&plain_name(&digest(&large)), &large, 1 << 20);
    first.truncate(1);
    let endless = stream::iter(first.into_iter().map(Ok)).chain(stream::pending());
    assert_eq!(write(&core, &Caller::local(), endless.boxed()).await.expect("early"), 3 << 20);
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counter = read.clone();
    let counted = stream::iter(messages(&plain_name(&digest(&small)), &small, 100)).map(move |message| {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Ok(message)
    });
    assert_eq!(write(&core, &Caller::local(), counted.boxed()).await.expect("early"), 1000);
    assert_eq!(read.load(std::sync::atomic::Ordering::Relaxed), 10);
}

#[tokio::test]
async fn a_long_upload_ends_when_another_one_of_the_blob_has_finished() {
    let (core, store) = core_with(Settings::default());
    let data = Bytes::from(vec![7u8; 12 << 20]);
    let digest = digest(&data);
    let mut sent = messages(&plain_name(&digest), &data, 1 << 20);
    sent.truncate(8);
    let last = sent.pop().expect("eight of them");
    let other = {
        let (store, data) = (store.clone(), data.clone());
        stream::once(async move {
            store.write(digest, data.into()).await.expect("stored");
            Ok(last)
        })
    };
    // The messages end nowhere: only the check for the other upload can end this one.
    let stream = stream::iter(sent.into_iter().map(Ok)).chain(other);
    let committed = write(&core, &Caller::local(), stream.chain(stream::pending()).boxed()).await.expect("early");
    assert_eq!(committed, digest.size_i64());
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_stands_still_is_given_up_and_one_that_never_closes_is_done() {
    let (core, store) = core_with(Settings {
        limits: Limits { no_progress: Duration::from_secs(5), ..Limits::default() }.into(),
        ..Settings::default()
    });
    let data = vec![1u8; 100];
    let digest = digest(&data);
    let mut sent = messages(&plain_name(&digest), &data, 50);
    let whole = sent.clone();
    sent.truncate(1);
    let still = stream::iter(sent.into_iter().map(Ok)).chain(stream::pending());
    let status = write(&core, &Caller::local(), still.boxed()).await.expect_err("no progress");
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert!(!is_here(&store, &digest).await);
    let open = stream::iter(whole.into_iter().map(Ok)).chain(stream::pending());
    assert_eq!(write(&core, &Caller::local(), open.boxed()).await.expect("stored"), 100);
}

#[tokio::test]
async fn a_client_that_vanishes_stores_nothing() {
    let (core, store) = core_with(Settings::default());
    let data = vec![1u8; 1 << 20];
    let digest = digest(&data);
    let mut sent: Vec<_> = messages(&plain_name(&digest), &data, 1 << 18).into_iter().map(Ok).collect();
    sent.truncate(3);
    sent.push(Err(Status::cancelled("gone")));
    let status = write(&core, &Caller::local(), stream::iter(sent).boxed()).await.expect_err("vanished");
    assert_eq!(status.code(), Code::Unavailable);
    assert!(!is_here(&store, &digest).await);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]
    #[test]
    fn what_is_uploaded_in_any_form_and_pieces_is_what_is_stored(
        seed in proptest::collection::vec(any::<u8>(), 0..500),
        repeats in 1usize..1000,
        piece_len in 1usize..40_000,
        zstd in any::<bool>(),
    ) {
        let data = seed.repeat(repeats);
        let piece_len = piece_len.max(data.len() / 2000 + 1);
        let digest = digest(&data);
        let (name, sent) = if zstd {
            (zstd_name(&digest), zstd_stream::encode_all(&data).expect("compresses"))
        } else {
            (plain_name(&digest), data.clone())
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
        let stored = runtime.block_on(async {
            let (core, store) = core_with(Settings::default());
            send(&core, messages(&name, &sent, piece_len)).await.expect("stored");
            let body = store.read(&digest, ByteRange::ALL).await.expect("answers").expect("here");
            body.collect(data.len() + 1).await.expect("reads").expect("fits")
        });
        prop_assert_eq!(stored, data);
    }
}
