//! An action result is served only when all that it names is there. Spec: reapi §10, completeness.

use tonic::Code;

use crate::case::{
    Case, Context, action, case, directory_node, file_node, message_blob, output_file, refused, result_with,
};
use crate::harness::{Blob, Random, Server, re};
use crate::lifetimes::damage;

pub fn cases() -> Vec<Case> {
    vec![
        case("r_125_a_result_with_anything_missing_is_a_miss", r_125),
        case("r_126_directories_inside_a_tree_need_not_be_blobs", r_126),
        case("r_127_trees_large_and_topologically_sorted", r_127),
        case("section_17_4_a_result_whose_tree_lost_a_file_is_a_miss", section_17_4),
        case("pain_02_a_result_is_not_served_when_its_output_is_gone", section_17_4),
    ]
}

/// A result that names a blob in every way that there is, and all those blobs.
fn full_result(random: &mut Random) -> (re::ActionResult, Vec<(&'static str, Blob)>) {
    let mut blobs = Vec::new();
    let mut add = |what, blob: Blob| {
        blobs.push((what, blob.clone()));
        blob
    };
    let file = add("an output file", Blob::random(random, 100));
    let stdout = add("standard output", Blob::random(random, 101));
    let stderr = add("standard error", Blob::random(random, 102));
    let in_root = add("a file in a tree's root", Blob::random(random, 103));
    let in_child = add("a file in a tree's child", Blob::random(random, 104));
    let in_grandchild = add("a file in a tree's grandchild", Blob::random(random, 105));
    let grandchild = re::Directory { files: vec![file_node("g", &in_grandchild)], ..Default::default() };
    let child = re::Directory {
        files: vec![file_node("c", &in_child)],
        directories: vec![directory_node("grandchild", &message_blob(&grandchild))],
        ..Default::default()
    };
    let root = re::Directory {
        files: vec![file_node("r", &in_root)],
        directories: vec![directory_node("child", &message_blob(&child))],
        ..Default::default()
    };
    let tree = message_blob(&re::Tree { root: Some(root), children: vec![child, grandchild] });
    let tree = add("a tree", tree);
    let below = add("a file below a root directory", Blob::random(random, 106));
    let leaf = re::Directory { files: vec![file_node("l", &below)], ..Default::default() };
    let leaf = add("a directory below a root directory", message_blob(&leaf));
    let top = re::Directory { directories: vec![directory_node("leaf", &leaf)], ..Default::default() };
    let top = add("a root directory", message_blob(&top));
    let result = re::ActionResult {
        output_files: vec![output_file("file", &file)],
        stdout_digest: Some(stdout.digest),
        stderr_digest: Some(stderr.digest),
        output_directories: vec![
            re::OutputDirectory {
                path: "tree".to_owned(),
                tree_digest: Some(tree.digest),
                is_topologically_sorted: true,
                ..Default::default()
            },
            re::OutputDirectory {
                path: "root".to_owned(),
                root_directory_digest: Some(top.digest),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    (result, blobs)
}

async fn r_125(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let kinds = full_result(&mut random.clone()).1.len();
    for missing in 0..kinds {
        let (result, blobs) = full_result(&mut random);
        let action = action(&mut random);
        for (at, (_, blob)) in blobs.iter().enumerate() {
            if at != missing {
                client.write(blob).await.expect("Write");
            }
        }
        client.update_action_result(&action, result.clone()).await.expect("UpdateActionResult");
        let (what, blob) = &blobs[missing];
        refused(client.action_result(&action).await, Code::NotFound, what);
        client.write(blob).await.expect("Write");
        client.update_action_result(&action, result).await.expect("UpdateActionResult");
        client.action_result(&action).await.expect("complete");
    }
}

async fn r_126(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let file = context.stored(100).await;
    let child = re::Directory { files: vec![file_node("f", &file)], ..Default::default() };
    let child_blob = message_blob(&child);
    let root = re::Directory { directories: vec![directory_node("child", &child_blob)], ..Default::default() };
    let root_blob = message_blob(&root);
    let tree = message_blob(&re::Tree { root: Some(root), children: vec![child] });
    client.write(&tree).await.expect("Write");
    let directory = |root_directory_digest| re::ActionResult {
        output_directories: vec![re::OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(tree.digest.clone()),
            root_directory_digest,
            ..Default::default()
        }],
        ..Default::default()
    };
    let digest = action(&mut random);
    client.update_action_result(&digest, directory(None)).await.expect("UpdateActionResult");
    assert_eq!(client.find_missing(std::slice::from_ref(&child_blob.digest)).await.expect("FindMissing").len(), 1);
    client.action_result(&digest).await.expect("a hit: the directory is inside the tree");
    // With a root directory digest the directories are asked for.
    let digest = action(&mut random);
    let with_root = directory(Some(root_blob.digest.clone()));
    client.update_action_result(&digest, with_root.clone()).await.expect("UpdateActionResult");
    refused(client.action_result(&digest).await, Code::NotFound, "no Directory blobs");
    client.write(&root_blob).await.expect("Write");
    client.update_action_result(&digest, with_root.clone()).await.expect("UpdateActionResult");
    refused(client.action_result(&digest).await, Code::NotFound, "one Directory blob of two");
    client.write(&child_blob).await.expect("Write");
    client.update_action_result(&digest, with_root).await.expect("UpdateActionResult");
    client.action_result(&digest).await.expect("both");
}

async fn r_127(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    // 10,000 folders with a file each, all different: a Tree of more than a MiB.
    let files = context.blobs(100, 20);
    client.batch_update(&files).await.expect("BatchUpdate");
    let mut children: Vec<re::Directory> = (0..10_000)
        .map(|at| re::Directory { files: vec![file_node(&format!("f{at}"), &files[at % 100])], ..Default::default() })
        .collect();
    let nodes =
        children.iter().enumerate().map(|(at, child)| directory_node(&format!("d{at:05}"), &message_blob(child)));
    let root = re::Directory { directories: nodes.collect(), ..Default::default() };
    let result = |tree: &Blob, is_topologically_sorted| re::ActionResult {
        output_directories: vec![re::OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(tree.digest.clone()),
            is_topologically_sorted,
            ..Default::default()
        }],
        ..Default::default()
    };
    for is_sorted in [true, false] {
        children.reverse();
        let tree = message_blob(&re::Tree { root: Some(root.clone()), children: children.clone() });
        assert!(tree.data.len() > 1 << 20);
        client.write(&tree).await.expect("Write");
        let digest = action(&mut random);
        client.update_action_result(&digest, result(&tree, is_sorted)).await.expect("UpdateActionResult");
        client.action_result(&digest).await.expect("a large tree");
    }
    // The file of the last folder is missing: it is found out.
    let absent = Blob::random(&mut random, 30);
    children.push(re::Directory { files: vec![file_node("gone", &absent)], ..Default::default() });
    let tree = message_blob(&re::Tree { root: Some(root), children });
    client.write(&tree).await.expect("Write");
    let digest = action(&mut random);
    client.update_action_result(&digest, result(&tree, false)).await.expect("UpdateActionResult");
    refused(client.action_result(&digest).await, Code::NotFound, "the last file of a large tree");
}

async fn section_17_4(context: Context) {
    let mut server = Server::start(&[]);
    let client = server.client();
    let mut random = context.random();
    let (lost, kept) = (Blob::random(&mut random, 80_000), Blob::random(&mut random, 90_000));
    let root = re::Directory { files: vec![file_node("a", &kept), file_node("b", &lost)], ..Default::default() };
    let tree = message_blob(&re::Tree { root: Some(root), ..Default::default() });
    for blob in [&lost, &kept, &tree] {
        client.write(blob).await.expect("Write");
    }
    let (with_tree, with_file) = (action(&mut random), action(&mut random));
    let result = re::ActionResult {
        output_directories: vec![re::OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(tree.digest.clone()),
            ..Default::default()
        }],
        ..Default::default()
    };
    client.update_action_result(&with_tree, result).await.expect("UpdateActionResult");
    client.update_action_result(&with_file, result_with(&lost)).await.expect("UpdateActionResult");
    client.action_result(&with_tree).await.expect("whole");
    server.terminate();
    damage(server.folder(), &lost.data);
    server.restart();
    let client = server.client();
    assert!(client.read(&lost.digest).await.is_err(), "a damaged blob was served");
    refused(client.action_result(&with_tree).await, Code::NotFound, "the tree lost a file");
    refused(client.action_result(&with_file).await, Code::NotFound, "the file is gone");
    client.write(&lost).await.expect("Write");
    client.update_action_result(&with_file, result_with(&lost)).await.expect("UpdateActionResult");
    client.action_result(&with_file).await.expect("whole again");
}
