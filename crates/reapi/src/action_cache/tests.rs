use cache_types::{Digest, DigestFunction, InstanceName};
use proptest::prelude::*;
use prost::Message;
use store::{BlobStore, MemoryStore, Provenance, RecordKey, RecordStore};
use tonic::Code;

use super::*;
use crate::Settings;
use crate::convert::to_wire;
use crate::proto::re;
use crate::request_metadata::Requester;

struct Fixture {
    core: Core,
    store: Arc<MemoryStore>,
    action: Digest,
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        let store = Arc::new(MemoryStore::default());
        let core = Core::new(store.clone(), store.clone(), settings);
        Self { core, store, action: digest(b"action") }
    }

    async fn put(&self, data: &[u8]) -> Digest {
        self.store.write(digest(data), Bytes::copy_from_slice(data).into()).await.expect("stored");
        digest(data)
    }

    async fn update_bytes(&self, encoded: Vec<u8>) -> Result<Bytes, Status> {
        let request = UpdateActionResultRequest {
            action_digest: Some(to_wire(&self.action)),
            action_result: Some(encoded.into()),
            ..Default::default()
        };
        update::update(&self.core, request, "tester").await
    }

    async fn update(&self, result: &re::ActionResult) -> Result<re::ActionResult, Code> {
        let stored = self.update_bytes(result.encode_to_vec()).await.map_err(|status| status.code())?;
        Ok(re::ActionResult::decode(stored).expect("an ActionResult"))
    }

    fn request(&self) -> re::GetActionResultRequest {
        re::GetActionResultRequest { action_digest: Some(to_wire(&self.action)), ..Default::default() }
    }

    async fn get(&self) -> Result<re::ActionResult, Code> {
        self.ask(self.request()).await
    }

    async fn ask(&self, request: re::GetActionResultRequest) -> Result<re::ActionResult, Code> {
        let encoded = get::get(&self.core, &Requester::default(), request).await.map_err(|status| status.code())?;
        assert!(encoded.len() < crate::limits::MAX_OUTBOUND_BYTES);
        Ok(re::ActionResult::decode(encoded).expect("an ActionResult"))
    }

    fn name(&self) -> ActionName {
        ActionName::of(InstanceName::default(), &self.action)
    }

    fn key(&self) -> RecordKey {
        self.name().key()
    }
}

fn digest(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

fn file(path: &str, digest: &Digest) -> re::OutputFile {
    re::OutputFile { path: path.to_owned(), digest: Some(to_wire(digest)), ..Default::default() }
}

fn directory(name: &str, file: &Digest, children: &[Digest]) -> re::Directory {
    let node = re::FileNode { name: name.to_owned(), digest: Some(to_wire(file)), ..Default::default() };
    let child = |digest: &Digest| re::DirectoryNode { name: digest.to_string(), digest: Some(to_wire(digest)) };
    re::Directory { files: vec![node], directories: children.iter().map(child).collect(), ..Default::default() }
}

fn with_directory(tree: Option<&Digest>, root: Option<&Digest>) -> re::ActionResult {
    let directory = re::OutputDirectory {
        path: "out".to_owned(),
        tree_digest: tree.map(to_wire),
        root_directory_digest: root.map(to_wire),
        ..Default::default()
    };
    re::ActionResult { output_directories: vec![directory], ..Default::default() }
}

#[tokio::test]
async fn a_result_is_served_only_while_all_that_it_names_is_here() {
    let fixture = Fixture::new(Settings::default());
    let (out, stdout, stderr) = (fixture.put(b"out").await, fixture.put(b"so").await, fixture.put(b"se").await);
    let result = re::ActionResult {
        output_files: vec![file("out", &out), file("empty", &Digest::empty(DigestFunction::Sha256))],
        stdout_digest: Some(to_wire(&stdout)),
        stderr_digest: Some(to_wire(&stderr)),
        exit_code: 3,
        ..Default::default()
    };
    assert_eq!(fixture.get().await, Err(Code::NotFound));
    let stored = fixture.update(&result).await.expect("stored");
    assert_eq!(stored.execution_metadata.as_ref().map(|metadata| metadata.worker.as_str()), Some("remote-cache"));
    assert_eq!(fixture.get().await.as_ref(), Ok(&stored));
    for blob in [b"out".as_slice(), b"so", b"se"] {
        fixture.store.forget(&digest(blob));
        assert_eq!(fixture.get().await, Err(Code::NotFound));
        fixture.put(blob).await;
        assert_eq!(fixture.get().await.as_ref(), Ok(&stored), "an incomplete result is hidden, not dropped");
    }
}

#[tokio::test]
async fn the_files_of_a_tree_count_and_its_directories_do_not() {
    let fixture = Fixture::new(Settings::default());
    let (top, deep) = (fixture.put(b"top").await, fixture.put(b"deep").await);
    let child = directory("deep", &deep, &[]);
    let root = directory("top", &top, &[digest(&child.encode_to_vec())]);
    let tree = re::Tree { root: Some(root), children: vec![child] };
    let tree = fixture.put(&tree.encode_to_vec()).await;
    fixture.update(&with_directory(Some(&tree), None)).await.expect("stored");
    assert!(fixture.get().await.is_ok(), "Directory blobs of a tree are never uploaded");
    for lost in [deep, top, tree] {
        fixture.store.forget(&lost);
        assert_eq!(fixture.get().await, Err(Code::NotFound), "{lost}");
        match lost {
            lost if lost == deep => fixture.put(b"deep").await,
            lost if lost == top => fixture.put(b"top").await,
            lost => lost,
        };
    }
}

#[tokio::test]
async fn the_directories_below_a_root_digest_count_with_their_files() {
    let fixture = Fixture::new(Settings::default());
    let (top, deep) = (fixture.put(b"top").await, fixture.put(b"deep").await);
    let child = directory("deep", &deep, &[]).encode_to_vec();
    let root = directory("top", &top, &[digest(&child)]).encode_to_vec();
    let root = fixture.put(&root).await;
    fixture.update(&with_directory(None, Some(&root))).await.expect("stored");
    assert_eq!(fixture.get().await, Err(Code::NotFound), "the child is not here yet");
    let child = fixture.put(&child).await;
    assert!(fixture.get().await.is_ok());
    for lost in [deep, child, root] {
        fixture.store.forget(&lost);
        assert_eq!(fixture.get().await, Err(Code::NotFound), "{lost}");
    }
}

#[tokio::test]
async fn what_is_malformed_is_dropped() {
    let fixture = Fixture::new(Settings::default());
    let text = fixture.put(&[0xff; 20]).await;
    let bad_path = re::ActionResult { output_files: vec![file("/abs", &text)], ..Default::default() };
    let bad_tree = with_directory(Some(&text), None);
    let bad_root = with_directory(None, Some(&text));
    for record in [vec![0xff; 9], bad_path.encode_to_vec(), bad_tree.encode_to_vec(), bad_root.encode_to_vec()] {
        fixture
            .store
            .put(fixture.key(), fixture.name().record(&record, &Provenance::now("tester")))
            .await
            .expect("stored");
        assert_eq!(fixture.get().await, Err(Code::NotFound));
        assert_eq!(fixture.store.get(&fixture.key()).await.expect("answers"), None);
    }
}

#[tokio::test]
async fn inlined_bytes_move_into_the_cas_and_come_back_only_when_asked_for() {
    let fixture = Fixture::new(Settings::default());
    let mut inlined = file("a/b", &digest(b"contents"));
    inlined.contents = Bytes::from_static(b"contents");
    let bare = re::OutputFile { path: "c".to_owned(), contents: Bytes::from_static(b"bare"), ..Default::default() };
    let mut result = re::ActionResult {
        output_files: vec![inlined, bare],
        stdout_raw: Bytes::from_static(b"stdout"),
        stderr_raw: Bytes::from_static(b"stderr"),
        ..Default::default()
    };
    let stored = fixture.update(&result).await.expect("stored");
    assert!(stored.stdout_raw.is_empty() && stored.stderr_raw.is_empty());
    assert!(stored.output_files.iter().all(|file| file.contents.is_empty() && file.digest.is_some()));
    assert_eq!(stored.stdout_digest, Some(to_wire(&digest(b"stdout"))));
    assert_eq!(fixture.get().await.as_ref(), Ok(&stored));

    let mut request = re::GetActionResultRequest { inline_stdout: true, inline_stderr: true, ..fixture.request() };
    let streams = fixture.ask(request.clone()).await.expect("complete");
    assert_eq!((&streams.stdout_raw[..], &streams.stderr_raw[..]), (&b"stdout"[..], &b"stderr"[..]));
    assert_eq!(streams.stderr_digest, stored.stderr_digest);
    request.inline_output_files = vec!["a/b".to_owned(), "none".to_owned()];
    let files = fixture.ask(request).await.expect("complete");
    assert_eq!(files.output_files[0].contents, "contents");
    assert!(files.output_files[1].contents.is_empty());
    assert_eq!(files.stdout_raw, "stdout");

    result.stdout_digest = Some(to_wire(&digest(b"other")));
    assert_eq!(fixture.update(&result).await, Err(Code::InvalidArgument));
}

#[tokio::test]
async fn inlining_stops_at_its_limit_in_the_order_stdout_stderr_files() {
    let fixture = Fixture::new(Settings::default());
    let (stdout, stderr) = (fixture.put(&vec![1; 1 << 20]).await, fixture.put(&vec![2; 1 << 20]).await);
    let (large, small) = (fixture.put(&vec![3; 3 << 20]).await, fixture.put(b"small").await);
    let result = re::ActionResult {
        output_files: vec![file("large", &large), file("small", &small)],
        stdout_digest: Some(to_wire(&stdout)),
        stderr_digest: Some(to_wire(&stderr)),
        ..Default::default()
    };
    fixture.update(&result).await.expect("stored");
    let request = re::GetActionResultRequest {
        inline_stdout: true,
        inline_stderr: true,
        inline_output_files: vec!["large".to_owned(), "small".to_owned()],
        ..fixture.request()
    };
    let answer = fixture.ask(request).await.expect("complete");
    assert_eq!(answer.stdout_raw.len(), 1 << 20);
    assert!(answer.stderr_raw.is_empty(), "it would pass the limit");
    assert!(answer.output_files[0].contents.is_empty());
    assert_eq!(answer.output_files[1].contents, "small");
}

#[tokio::test]
async fn fields_of_a_later_version_survive() {
    let fixture = Fixture::new(Settings::default());
    let out = fixture.put(b"out").await;
    let result = re::ActionResult { output_files: vec![file("out", &out)], ..Default::default() };
    let mut sent = result.encode_to_vec();
    let unknown = [0xfa, 0x3f, 3, b'n', b'e', b'w'];
    sent.extend_from_slice(&unknown);
    let stored = fixture.update_bytes(sent.clone()).await.expect("stored");
    assert!(stored.starts_with(&sent));
    let request = re::GetActionResultRequest { inline_stdout: true, ..fixture.request() };
    assert!(get::get(&fixture.core, &Requester::default(), request).await.expect("complete").starts_with(&sent));
}

#[tokio::test]
async fn a_key_is_instance_function_hash_and_size() {
    let fixture = Fixture::new(Settings::default());
    fixture.update(&re::ActionResult::default()).await.expect("stored");
    assert!(fixture.get().await.is_ok());
    let other = re::GetActionResultRequest { instance_name: "other".to_owned(), ..fixture.request() };
    assert_eq!(fixture.ask(other).await, Err(Code::NotFound));
    let blake3 =
        re::GetActionResultRequest { digest_function: re::digest_function::Value::Blake3 as i32, ..fixture.request() };
    assert_eq!(fixture.ask(blake3).await, Err(Code::NotFound));
    let mut size = fixture.request();
    size.action_digest.as_mut().expect("set").size_bytes += 1;
    assert_eq!(fixture.ask(size).await, Err(Code::NotFound));
    let slash = re::GetActionResultRequest { instance_name: "/".to_owned(), ..fixture.request() };
    assert!(fixture.ask(slash).await.is_ok());
}

#[tokio::test]
async fn malformed_updates_are_refused() {
    let fixture = Fixture::new(Settings { priorities: -5..=5, ..Settings::default() });
    let good = UpdateActionResultRequest {
        action_digest: Some(to_wire(&fixture.action)),
        action_result: Some(Bytes::new()),
        ..Default::default()
    };
    let policy = |priority| Some(re::ResultsCachePolicy { priority });
    let ok = [good.clone(), UpdateActionResultRequest { results_cache_policy: policy(-5), ..good.clone() }];
    let bad = [
        UpdateActionResultRequest { action_digest: None, ..good.clone() },
        UpdateActionResultRequest { action_result: None, ..good.clone() },
        UpdateActionResultRequest { action_result: Some(Bytes::from_static(&[0xff])), ..good.clone() },
        UpdateActionResultRequest { results_cache_policy: policy(6), ..good.clone() },
        UpdateActionResultRequest { digest_function: 3, ..good.clone() },
        UpdateActionResultRequest { digest_function: 2, ..good.clone() },
        UpdateActionResultRequest { instance_name: "a/blobs".to_owned(), ..good },
    ];
    for request in ok {
        update::update(&fixture.core, request, "tester").await.expect("stored");
    }
    for request in bad {
        let status = update::update(&fixture.core, request, "tester").await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument);
    }
    let files = (0..60_000).map(|index| file(&format!("file{index}"), &digest(b"x"))).collect();
    let large = re::ActionResult { output_files: files, ..Default::default() };
    let refused = fixture.update(&large).await.map(|_stored| ());
    assert_eq!(refused, Err(Code::InvalidArgument), "no answer could carry it");
}

#[tokio::test]
async fn the_action_and_its_command_are_asked_for_only_when_told_to() {
    let mut fixture = Fixture::new(Settings { require_action_in_cas: true, ..Settings::default() });
    let command = digest(b"command");
    let action = re::Action { command_digest: Some(to_wire(&command)), ..Default::default() }.encode_to_vec();
    fixture.action = digest(&action);
    let result = re::ActionResult::default();
    assert_eq!(fixture.update(&result).await, Err(Code::FailedPrecondition));
    fixture.put(&action).await;
    assert_eq!(fixture.update(&result).await, Err(Code::FailedPrecondition));
    fixture.put(b"command").await;
    assert!(fixture.update(&result).await.is_ok());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn any_record_is_served_or_dropped_and_any_update_stored_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let fixture = Fixture::new(Settings::default());
            fixture.store.put(fixture.key(), fixture.name().record(&bytes, &Provenance::now("tester"))).await.expect("stored");
            assert!(matches!(fixture.get().await, Ok(_) | Err(Code::NotFound)));
            let updated = fixture.update_bytes(bytes).await.map_err(|status| status.code());
            assert!(matches!(updated, Ok(_) | Err(Code::InvalidArgument)));
        });
    }
}
