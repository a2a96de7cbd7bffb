//! GetTree. Spec: reapi §8.

use std::collections::HashSet;

use prost::Message as _;
use tonic::Code;
use tonic::codegen::http::uri::PathAndQuery;

use crate::case::{Case, Context, case, directory_node, file_node, invalid, message_blob, refused};
use crate::harness::{Blob, Client, re};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_095_an_absent_root_a_root_that_is_no_directory_and_missing_descendants", r_095),
        case("r_096_each_directory_once_root_first_bytes_unchanged", r_096),
        case("r_097_the_page_size_is_an_upper_bound", r_097),
        case("r_098_a_page_token_goes_on_where_the_page_ended", r_098),
        case("r_099_a_graph_that_expands_without_end_is_answered_once_per_directory", r_099),
        case("q_40_inputs_are_fetched_by_get_tree_and_read", q_40),
    ]
}

async fn get_tree(
    client: &Client,
    root: &re::Digest,
    page_size: i32,
    token: &str,
) -> Result<Vec<re::GetTreeResponse>, tonic::Status> {
    let request = re::GetTreeRequest {
        root_digest: Some(root.clone()),
        page_size,
        page_token: token.to_owned(),
        ..Default::default()
    };
    let mut stream = client.cas().get_tree(request).await?.into_inner();
    let mut pages = Vec::new();
    while let Some(page) = stream.message().await? {
        pages.push(page);
    }
    Ok(pages)
}

async fn directories(client: &Client, root: &re::Digest) -> Vec<re::Directory> {
    let pages = get_tree(client, root, 0, "").await.expect("GetTree");
    pages.into_iter().flat_map(|page| page.directories).collect()
}

/// A root with `fan` folders, each with as many; stored. The root last.
async fn stored_tree(context: &Context, fan: usize) -> Vec<re::Directory> {
    let client = &context.client;
    let file = context.stored(100).await;
    let mut all = Vec::new();
    let mut middle = Vec::new();
    for at in 0..fan {
        let mut leaves = Vec::new();
        for leaf in 0..fan {
            let name = format!("file-{at}-{leaf}");
            leaves.push(re::Directory { files: vec![file_node(&name, &file)], ..Default::default() });
        }
        middle.push(store_parent(client, &leaves).await);
        all.extend(leaves);
    }
    let root = store_parent(client, &middle).await;
    client.write(&message_blob(&root)).await.expect("Write");
    all.extend(middle);
    all.push(root);
    all
}

/// Stores the children; the directory that names them.
async fn store_parent(client: &Client, children: &[re::Directory]) -> re::Directory {
    let mut parent = re::Directory::default();
    for (at, child) in children.iter().enumerate() {
        let blob = message_blob(child);
        client.write(&blob).await.expect("Write");
        parent.directories.push(directory_node(&format!("folder-{at:04}"), &blob));
    }
    parent
}

async fn r_095(context: Context) {
    let client = &context.client;
    let absent = context.blobs(2, 50)[1].digest.clone();
    refused(get_tree(client, &absent, 0, "").await, Code::NotFound, "an absent root");
    let noise = Blob::new([&[0xff; 3][..], &context.blob(200).data].concat());
    client.write(&noise).await.expect("Write");
    invalid(get_tree(client, &noise.digest, 0, "").await, "a root that is no Directory");
    let request = re::GetTreeRequest::default();
    invalid(client.cas().get_tree(request).await.map(|_| ()), "no root");
    // One child is there, one is not, one is broken: the rest is answered.
    let leaf = re::Directory { files: vec![file_node("f", &noise)], ..Default::default() };
    let mut root = store_parent(client, std::slice::from_ref(&leaf)).await;
    root.directories.push(re::DirectoryNode { name: "gone".to_owned(), digest: Some(absent) });
    root.directories.push(directory_node("noise", &noise));
    let blob = message_blob(&root);
    client.write(&blob).await.expect("Write");
    assert_eq!(directories(client, &blob.digest).await, [root, leaf]);
}

async fn r_096(context: Context) {
    let client = &context.client;
    let tree = stored_tree(&context, 5).await;
    let root = tree.last().expect("the root");
    let answer = directories(client, &message_blob(root).digest).await;
    assert_eq!(answer[0], *root, "the root first");
    let expected: HashSet<Vec<u8>> = tree.iter().map(|directory| directory.encode_to_vec()).collect();
    assert_eq!(answer.len(), expected.len(), "each once");
    assert_eq!(answer.iter().map(|directory| directory.encode_to_vec()).collect::<HashSet<_>>(), expected);
    // A directory with a field that this version of the protocol does not know keeps its digest.
    let mut bytes =
        re::Directory { files: vec![file_node("f", &context.blob(100))], ..Default::default() }.encode_to_vec();
    bytes.extend([0xa2, 0x06, 0x03, b'n', b'e', b'w']);
    let newer = Blob::new(bytes);
    client.write(&newer).await.expect("Write");
    assert_eq!(raw_directories(client, &newer.digest).await, [newer.data]);
}

/// The answer of GetTree with each Directory as the bytes that came.
#[derive(Clone, PartialEq, prost::Message)]
struct RawTree {
    #[prost(bytes = "vec", repeated, tag = "1")]
    directories: Vec<Vec<u8>>,
}

async fn raw_directories(client: &Client, root: &re::Digest) -> Vec<Vec<u8>> {
    let mut grpc = tonic::client::Grpc::new(client.channel());
    grpc.ready().await.expect("a connection");
    let path = PathAndQuery::from_static("/build.bazel.remote.execution.v2.ContentAddressableStorage/GetTree");
    let request = re::GetTreeRequest { root_digest: Some(root.clone()), ..Default::default() };
    let codec = tonic_prost::ProstCodec::<re::GetTreeRequest, RawTree>::default();
    let response = grpc.server_streaming(tonic::Request::new(request), path, codec).await.expect("GetTree");
    let mut stream = response.into_inner();
    let mut directories = Vec::new();
    while let Some(page) = stream.message().await.expect("GetTree") {
        directories.extend(page.directories);
    }
    directories
}

async fn r_097(context: Context) {
    let client = &context.client;
    let tree = stored_tree(&context, 4).await;
    let root = message_blob(tree.last().expect("the root")).digest;
    for page_size in [1, 3, 1000] {
        let pages = get_tree(client, &root, page_size, "").await.expect("GetTree");
        let limit = usize::try_from(page_size).expect("positive");
        assert!(pages.iter().all(|page| page.directories.len() <= limit), "{page_size}");
        assert_eq!(pages.iter().map(|page| page.directories.len()).sum::<usize>(), tree.len());
    }
    for page_size in [-1, i32::MIN] {
        invalid(get_tree(client, &root, page_size, "").await, "a negative page size");
    }
}

async fn r_098(context: Context) {
    let client = &context.client;
    let tree = stored_tree(&context, 4).await;
    let root = message_blob(tree.last().expect("the root")).digest;
    let whole = directories(client, &root).await;
    let pages = get_tree(client, &root, 5, "").await.expect("GetTree");
    assert_eq!(pages.last().expect("pages").next_page_token, "", "the last page");
    let mut done = 0;
    for page in &pages[..pages.len() - 1] {
        done += page.directories.len();
        assert_ne!(page.next_page_token, "");
        let rest = get_tree(client, &root, 5, &page.next_page_token).await.expect("GetTree");
        let rest: Vec<re::Directory> = rest.into_iter().flat_map(|page| page.directories).collect();
        assert_eq!(rest, whole[done..], "after {done}");
    }
    for token in ["nonsense", "999999999", "-1", "é", &format!("{}x", pages[0].next_page_token)] {
        invalid(get_tree(client, &root, 5, token).await, token);
    }
}

async fn r_099(context: Context) {
    let client = &context.client;
    // 40 levels, each naming the next one twice: 2^40 paths, 41 directories.
    let mut blob = message_blob(&re::Directory { files: vec![file_node("f", &context.blob(7))], ..Default::default() });
    for _ in 0..40 {
        client.write(&blob).await.expect("Write");
        let nodes = vec![directory_node("a", &blob), directory_node("b", &blob)];
        blob = message_blob(&re::Directory { directories: nodes, ..Default::default() });
    }
    client.write(&blob).await.expect("Write");
    assert_eq!(directories(client, &blob.digest).await.len(), 41);
}

async fn q_40(context: Context) {
    let client = context.client.instance("team");
    let file = context.stored(100).await;
    let leaf = re::Directory { files: vec![file_node("f", &file)], ..Default::default() };
    let root = store_parent(&client, &[leaf]).await;
    let blob = message_blob(&root);
    client.batch_update(std::slice::from_ref(&blob)).await.expect("BatchUpdate");
    let request =
        re::GetTreeRequest { instance_name: "team".to_owned(), root_digest: Some(blob.digest), ..Default::default() };
    let mut stream = client.cas().get_tree(request).await.expect("GetTree").into_inner();
    let page = stream.message().await.expect("GetTree").expect("a page");
    let digest = page.directories[1].files[0].digest.clone().expect("a digest");
    assert_eq!(client.read(&digest).await.expect("Read"), file.data);
}
