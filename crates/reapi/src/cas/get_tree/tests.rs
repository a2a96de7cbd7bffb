use std::collections::HashSet;

use bytes::Bytes;
use cache_types::{Digest, DigestFunction};
use futures::TryStreamExt;
use store::{BlobStore, MemoryStore};
use tonic::Code;

use super::*;
use crate::Settings;

struct Fixture {
    core: Arc<Core>,
    store: Arc<MemoryStore>,
}

impl Fixture {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::default());
        let core = Core::new(store.clone(), store.clone(), Settings::default());
        Self { core: Arc::new(core), store }
    }

    async fn put(&self, data: Vec<u8>) -> Digest {
        let digest = Digest::of(DigestFunction::Sha256, &data);
        self.store.write(digest, Bytes::from(data).into()).await.expect("stored");
        digest
    }

    /// A directory of these children with a file of this name, and a field of a later protocol version.
    async fn directory(&self, file: &str, children: &[Digest]) -> Digest {
        let mut encoded = encode(file, children);
        encoded.extend_from_slice(&[0xfa, 0x3f, 3, b'n', b'e', b'w']);
        self.put(encoded).await
    }

    async fn ask(&self, root: &Digest, page_size: i32, token: &str) -> Result<Vec<GetTreeResponse>, Status> {
        let request = re::GetTreeRequest {
            root_digest: Some(convert::to_wire(root)),
            page_size,
            page_token: token.to_owned(),
            ..Default::default()
        };
        get_tree(self.core.clone(), request).await?.try_collect().await
    }
}

fn encode(file: &str, children: &[Digest]) -> Vec<u8> {
    let directories = children
        .iter()
        .enumerate()
        .map(|(index, digest)| re::DirectoryNode { name: format!("d{index}"), digest: Some(convert::to_wire(digest)) });
    let file = re::FileNode {
        name: file.to_owned(),
        digest: Some(convert::to_wire(&Digest::of(DigestFunction::Sha256, file.as_bytes()))),
        ..Default::default()
    };
    re::Directory { files: vec![file], directories: directories.collect(), ..Default::default() }.encode_to_vec()
}

fn sent(responses: &[GetTreeResponse]) -> Vec<Digest> {
    let directories = responses.iter().flat_map(|response| &response.directories);
    directories.map(|encoded| Digest::of(DigestFunction::Sha256, encoded)).collect()
}

#[tokio::test]
async fn a_tree_comes_breadth_first_each_directory_once_as_the_stored_bytes() {
    let fixture = Fixture::new();
    let leaf = fixture.directory("leaf", &[]).await;
    let left = fixture.directory("left", &[leaf]).await;
    let right = fixture.directory("right", &[leaf, left]).await;
    let root = fixture.directory("root", &[left, right, leaf]).await;
    let whole = fixture.ask(&root, 0, "").await.expect("answered");
    assert_eq!(sent(&whole), [root, left, right, leaf]);
    assert_eq!(whole.last().expect("one").next_page_token, "");
    for page_size in 1..6 {
        let pages = fixture.ask(&root, page_size, "").await.expect("answered");
        assert_eq!(sent(&pages), [root, left, right, leaf], "pages of {page_size}");
        let (last, before) = pages.split_last().expect("one at least");
        assert!(last.next_page_token.is_empty());
        for (index, page) in before.iter().enumerate() {
            assert_eq!(page.directories.len(), usize::try_from(page_size).expect("positive"));
            let rest = fixture.ask(&root, page_size, &page.next_page_token).await.expect("answered");
            assert_eq!(rest, pages[index + 1..]);
        }
    }
}

#[tokio::test]
async fn broken_descendants_are_left_out_and_a_broken_root_is_refused() {
    let fixture = Fixture::new();
    let gone = Digest::of(DigestFunction::Sha256, b"gone");
    let text = fixture.put(vec![0xff; 10]).await;
    let leaf = fixture.directory("leaf", &[]).await;
    let root = fixture.directory("root", &[gone, text, leaf]).await;
    assert_eq!(sent(&fixture.ask(&root, 0, "").await.expect("answered")), [root, leaf]);
    let code = |result: Result<Vec<GetTreeResponse>, Status>| result.expect_err("refused").code();
    assert_eq!(code(fixture.ask(&gone, 0, "").await), Code::NotFound);
    assert_eq!(code(fixture.ask(&text, 0, "").await), Code::InvalidArgument);
    assert_eq!(code(fixture.ask(&root, -1, "").await), Code::InvalidArgument);
    let foreign = page_token::make(&leaf, 1);
    for token in ["x", "1-0000000000000000", foreign.as_str()] {
        assert_eq!(code(fixture.ask(&root, 0, token).await), Code::InvalidArgument, "{token}");
    }
}

#[tokio::test]
async fn a_large_tree_comes_in_messages_below_the_limit() {
    let fixture = Fixture::new();
    let mut children = Vec::new();
    for index in 0..40 {
        children.push(fixture.put(encode(&format!("{index}{}", "n".repeat(300_000)), &[])).await);
    }
    let root = fixture.directory("root", &children).await;
    let responses = fixture.ask(&root, 0, "").await.expect("answered");
    assert!(responses.len() > 2);
    assert!(responses.iter().all(|response| response.encoded_len() < MAX_OUTBOUND_BYTES));
    assert_eq!(sent(&responses).into_iter().collect::<HashSet<_>>().len(), 41);
    // Each token continues after its own message.
    let rest = fixture.ask(&root, 0, &responses[0].next_page_token).await.expect("answered");
    assert_eq!(sent(&rest), sent(&responses[1..]));
}
