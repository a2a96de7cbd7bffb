use std::sync::Arc;

use bytes::Bytes;
use cache_types::{ByteRange, DigestFunction};
use futures::TryStreamExt;
use proptest::prelude::*;
use store::{BlobStore, MemoryStore};
use tonic_types::StatusExt;

use super::*;
use crate::Settings;

const SHA256: i32 = re::digest_function::Value::Sha256 as i32;

fn core_with(settings: Settings) -> (Core, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::default());
    (Core::new(store.clone(), store.clone(), settings), store)
}

fn digest(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

async fn put(store: &MemoryStore, data: &[u8]) -> Digest {
    store.write(digest(data), Bytes::copy_from_slice(data).into()).await.expect("stored");
    digest(data)
}

async fn splice_code(core: &Core, blob: Option<&Digest>, chunks: &[Digest]) -> Result<(), Code> {
    let request = re::SpliceBlobRequest {
        blob_digest: blob.map(convert::to_wire),
        chunk_digests: chunks.iter().map(convert::to_wire).collect(),
        chunking_function: 7,
        ..Default::default()
    };
    splice_blob(core, request).await.map(|_| ()).map_err(|status| status.code())
}

async fn register(core: &Core, messages: Vec<re::RegisterChunkMappingRequest>) -> Result<(), Code> {
    let messages = stream::iter(messages.into_iter().map(Ok)).boxed();
    register_chunk_mapping(core, &Caller::local(), messages).await.map(|_| ()).map_err(|status| status.code())
}

#[tokio::test]
async fn a_splice_is_checked_and_done_once() {
    let (core, store) = core_with(Settings {
        limits: crate::Limits { blob_bytes: 100, ..crate::Limits::default() }.into(),
        ..Settings::default()
    });
    let (a, b, gone) = (put(&store, b"aaa").await, put(&store, b"bb").await, digest(b"gon"));
    let (whole, other) = (digest(b"aaabb"), digest(b"bbaaa"));
    assert_eq!(splice_code(&core, None, &[a, b]).await, Err(Code::InvalidArgument));
    assert_eq!(splice_code(&core, Some(&whole), &[a]).await, Err(Code::InvalidArgument));
    assert_eq!(splice_code(&core, Some(&other), &[a, b]).await, Err(Code::InvalidArgument));
    assert_eq!(splice_code(&core, Some(&whole), &[gone, b]).await, Err(Code::NotFound));
    assert_eq!(splice_code(&core, Some(&digest(&[0; 101])), &[a]).await, Err(Code::InvalidArgument));
    assert_eq!(store.find_missing(&[whole, other]).await.expect("answers").len(), 2);
    assert_eq!(splice_code(&core, Some(&whole), &[a, Digest::empty(DigestFunction::Sha256), b]).await, Ok(()));
    assert_eq!(splice_code(&core, Some(&whole), &[a, b]).await, Ok(()), "never ALREADY_EXISTS");
    assert_eq!(splice_code(&core, Some(&Digest::empty(DigestFunction::Sha256)), &[]).await, Ok(()));
    let body = store.read(&whole, ByteRange::ALL).await.expect("answers").expect("here");
    assert_eq!(body.collect(10).await.expect("reads").expect("fits"), "aaabb");
}

#[tokio::test]
async fn missing_chunks_are_named_in_the_details() {
    let (core, store) = core_with(Settings::default());
    let (here, gone) = (put(&store, b"aaa").await, digest(b"bb"));
    let request = re::SpliceBlobRequest {
        blob_digest: Some(convert::to_wire(&digest(b"aaabb"))),
        chunk_digests: [here, gone].iter().map(convert::to_wire).collect(),
        ..Default::default()
    };
    let status = splice_blob(&core, request).await.expect_err("one is missing");
    let details = status.get_details_precondition_failure().expect("details");
    assert_eq!(details.violations.len(), 1);
    assert_eq!(details.violations[0].r#type, "MISSING");
    assert_eq!(details.violations[0].subject, format!("blobs/{gone}"));
}

#[tokio::test]
async fn the_streamed_list_is_that_of_all_messages_and_its_end_commits() {
    let (core, store) = core_with(Settings::default());
    let (a, b) = (put(&store, b"aaa").await, put(&store, b"bb").await);
    let whole = digest(b"aaabbaaa");
    let message = |digest_function, blob: Option<&Digest>, chunks: &[Digest]| re::RegisterChunkMappingRequest {
        digest_function,
        blob_digest: blob.map(convert::to_wire),
        chunk_digests: chunks.iter().map(convert::to_wire).collect(),
        ..Default::default()
    };
    assert_eq!(register(&core, vec![]).await, Err(Code::InvalidArgument));
    assert_eq!(register(&core, vec![message(0, Some(&whole), &[a, b, a])]).await, Err(Code::InvalidArgument));
    assert_eq!(register(&core, vec![message(SHA256, None, &[a, b, a])]).await, Err(Code::InvalidArgument));
    let later = message(3, Some(&a), &[b]);
    let messages = vec![message(SHA256, Some(&whole), &[a]), later, message(0, None, &[]), message(0, None, &[a])];
    assert_eq!(register(&core, messages).await, Ok(()));
    assert!(store.find_missing(&[whole]).await.expect("answers").is_empty());
}

#[tokio::test]
async fn a_list_is_strict_and_comes_in_both_forms() {
    let (core, store) = core_with(Settings::default());
    let data: Vec<u8> =
        (0..200_000u64).flat_map(|i| DigestFunction::Sha256.hash(&i.to_le_bytes()).as_bytes().to_vec()).collect();
    let (large, small) = (put(&store, &data).await, put(&store, b"small").await);
    for blob in [large, small, Digest::empty(DigestFunction::Sha256)] {
        let request = re::SplitBlobRequest { blob_digest: Some(convert::to_wire(&blob)), ..Default::default() };
        let unary = split_blob(&core, request).await.expect("here");
        let chunks = DigestReader::of(DigestFunction::Sha256).list(&unary.chunk_digests).expect("digests");
        assert!(chunk_list::is_strict(&blob, &chunks));
        assert_eq!(unary.chunking_function, FUNCTION);
        assert!(store.find_missing(&chunks).await.expect("answers").is_empty());
        let request = re::GetChunkMappingRequest {
            blob_digest: Some(convert::to_wire(&blob)),
            digest_function: SHA256,
            ..Default::default()
        };
        let streamed: Vec<_> =
            get_chunk_mapping(&core, request.clone()).await.expect("here").try_collect().await.expect("no error");
        assert_eq!(streamed[0].chunking_function, FUNCTION);
        let digests: Vec<_> = streamed.into_iter().flat_map(|message| message.chunk_digests).collect();
        assert_eq!(digests, unary.chunk_digests);
        let undeclared = re::GetChunkMappingRequest { digest_function: 0, ..request };
        assert_eq!(get_chunk_mapping(&core, undeclared).await.err().expect("refused").code(), Code::InvalidArgument);
    }
    let gone = re::SplitBlobRequest { blob_digest: Some(convert::to_wire(&digest(b"gone"))), ..Default::default() };
    assert_eq!(split_blob(&core, gone).await.expect_err("missing").code(), Code::NotFound);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn a_long_list_comes_whole_in_messages_below_the_limit(count in 0usize..25_000) {
        let one = Digest::of(DigestFunction::Sha512, b"x");
        let messages = mapping(&vec![one; count]);
        prop_assert_eq!(messages.iter().map(|message| message.chunk_digests.len()).sum::<usize>(), count);
        prop_assert!(messages.iter().all(|message| message.encoded_len() < MAX_OUTBOUND_BYTES));
        prop_assert!(messages.iter().skip(1).all(|message| message.chunking_function == 0));
    }
}
