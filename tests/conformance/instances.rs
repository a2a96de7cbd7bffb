//! Instance names. Spec: reapi §2.

use tonic::Code;

use crate::case::{Case, Context, Function, action, case, invalid, refused, result_with};
use crate::harness::Blob;

pub fn cases() -> Vec<Case> {
    vec![
        case("r_015_keywords_are_no_segments_of_an_instance_name", r_015),
        case("r_016_the_empty_and_any_other_instance_are_open", r_016),
        case("r_017_action_results_are_never_shared_between_instances_or_functions", r_017),
        case("r_018_leading_slashes_count_as_absent_and_empty_segments_do_not", r_018),
        case("q_50_moon_reads_and_writes_with_a_leading_slash_and_one_uuid", q_50),
    ]
}

async fn r_015(context: Context) {
    let blob = context.stored(30).await;
    let digests = [blob.digest.clone()];
    for keyword in ["blobs", "uploads", "actions", "actionResults", "operations", "capabilities", "compressed-blobs"] {
        for name in [keyword.to_owned(), format!("a/{keyword}"), format!("{keyword}/b"), format!("a/{keyword}/b")] {
            let client = context.client.instance(&name);
            invalid(client.find_missing(&digests).await, &name);
            invalid(client.batch_read(&digests, &[]).await, &name);
            invalid(client.action_result(&blob.digest).await, &name);
            invalid(client.update_action_result(&blob.digest, result_with(&blob)).await, &name);
        }
        let like_it = format!("{keyword}s-of-ours/x{keyword}");
        context.client.instance(&like_it).find_missing(&digests).await.expect("a name that only looks like it");
    }
    invalid(context.client.read_named(&format!("x/blobs/y/blobs/{}/30", blob.digest.hash), 0, 0).await, "x/blobs/y");
}

async fn r_016(context: Context) {
    for (len, name) in [(41, ""), (42, "main"), (43, "team/a"), (44, "a/b/c/d/e"), (45, "ünïcode")] {
        let client = context.client.instance(name);
        let blob = context.blob(len);
        client.write(&blob).await.expect("Write");
        assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data, "{name}");
        assert!(client.has(&blob.digest).await);
    }
}

async fn r_017(context: Context) {
    let mut random = context.random();
    let blob = context.stored(50).await;
    let action = action(&mut random);
    let names = ["", "a", "a/b", "ab"];
    for (code, name) in (1..).zip(names) {
        let client = context.client.instance(name);
        refused(client.action_result(&action).await, Code::NotFound, name);
        let mut result = result_with(&blob);
        result.exit_code = code;
        client.update_action_result(&action, result).await.expect("UpdateActionResult");
    }
    for (code, name) in (1..).zip(names) {
        let result = context.client.instance(name).action_result(&action).await.expect("GetActionResult");
        assert_eq!(result.exit_code, code, "the result of another instance in {name:?}");
    }
    // The same 64 digits as a BLAKE3 digest are another action.
    let blake3 = context.client.function(Function::Blake3);
    refused(blake3.action_result(&action).await, Code::NotFound, "another function");
    let output = Blob::blake3(random.bytes(60));
    blake3.write(&output).await.expect("Write");
    blake3.update_action_result(&action, result_with(&output)).await.expect("UpdateActionResult");
    assert_eq!(context.client.action_result(&action).await.expect("GetActionResult").exit_code, 1);
}

async fn r_018(context: Context) {
    let client = &context.client;
    let blob = context.blob(60);
    let (hash, size) = (&blob.digest.hash, blob.digest.size_bytes);
    client.write_named(&format!("/uploads/u/blobs/{hash}/{size}"), &blob.data).await.expect("Write");
    assert_eq!(client.read_named(&format!("/blobs/{hash}/{size}"), 0, 0).await.expect("Read"), blob.data);
    assert_eq!(client.read_named(&format!("//a/blobs/{hash}/{size}"), 0, 0).await.expect("Read"), blob.data);
    assert!(client.instance("/a").has(&blob.digest).await);
    for name in [format!("a//b/blobs/{hash}/{size}"), format!("a//blobs/{hash}/{size}")] {
        invalid(client.read_named(&name, 0, 0).await, &name);
    }
    invalid(client.instance("a//b").find_missing(std::slice::from_ref(&blob.digest)).await, "a//b");
    // An action result under `/a` is that of `a`.
    let action = action(&mut context.random());
    client.instance("/a").update_action_result(&action, result_with(&blob)).await.expect("UpdateActionResult");
    client.instance("a").action_result(&action).await.expect("GetActionResult");
}

async fn q_50(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for len in [10, 5000] {
        let blob = Blob::new(random.text(len));
        let (hash, size) = (&blob.digest.hash, blob.digest.size_bytes);
        let compressed = zstd::encode_all(blob.data.as_slice(), 1).expect("zstd in memory");
        let name = format!("/uploads/one-for-all/compressed-blobs/zstd/{hash}/{size}");
        client.write_named(&name, &compressed).await.expect("Write");
        let read = client.read_named(&format!("/compressed-blobs/zstd/{hash}/{size}"), 0, 0).await.expect("Read");
        assert_eq!(zstd::decode_all(read.as_slice()).expect("zstd"), blob.data);
    }
}
