//! The client against a live server over a memory store, and against servers that misbehave.

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use cache_types::{ByteRange, Digest, DigestFunction, InstanceName};
use common::{remote_memory, serve, serve_memory};
use futures::StreamExt;
use futures::stream::BoxStream;
use reapi::client::{Compression, ConnectError, RemoteStore, Settings};
use reapi::proto::bytestream::byte_stream_server::{ByteStream, ByteStreamServer};
use reapi::proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest, WriteResponse,
};
use reapi::proto::re;
use reapi::proto::re::capabilities_server::{Capabilities, CapabilitiesServer};
use store::{BlobBody, BlobStore, BodyError, Chunker, StoreError};
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

const SHA256: DigestFunction = DigestFunction::Sha256;

/// Bytes that repeat late: they compress, and no two pieces are alike.
fn data(len: usize) -> Bytes {
    (0u32..).flat_map(|i| (i / 3).wrapping_mul(2_654_435_761).to_le_bytes()).take(len).collect()
}

/// A body in pieces, as one that comes from a file.
fn in_pieces(data: &Bytes) -> BlobBody {
    let pieces: Vec<_> = data.chunks(100_000).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
    BlobBody::from_stream(futures::stream::iter(pieces))
}

async fn read(remote: &RemoteStore, digest: &Digest, range: ByteRange) -> Option<Bytes> {
    let body = remote.read(digest, range).await.expect("a read")?;
    Some(body.collect(usize::MAX).await.expect("the whole body").expect("no limit"))
}

#[tokio::test]
async fn blobs_of_every_size_travel_both_ways_plain_and_compressed() {
    for compression in [Compression::Off, Compression::ZstdWhenOffered] {
        let instance = InstanceName::parse("team/a").expect("a name");
        let (_, remote) = remote_memory(Settings { compression, instance, ..Settings::default() }).await;
        for function in [SHA256, DigestFunction::Blake3, DigestFunction::GitSha1] {
            for len in [0, 1, 100, 262_144, 262_145, 3_000_000, 9_000_000] {
                let data = data(len);
                let digest = Digest::of(function, &data);
                assert_eq!(read(&remote, &digest, ByteRange::ALL).await.is_some(), len == 0);
                remote.write(digest, in_pieces(&data)).await.expect("a write");
                assert!(remote.find_missing(&[digest]).await.expect("an answer").is_empty());
                assert_eq!(read(&remote, &digest, ByteRange::ALL).await.as_ref(), Some(&data), "{digest}");
                // Storing it again succeeds, from memory too.
                remote.write(digest, data.clone().into()).await.expect("a second write");
                remote.write_from(digest, || async { Ok(in_pieces(&data)) }).await.expect("a third write");
            }
        }
    }
}

#[tokio::test]
async fn a_range_is_read_alone() {
    for compression in [Compression::Off, Compression::ZstdWhenOffered] {
        let (_, remote) = remote_memory(Settings { compression, ..Settings::default() }).await;
        for len in [1000u64, 2_000_000] {
            let data = data(usize::try_from(len).expect("small"));
            let digest = Digest::of(SHA256, &data);
            remote.write(digest, data.clone().into()).await.expect("a write");
            for (offset, limit) in
                [(0, Some(1)), (5, None), (5, Some(100)), (len - 1, None), (len, None), (7, Some(len)), (9, Some(0))]
            {
                let range = ByteRange::new(offset, limit);
                let span = range.within(len).expect("inside");
                let expected = data.slice(span.start as usize..span.end as usize);
                assert_eq!(read(&remote, &digest, range).await, Some(expected), "{offset} {limit:?} of {len}");
            }
            let past = remote.read(&digest, ByteRange::new(len + 1, None)).await;
            assert!(matches!(past, Err(StoreError::Range { .. })));
        }
        let absent = Digest::of(SHA256, b"absent");
        assert!(remote.read(&absent, ByteRange::new(6, None)).await.expect("an answer").is_none());
    }
}

#[tokio::test]
async fn wrong_bytes_are_a_mismatch_and_a_broken_body_is_passed_on() {
    for compression in [Compression::Off, Compression::ZstdWhenOffered] {
        let (_, remote) = remote_memory(Settings { compression, ..Settings::default() }).await;
        for len in [1000, 2_000_000] {
            let right = data(len);
            let digest = Digest::of(SHA256, &right);
            let mut other = right.to_vec();
            other[len / 2] ^= 1;
            for wrong in [Bytes::from(other), right.slice(1..), [right.as_ref(), b"x"].concat().into()] {
                let written = remote.write(digest, in_pieces(&wrong)).await;
                assert!(matches!(written, Err(StoreError::Mismatch { .. })), "{written:?}");
            }
            let broken = || Err(StoreError::Body(BodyError::Invalid("broken".to_owned())));
            let body = futures::stream::iter([Ok(right.slice(..500)), broken()]);
            let written = remote.write(digest, BlobBody::from_stream(body)).await;
            assert!(matches!(written, Err(StoreError::Body(_))), "{written:?}");
            assert_eq!(remote.find_missing(&[digest]).await.expect("an answer"), [digest]);
        }
    }
}

#[tokio::test]
async fn a_question_over_4_mib_is_split() {
    let (_, remote) = remote_memory(Settings::default()).await;
    let mut digests: Vec<Digest> = (0..90_000u32).map(|i| Digest::of(SHA256, &i.to_le_bytes())).collect();
    digests.push(Digest::empty(SHA256));
    digests.push(Digest::of(DigestFunction::Blake3, b"another function"));
    let here = b"here";
    let present = Digest::of(SHA256, here);
    remote.write(present, Bytes::from_static(here).into()).await.expect("a write");
    digests.push(present);
    digests.push(digests[0]);
    let mut missing = remote.find_missing(&digests).await.expect("an answer");
    missing.sort();
    let mut expected = [&digests[..90_000], &digests[90_001..90_002]].concat();
    expected.sort();
    assert_eq!(missing, expected);
}

#[tokio::test]
async fn chunk_lists_are_asked_for_and_registered() {
    let (memory, remote) = remote_memory(Settings::default()).await;
    let whole = data(8_000_000);
    let digest = Digest::of(SHA256, &whole);
    assert!(remote.split(&digest).await.expect("an answer").is_none());
    remote.write(digest, whole.clone().into()).await.expect("a write");
    let chunks = remote.split(&digest).await.expect("an answer").expect("a list");
    assert!(chunks.len() > 1);
    assert_eq!(remote.find_missing(&chunks).await.expect("an answer"), []);
    memory.forget(&digest);
    assert_eq!(remote.find_missing(&[digest]).await.expect("an answer"), [digest]);
    remote.splice(digest, &chunks).await.expect("a splice");
    remote.splice(digest, &chunks).await.expect("a second splice");
    assert_eq!(read(&remote, &digest, ByteRange::ALL).await, Some(whole));

    let other = Digest::of(SHA256, b"no such concatenation");
    assert!(matches!(remote.splice(other, &chunks).await, Err(StoreError::Mismatch { .. })));
    let absent = Digest::of(SHA256, b"absent");
    let spliced = remote.splice(absent, &[absent]).await;
    assert!(matches!(spliced, Err(StoreError::MissingChunk(chunk)) if chunk == absent), "{spliced:?}");
}

#[tokio::test]
async fn a_server_that_is_not_there_or_lacks_the_function_is_told_apart() {
    let nowhere = "grpc://127.0.0.1:1".parse().expect("an address");
    let error = RemoteStore::connect(&nowhere, Settings::default()).await.err();
    assert!(matches!(error, Some(ConnectError::Unreachable { .. })), "{error:?}");
    let address = serve(Routes::new(CapabilitiesServer::new(Flaky::default()))).await;
    let settings = Settings { digest_function: Some(DigestFunction::Blake3), ..Settings::default() };
    let error = RemoteStore::connect(&address, settings).await.err();
    assert!(matches!(error, Some(ConnectError::DigestFunction { .. })), "{error:?}");
    let (_, address) = serve_memory().await;
    let remote = RemoteStore::connect(&address, Settings::default()).await.expect("a live server");
    assert!(remote.capabilities().digest_functions.contains(&SHA256));
    assert!(remote.round_trip().await.expect("an answer") < Duration::from_secs(60));
}

/// A server whose streams break: reads after 1 MB each, the first two writes before they end.
#[derive(Clone, Default)]
struct Flaky {
    data: Bytes,
    reads: Arc<AtomicU32>,
    writes: Arc<AtomicU32>,
}

#[tonic::async_trait]
impl Capabilities for Flaky {
    async fn get_capabilities(
        &self,
        _: Request<re::GetCapabilitiesRequest>,
    ) -> Result<Response<re::ServerCapabilities>, Status> {
        let cache = re::CacheCapabilities { digest_functions: vec![1], ..Default::default() };
        Ok(Response::new(re::ServerCapabilities { cache_capabilities: Some(cache), ..Default::default() }))
    }
}

#[tonic::async_trait]
impl ByteStream for Flaky {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let from = usize::try_from(request.get_ref().read_offset).expect("a small offset");
        let rest = self.data.slice(from..);
        let mut answers: Vec<_> = rest
            .chunks(100_000)
            .take(10)
            .map(|piece| Ok(ReadResponse { data: Bytes::copy_from_slice(piece) }))
            .collect();
        if rest.len() > 1_000_000 {
            answers.push(Err(Status::unavailable("the stream breaks")));
        }
        Ok(Response::new(futures::stream::iter(answers).boxed()))
    }

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        let mut messages = request.into_inner();
        let mut committed_size = 0;
        let breaks = self.writes.fetch_add(1, Ordering::Relaxed) < 2;
        while let Some(message) = messages.message().await? {
            committed_size += i64::try_from(message.data.len()).expect("a small number");
            if breaks {
                return Err(Status::unavailable("the stream breaks"));
            }
        }
        Ok(Response::new(WriteResponse { committed_size }))
    }

    async fn query_write_status(
        &self,
        _: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        Ok(Response::new(QueryWriteStatusResponse { committed_size: 0, complete: false }))
    }
}

/// A client to a server whose streams break.
async fn remote_flaky(flaky: &Flaky) -> RemoteStore {
    let routes = Routes::new(CapabilitiesServer::new(flaky.clone())).add_service(ByteStreamServer::new(flaky.clone()));
    RemoteStore::connect(&serve(routes).await, Settings::default()).await.expect("a live server")
}

#[tokio::test]
async fn a_read_goes_on_where_its_stream_broke() {
    let flaky = Flaky { data: data(7_500_000), ..Flaky::default() };
    let remote = remote_flaky(&flaky).await;
    let digest = Digest::of(SHA256, &flaky.data);
    assert_eq!(read(&remote, &digest, ByteRange::ALL).await.as_ref(), Some(&flaky.data));
    assert_eq!(flaky.reads.load(Ordering::Relaxed), 8);
}

#[tokio::test]
async fn a_write_whose_bytes_are_at_hand_is_sent_again_and_a_stream_is_not() {
    let flaky = Flaky::default();
    let remote = remote_flaky(&flaky).await;
    let data = data(2_000_000);
    let digest = Digest::of(SHA256, &data);
    let written = remote.write(digest, in_pieces(&data)).await;
    assert!(matches!(written, Err(StoreError::Unavailable { .. })), "{written:?}");
    remote.write(digest, data.clone().into()).await.expect("the third attempt");
    assert_eq!(flaky.writes.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn client_and_server_cut_alike() {
    let (memory, address) = serve_memory().await;
    let whole = data(5_000_000);
    let digest = Digest::of(SHA256, &whole);
    let remote = RemoteStore::connect(&address, Settings::default()).await.expect("a live server");
    remote.write(digest, whole.clone().into()).await.expect("a write");
    let by_server = remote.split(&digest).await.expect("an answer").expect("a list");
    let mut chunker = Chunker::default();
    chunker.push(&whole);
    let mut here = Vec::new();
    while let Some(chunk) = chunker.next_chunk().or_else(|| chunker.last_chunk()) {
        here.push(Digest::of(SHA256, &chunk));
    }
    assert_eq!(by_server, here, "both sides cut alike");
    assert!(memory.find_missing(&here).await.expect("an answer").is_empty());
}
