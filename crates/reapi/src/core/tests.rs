//! What clients are told when the store fails.

use cache_types::{Caller, DigestFunction};
use futures::{StreamExt, TryStreamExt};
use prost::Message;
use store::{Fault, Faulty, MemoryStore};
use tonic::{Code, Request};
use tonic_types::StatusExt;

use super::*;
use crate::action_cache::ActionCache;
use crate::bytestream::ByteStream;
use crate::cas::Cas;
use crate::convert::to_wire;
use crate::proto::bytestream::ReadRequest;
use crate::proto::bytestream::byte_stream_server::ByteStream as _;
use crate::proto::re;
use crate::wire::UpdateActionResultRequest;
use crate::wire::raw::action_cache_server::ActionCache as _;
use crate::wire::raw::content_addressable_storage_server::ContentAddressableStorage as _;

struct Fixture {
    store: Arc<Faulty<MemoryStore>>,
    core: Arc<Core>,
}

impl Fixture {
    fn new() -> Self {
        let store = Arc::new(Faulty::new(MemoryStore::default()));
        let records = Arc::new(MemoryStore::default());
        let core = Core::new(store.clone(), records, Settings::default());
        Self { store, core: Arc::new(core) }
    }

    async fn put(&self, data: impl Into<Bytes>) -> Digest {
        let data = data.into();
        let digest = Digest::of(DigestFunction::Sha256, &data);
        self.store.inner().write(digest, data.into()).await.expect("stored");
        digest
    }
}

/// A request of a caller who may do everything.
fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.extensions_mut().insert(Caller::local());
    request
}

fn assert_unavailable(status: &Status) {
    assert_eq!(status.code(), Code::Unavailable);
    assert!(status.get_details_retry_info().is_some(), "it says when to ask again");
}

#[tokio::test]
async fn presence_is_never_guessed() {
    let fixture = Fixture::new();
    let digest = fixture.put("here").await;
    let cas = Cas(fixture.core.clone());
    let request = re::FindMissingBlobsRequest { blob_digests: vec![to_wire(&digest)], ..Default::default() };
    fixture.store.fail(1, Fault::Unavailable);
    assert_unavailable(&cas.find_missing_blobs(asked(request.clone())).await.expect_err("cannot be asked"));
    let answer = cas.find_missing_blobs(asked(request)).await.expect("answers").into_inner();
    assert!(answer.missing_blob_digests.is_empty());
}

#[tokio::test]
async fn items_of_a_batch_fail_alone() {
    let fixture = Fixture::new();
    let cas = Cas(fixture.core.clone());
    let blobs = [b"one".as_slice(), b"two", b"three"];
    let item = |data: &&[u8]| re::batch_update_blobs_request::Request {
        digest: Some(to_wire(&Digest::of(DigestFunction::Sha256, data))),
        data: Bytes::copy_from_slice(data),
        compressor: 0,
    };
    let update = re::BatchUpdateBlobsRequest { requests: blobs.iter().map(item).collect(), ..Default::default() };
    fixture.store.fail(2, Fault::Unavailable);
    let answer = cas.batch_update_blobs(asked(update.clone())).await.expect("the call succeeds").into_inner();
    let codes = |items: Vec<Option<tonic_types::pb::Status>>| -> Vec<i32> {
        items.into_iter().map(|status| status.expect("set").code).collect()
    };
    assert_eq!(codes(answer.responses.into_iter().map(|item| item.status).collect()), [0, 14, 0]);
    cas.batch_update_blobs(asked(update.clone())).await.expect("the next try");

    let digests = update.requests.into_iter().filter_map(|item| item.digest).collect();
    let read = re::BatchReadBlobsRequest { digests, ..Default::default() };
    fixture.store.fail(3, Fault::Unavailable);
    let answer = cas.batch_read_blobs(asked(read)).await.expect("the call succeeds").into_inner();
    assert_eq!(codes(answer.responses.into_iter().map(|item| item.status).collect()), [0, 0, 14]);
}

#[tokio::test]
async fn a_read_that_is_cut_ends_with_an_error_and_not_as_if_it_were_whole() {
    let fixture = Fixture::new();
    let digest = fixture.put(vec![7; 3 << 20]).await;
    for name in [format!("blobs/{digest}"), format!("compressed-blobs/zstd/{digest}")] {
        fixture.store.fail(1, Fault::CutAfter(1 << 20));
        let request = ReadRequest { resource_name: name, ..Default::default() };
        let answer = ByteStream(fixture.core.clone()).read(asked(request)).await.expect("begins").into_inner();
        let results: Vec<_> = answer.collect().await;
        assert_unavailable(results.last().expect("one at least").as_ref().expect_err("cut"));
    }
}

#[tokio::test]
async fn a_tree_is_not_cut_short_when_a_directory_cannot_be_read() {
    let fixture = Fixture::new();
    let leaf = fixture.put(re::Directory::default().encode_to_vec()).await;
    let mut leaf_with_name = re::Directory::default();
    leaf_with_name.symlinks.push(re::SymlinkNode {
        name: "l".to_owned(),
        target: "t".to_owned(),
        ..Default::default()
    });
    let other = fixture.put(leaf_with_name.encode_to_vec()).await;
    let node = |digest: &Digest| re::DirectoryNode { name: digest.to_string(), digest: Some(to_wire(digest)) };
    let root = re::Directory { directories: vec![node(&leaf), node(&other)], ..Default::default() };
    let root = fixture.put(root.encode_to_vec()).await;
    let request = re::GetTreeRequest { root_digest: Some(to_wire(&root)), ..Default::default() };
    fixture.store.fail(3, Fault::Unavailable);
    let pages = Cas(fixture.core.clone()).get_tree(asked(request)).await.expect("the root is read").into_inner();
    assert_unavailable(&pages.try_collect::<Vec<_>>().await.expect_err("a directory is out of reach"));
}

#[tokio::test]
async fn a_result_whose_presence_cannot_be_asked_is_no_miss() {
    let fixture = Fixture::new();
    let service = ActionCache(fixture.core.clone());
    let out = fixture.put("out").await;
    let file = re::OutputFile { path: "out".to_owned(), digest: Some(to_wire(&out)), ..Default::default() };
    let result = re::ActionResult { output_files: vec![file], ..Default::default() };
    let action_digest = Some(to_wire(&Digest::of(DigestFunction::Sha256, b"action")));
    let update = UpdateActionResultRequest {
        action_digest: action_digest.clone(),
        action_result: Some(result.encode_to_vec().into()),
        ..Default::default()
    };
    service.update_action_result(asked(update)).await.expect("stored");
    let get = re::GetActionResultRequest { action_digest, ..Default::default() };
    fixture.store.fail(1, Fault::Unavailable);
    assert_unavailable(&service.get_action_result(asked(get.clone())).await.expect_err("cannot be asked"));
    service.get_action_result(asked(get)).await.expect("still there");
}
