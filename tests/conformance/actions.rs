//! The action cache: reading, writing, what is refused. Spec: reapi §10.

use prost::Message as _;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::{Code, Status};

use crate::case::{Case, Context, action, case, file_node, invalid, message_blob, output_file, refused, result_with};
use crate::harness::{Blob, Client, digest_of, re};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_120_an_absent_result_is_not_found", r_120),
        case("r_121_bytes_come_inline_only_when_asked_for_and_only_if_they_fit", r_121),
        case("r_122_execution_metadata_is_always_set", r_122),
        case("r_123_a_result_of_a_failed_action_is_returned_as_it_is", r_123),
        case("r_124_an_entry_that_cannot_be_read_is_a_miss", r_124),
        case("r_130_a_malformed_result_is_refused", r_130),
        case("r_131_the_action_itself_need_not_be_stored", r_131),
        case("r_132_outputs_may_come_after_the_result", r_132),
        case("r_133_inlined_bytes_move_into_the_cas", r_133),
        case("r_134_the_last_write_wins", r_134),
        case("r_136_priorities", r_136),
        case("r_137_fields_of_newer_clients_are_kept", r_137),
        case("r_138_symlinks_of_both_forms_come_back", r_138),
        case("q_10_what_bazel_uploads_and_asks_for", q_10),
        case("q_23_an_empty_success_is_not_an_empty_message", r_122),
    ]
}

async fn update(client: &Client, action: &re::Digest, result: re::ActionResult) -> Result<re::ActionResult, Status> {
    client.update_action_result(action, result).await
}

async fn r_120(context: Context) {
    let client = &context.client;
    let action = action(&mut context.random());
    refused(client.action_result(&action).await, Code::NotFound, "absent");
    let blob = context.stored(10).await;
    update(client, &action, result_with(&blob)).await.expect("UpdateActionResult");
    let result = client.action_result(&action).await.expect("GetActionResult");
    assert_eq!(result.output_files, result_with(&blob).output_files);
    // The size is part of the key's truth here too.
    refused(client.action_result(&digest_of(&action.hash, 41)).await, Code::NotFound, "another size");
    invalid(client.action_cache().get_action_result(re::GetActionResultRequest::default()).await, "no digest");
    // What was promised can be read.
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
}

async fn r_121(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let action = action(&mut random);
    let blobs: Vec<Blob> = [100, 200, 300, 400].map(|len| Blob::random(&mut random, len)).into();
    let large = Blob::random(&mut random, 6_000_000);
    client.batch_update(&blobs).await.expect("BatchUpdate");
    client.write(&large).await.expect("Write");
    let result = re::ActionResult {
        output_files: vec![output_file("a/b", &blobs[2]), output_file("a/c", &blobs[3]), output_file("large", &large)],
        stdout_digest: Some(blobs[0].digest.clone()),
        stderr_digest: Some(blobs[1].digest.clone()),
        ..Default::default()
    };
    update(client, &action, result.clone()).await.expect("UpdateActionResult");
    let plain = client.action_result(&action).await.expect("GetActionResult");
    assert!(plain.stdout_raw.is_empty() && plain.stderr_raw.is_empty());
    assert!(plain.output_files.iter().all(|file| file.contents.is_empty()), "nothing unasked");
    let ask = |stdout, stderr, files: &[&str]| {
        let request = re::GetActionResultRequest {
            action_digest: Some(action.clone()),
            inline_stdout: stdout,
            inline_stderr: stderr,
            inline_output_files: files.iter().map(|file| (*file).to_owned()).collect(),
            ..Default::default()
        };
        let mut stub = client.action_cache();
        async move { stub.get_action_result(request).await.expect("GetActionResult").into_inner() }
    };
    let one = ask(true, false, &[]).await;
    assert_eq!((one.stdout_raw, one.stderr_raw.len()), (blobs[0].data.clone(), 0));
    let all = ask(true, true, &["a/c", "large", "no/such"]).await;
    assert_eq!((all.stdout_raw, all.stderr_raw), (blobs[0].data.clone(), blobs[1].data.clone()));
    let contents: Vec<usize> = all.output_files.iter().map(|file| file.contents.len()).collect();
    assert_eq!(contents, [0, 400, 0], "a/c was asked for; large does not fit");
    assert_eq!(all.output_files[1].contents, blobs[3].data);
    // Digests stay beside the bytes.
    assert_eq!(all.stdout_digest, result.stdout_digest);
    assert_eq!(all.output_files[1].digest, result.output_files[1].digest);
    assert!(ask(false, false, &["c", "/a/c", "a/c/"]).await.output_files.iter().all(|file| file.contents.is_empty()));
}

async fn r_122(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let action_empty = action(&mut random);
    update(client, &action_empty, re::ActionResult::default()).await.expect("UpdateActionResult");
    let result = client.action_result(&action_empty).await.expect("GetActionResult");
    assert!(result.execution_metadata.is_some());
    assert!(!result.encode_to_vec().is_empty(), "a message of 0 bytes");
    // What a client set stays.
    let metadata = re::ExecutedActionMetadata { worker: "builder-7".to_owned(), ..Default::default() };
    let action = action(&mut random);
    let result = re::ActionResult { execution_metadata: Some(metadata.clone()), ..Default::default() };
    update(client, &action, result).await.expect("UpdateActionResult");
    let result = client.action_result(&action).await.expect("GetActionResult");
    assert_eq!(result.execution_metadata, Some(metadata));
}

async fn r_123(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for exit_code in [0, 1, 137, -1, i32::MAX] {
        let action = action(&mut random);
        update(client, &action, re::ActionResult { exit_code, ..Default::default() })
            .await
            .expect("UpdateActionResult");
        assert_eq!(client.action_result(&action).await.expect("GetActionResult").exit_code, exit_code);
    }
}

async fn r_124(context: Context) {
    let client = &context.client;
    // A result whose tree is no Tree can be stored, and is never a hit.
    let action = action(&mut context.random());
    let noise = Blob::new([&[0xff; 5][..], &context.blob(100).data].concat());
    client.write(&noise).await.expect("Write");
    let directory = |blob: &Blob| re::ActionResult {
        output_directories: vec![re::OutputDirectory {
            path: "d".to_owned(),
            tree_digest: Some(blob.digest.clone()),
            ..Default::default()
        }],
        ..Default::default()
    };
    if update(client, &action, directory(&noise)).await.is_ok() {
        refused(client.action_result(&action).await, Code::NotFound, "a tree that is none");
    }
    let root = re::Directory { files: vec![file_node("f", &noise)], ..Default::default() };
    let tree = message_blob(&re::Tree { root: Some(root), ..Default::default() });
    client.write(&tree).await.expect("Write");
    update(client, &action, directory(&tree)).await.expect("UpdateActionResult");
    client.action_result(&action).await.expect("the right tree");
}

async fn r_130(context: Context) {
    let client = &context.client;
    let blob = context.stored(10).await;
    let digest = action(&mut context.random());
    let file = |path: &str| output_file(path, &blob);
    let with_file = |file| re::ActionResult { output_files: vec![file], ..Default::default() };
    let folder = |path: &str| re::OutputDirectory {
        path: path.to_owned(),
        tree_digest: Some(blob.digest.clone()),
        ..Default::default()
    };
    let with_folder = |folder| re::ActionResult { output_directories: vec![folder], ..Default::default() };
    let link = |path: &str, target: &str| re::OutputSymlink {
        path: path.to_owned(),
        target: target.to_owned(),
        ..Default::default()
    };
    let with_link = |link| re::ActionResult { output_symlinks: vec![link], ..Default::default() };
    let negative = re::Digest { size_bytes: -1, ..blob.digest.clone() };
    for (result, what) in [
        (with_file(file("")), "a file without a path"),
        (with_file(file("/absolute")), "an absolute path"),
        (with_file(file("nul\0")), "NUL in a path"),
        (with_file(re::OutputFile { digest: None, ..file("a") }), "a file without digest and contents"),
        (with_file(re::OutputFile { digest: Some(digest_of("xyz", 3)), ..file("a") }), "a bad digest"),
        (with_file(re::OutputFile { digest: Some(negative.clone()), ..file("a") }), "a negative size"),
        (with_folder(folder("/absolute")), "an absolute directory"),
        (with_folder(re::OutputDirectory { tree_digest: None, ..folder("a") }), "a directory without digests"),
        (with_folder(re::OutputDirectory { tree_digest: Some(negative), ..folder("a") }), "a bad tree digest"),
        (with_link(link("", "target")), "a symlink without a path"),
        (with_link(link("/absolute", "target")), "an absolute symlink"),
        (with_link(link("a", "")), "a symlink without a target"),
        (re::ActionResult { stdout_digest: Some(digest_of("", 3)), ..Default::default() }, "a bad stdout digest"),
    ] {
        invalid(update(client, &digest, result).await, what);
    }
    refused(client.action_result(&digest).await, Code::NotFound, "nothing was stored");
    let request = |action_digest, action_result| re::UpdateActionResultRequest {
        action_digest,
        action_result,
        ..Default::default()
    };
    let mut stub = client.action_cache();
    invalid(stub.update_action_result(request(None, Some(with_file(file("a"))))).await, "no action digest");
    invalid(stub.update_action_result(request(Some(digest.clone()), None)).await, "no result");
    for (result, what) in [
        (with_file(file("../outside")), "`..` in a path"),
        (with_folder(folder("")), "the working directory itself"),
        (with_link(link("a", "/absolute/target")), "an absolute target"),
    ] {
        update(client, &digest, result).await.expect(what);
    }
}

async fn r_131(context: Context) {
    let client = &context.client;
    let made_up = action(&mut context.random());
    assert!(!client.has(&made_up).await);
    update(client, &made_up, re::ActionResult { exit_code: 3, ..Default::default() }).await.expect("no such action");
    assert_eq!(client.action_result(&made_up).await.expect("GetActionResult").exit_code, 3);
}

async fn r_132(context: Context) {
    let client = &context.client;
    let action = action(&mut context.random());
    let blob = context.blob(500);
    update(client, &action, result_with(&blob)).await.expect("outputs that are not there yet");
    refused(client.action_result(&action).await, Code::NotFound, "not complete");
    client.write(&blob).await.expect("Write");
    update(client, &action, result_with(&blob)).await.expect("UpdateActionResult");
    client.action_result(&action).await.expect("complete");
}

async fn r_133(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let digest = action(&mut random);
    let (stdout, stderr, file) =
        (Blob::random(&mut random, 30), Blob::random(&mut random, 31), Blob::random(&mut random, 32));
    let result = re::ActionResult {
        stdout_raw: stdout.data.clone(),
        stderr_raw: stderr.data.clone(),
        stderr_digest: Some(stderr.digest.clone()),
        output_files: vec![re::OutputFile { contents: file.data.clone(), ..output_file("f", &file) }],
        ..Default::default()
    };
    update(client, &digest, result.clone()).await.expect("UpdateActionResult");
    let stored = client.action_result(&digest).await.expect("GetActionResult");
    assert!(stored.stdout_raw.is_empty() && stored.stderr_raw.is_empty() && stored.output_files[0].contents.is_empty());
    assert_eq!(stored.stdout_digest.as_ref(), Some(&stdout.digest));
    assert_eq!(stored.stderr_digest.as_ref(), Some(&stderr.digest));
    for blob in [&stdout, &stderr, &file] {
        assert_eq!(client.read(&blob.digest).await.expect("moved into the CAS"), blob.data);
    }
    let wrong = action(&mut random);
    let other = Blob::random(&mut random, 30).digest;
    for (result, what) in [
        (re::ActionResult { stdout_digest: Some(other.clone()), ..result.clone() }, "stdout"),
        (re::ActionResult { stderr_digest: Some(other.clone()), ..result.clone() }, "stderr"),
        (
            re::ActionResult {
                output_files: vec![re::OutputFile { digest: Some(other), ..result.output_files[0].clone() }],
                ..result
            },
            "contents",
        ),
    ] {
        invalid(update(client, &wrong, result).await, what);
    }
    refused(client.action_result(&wrong).await, Code::NotFound, "nothing was stored");
}

async fn r_134(context: Context) {
    let client = &context.client;
    let action = action(&mut context.random());
    for exit_code in 1..=5 {
        update(client, &action, re::ActionResult { exit_code, ..Default::default() })
            .await
            .expect("UpdateActionResult");
        assert_eq!(client.action_result(&action).await.expect("GetActionResult").exit_code, exit_code);
    }
    // Concurrent writers: one of them wins, whole.
    let blobs = context.blobs(8, 100);
    client.batch_update(&blobs).await.expect("BatchUpdate");
    let writers = blobs.iter().zip(100..).map(|(blob, exit_code)| {
        let result = re::ActionResult { exit_code, ..result_with(blob) };
        let (client, action) = (context.another_client(), action.clone());
        tokio::spawn(async move { update(&client, &action, result).await })
    });
    for writer in writers.collect::<Vec<_>>() {
        writer.await.expect("the task").expect("UpdateActionResult");
    }
    let result = client.action_result(&action).await.expect("GetActionResult");
    let winner = usize::try_from(result.exit_code - 100).expect("one of the writers");
    assert_eq!(result.output_files[0].digest.as_ref(), Some(&blobs[winner].digest), "two results mixed");
}

async fn r_136(context: Context) {
    let mut stub = context.client.action_cache();
    let digest = action(&mut context.random());
    let request = |priority| re::UpdateActionResultRequest {
        action_digest: Some(digest.clone()),
        action_result: Some(re::ActionResult::default()),
        results_cache_policy: Some(re::ResultsCachePolicy { priority }),
        ..Default::default()
    };
    stub.update_action_result(request(0)).await.expect("the default priority");
    for priority in [1_000_000, -1_000_000] {
        // Refused or ignored; never a fault.
        match stub.update_action_result(request(priority)).await {
            Ok(_) => {}
            Err(status) => assert_eq!(status.code(), Code::InvalidArgument, "{priority}"),
        }
    }
}

/// An ActionResult of a later version: a field that this one does not know.
#[derive(Clone, PartialEq, prost::Message)]
struct NewerResult {
    #[prost(message, repeated, tag = "2")]
    output_files: Vec<re::OutputFile>,
    #[prost(message, optional, tag = "9")]
    execution_metadata: Option<re::ExecutedActionMetadata>,
    #[prost(string, tag = "200")]
    newer: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct NewerUpdate {
    #[prost(message, optional, tag = "2")]
    action_digest: Option<re::Digest>,
    #[prost(message, optional, tag = "3")]
    action_result: Option<NewerResult>,
}

async fn newer_call<T: prost::Message + Default + 'static>(client: &Client, method: &str, request: T) -> NewerResult {
    let mut grpc = tonic::client::Grpc::new(client.channel());
    grpc.ready().await.expect("a connection");
    let path = format!("/build.bazel.remote.execution.v2.ActionCache/{method}");
    let path = PathAndQuery::try_from(path).expect("a path");
    let codec = tonic_prost::ProstCodec::<T, NewerResult>::default();
    grpc.unary(tonic::Request::new(request), path, codec).await.expect(method).into_inner()
}

async fn r_137(context: Context) {
    let client = &context.client;
    let blob = context.stored(77).await;
    let digest = action(&mut context.random());
    let result = NewerResult {
        output_files: vec![output_file("f", &blob)],
        execution_metadata: Some(re::ExecutedActionMetadata { worker: "w".to_owned(), ..Default::default() }),
        newer: "what 2.14 might say".to_owned(),
    };
    let update = NewerUpdate { action_digest: Some(digest.clone()), action_result: Some(result.clone()) };
    newer_call(client, "UpdateActionResult", update).await;
    let request = re::GetActionResultRequest { action_digest: Some(digest), ..Default::default() };
    assert_eq!(newer_call(client, "GetActionResult", request).await, result);
}

#[allow(deprecated)] // the old form is what is tested
async fn r_138(context: Context) {
    let client = &context.client;
    let digest = action(&mut context.random());
    let link = |path: &str, target: &str| re::OutputSymlink {
        path: path.to_owned(),
        target: target.to_owned(),
        ..Default::default()
    };
    let result = re::ActionResult {
        output_symlinks: vec![link("new", "target"), link("absolute", "/usr/bin/env")],
        output_file_symlinks: vec![link("file", "../target")],
        output_directory_symlinks: vec![link("folder", "dangling")],
        ..Default::default()
    };
    update(client, &digest, result.clone()).await.expect("UpdateActionResult");
    let stored = client.action_result(&digest).await.expect("GetActionResult");
    assert_eq!(stored.output_symlinks, result.output_symlinks);
    assert_eq!(stored.output_file_symlinks, result.output_file_symlinks);
    assert_eq!(stored.output_directory_symlinks, result.output_directory_symlinks);
}

async fn q_10(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    // Action and Command blobs, the Tree and the files of an output folder, no Directory blobs; then the result.
    let command = Blob::random(&mut random, 300);
    let action = Blob::random(&mut random, 140);
    let depfile = Blob::new(random.text(2000));
    let files: Vec<Blob> = (0..20).map(|_| Blob::random(&mut random, 50)).collect();
    let child = re::Directory {
        files: files.iter().enumerate().map(|(at, file)| file_node(&format!("f{at:02}"), file)).collect(),
        ..Default::default()
    };
    let root = re::Directory {
        directories: vec![crate::case::directory_node("sub", &message_blob(&child))],
        ..Default::default()
    };
    let tree = message_blob(&re::Tree { root: Some(root), children: vec![child] });
    for blob in files.iter().chain([&command, &action, &depfile, &tree]) {
        client.write(blob).await.expect("Write");
    }
    let result = re::ActionResult {
        output_files: vec![output_file("bazel-out/a.d", &depfile)],
        output_directories: vec![re::OutputDirectory {
            path: "bazel-out/tree".to_owned(),
            tree_digest: Some(tree.digest.clone()),
            is_topologically_sorted: true,
            ..Default::default()
        }],
        ..Default::default()
    };
    update(client, &action.digest, result).await.expect("UpdateActionResult");
    let request = re::GetActionResultRequest {
        action_digest: Some(action.digest),
        inline_stdout: true,
        inline_stderr: true,
        inline_output_files: vec!["bazel-out/a.d".to_owned()],
        ..Default::default()
    };
    let result = client.action_cache().get_action_result(request).await.expect("GetActionResult").into_inner();
    assert_eq!(result.output_files[0].contents, depfile.data);
}
