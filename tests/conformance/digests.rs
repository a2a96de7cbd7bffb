//! Digests and digest functions. Spec: reapi §1.

use sha1::Digest as _;
use tonic::Code;

use crate::case::{
    Case, Compressor, Context, EMPTY_SHA256, Function, case, file_node, invalid, item_code, message, message_blob,
    read_code, refused, result_with, update_code,
};
use crate::harness::{Blob, Client, digest_of, hex, re};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_001_a_hash_is_lower_case_hexadecimal_of_full_length", r_001),
        case("r_002_the_size_is_part_of_a_digest", r_002),
        case("r_003_a_function_that_is_not_named_follows_from_the_length", r_003),
        case("r_004_functions_not_offered_and_lengths_that_do_not_fit_are_refused", r_004),
        case("r_005_one_request_has_one_function", r_005),
        case("r_006_empty_lists_are_answered_with_empty_lists", r_006),
        case("r_007_requests_with_and_without_a_function_mean_the_same", r_007),
        case("r_008_functions_are_separate_key_spaces", r_008),
        case("r_009_every_advertised_function_stores_and_reads", r_009),
        case("r_010_the_empty_blob_is_always_there", r_010),
        case("r_011_the_empty_blob_may_be_uploaded", r_011),
        case("r_012_the_empty_hash_has_size_zero_and_no_other_has", r_012),
        case("q_12_the_empty_hash_with_a_size_is_refused_and_poisons_nothing", q_12),
        case("pain_12_blake3_end_to_end", pain_12),
    ]
}

/// A digest of a function, made from the data by the test's own means; `None` for those it has no means for.
fn digest_by(function: Function, data: &[u8]) -> Option<re::Digest> {
    let hash = match function {
        Function::Sha256 => hex(&sha2::Sha256::digest(data)),
        Function::Sha384 => hex(&sha2::Sha384::digest(data)),
        Function::Sha512 => hex(&sha2::Sha512::digest(data)),
        Function::Sha1 => hex(&sha1::Sha1::digest(data)),
        Function::Gitsha1 => {
            let header = format!("blob {}\0", data.len());
            hex(&sha1::Sha1::digest([header.as_bytes(), data].concat()))
        }
        Function::Blake3 => blake3::hash(data).to_hex().to_string(),
        // Up to 1,024 bytes it is the plain hash; above that the published vectors have to do.
        Function::Sha256tree if data.len() <= 1024 => hex(&sha2::Sha256::digest(data)),
        _ => return None,
    };
    Some(digest_of(&hash, data.len()))
}

async fn advertised(client: &Client) -> Vec<Function> {
    let request = re::GetCapabilitiesRequest::default();
    let answer = client.capabilities().get_capabilities(request).await.expect("GetCapabilities").into_inner();
    let functions = answer.cache_capabilities.expect("cache capabilities").digest_functions;
    functions.into_iter().map(|number| Function::try_from(number).expect("a function with a name")).collect()
}

async fn r_001(context: Context) {
    let client = &context.client;
    // A hash whose first two digits are zeros: both are kept.
    let mut random = context.random();
    let zeros = loop {
        let blob = Blob::random(&mut random, 33);
        if blob.digest.hash.starts_with("00") {
            break blob;
        }
    };
    client.write(&zeros).await.expect("Write");
    assert_eq!(client.read(&zeros.digest).await.expect("Read"), zeros.data);
    let right = context.stored(50).await.digest;
    let upper = right.hash.to_uppercase();
    let stripped = zeros.digest.hash.trim_start_matches('0');
    let too_long = format!("{}0", right.hash);
    for wrong in [upper.as_str(), stripped, &too_long, &right.hash[..63], &"g".repeat(64), "", "é"] {
        let digest = digest_of(wrong, 50);
        invalid(client.find_missing(std::slice::from_ref(&digest)).await, wrong);
        invalid(client.read(&digest).await, wrong);
        invalid(client.write(&Blob { data: vec![0; 50], digest: digest.clone() }).await, wrong);
        invalid(client.action_result(&digest).await, wrong);
        assert_eq!(read_code(client, &digest).await, Code::InvalidArgument, "{wrong}");
        assert_eq!(
            update_code(client, &digest, &[0; 50], Compressor::Identity).await,
            Code::InvalidArgument,
            "{wrong}"
        );
    }
    assert!(client.has(&right).await);
}

async fn r_002(context: Context) {
    let client = &context.client;
    let blob = context.stored(1000).await;
    invalid(client.find_missing(&[re::Digest { size_bytes: -1, ..blob.digest.clone() }]).await, "negative size");
    for size in [999, 1001] {
        let other = digest_of(&blob.digest.hash, size);
        let other_alone = std::slice::from_ref(&other);
        assert_eq!(client.find_missing(other_alone).await.expect("FindMissing"), other_alone);
        refused(client.read(&other).await, Code::NotFound, "another size");
        assert_eq!(read_code(client, &other).await, Code::NotFound);
        let wrong = Blob { data: blob.data.clone(), digest: other.clone() };
        invalid(client.write(&wrong).await, "another size");
        assert_eq!(
            update_code(client, &other, &blob.data, Compressor::Identity).await,
            Code::InvalidArgument,
            "size {size}"
        );
    }
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
}

async fn r_003(context: Context) {
    let client = &context.client;
    let data = context.blob(300).data;
    for function in advertised(client).await {
        let Some(digest) = digest_by(function, &data) else { continue };
        let inferred = matches!(function, Function::Sha256 | Function::Sha1 | Function::Sha384 | Function::Sha512);
        if inferred {
            client.write(&Blob { data: data.clone(), digest: digest.clone() }).await.expect("Write");
            assert_eq!(client.read(&digest).await.expect("Read"), data, "{function:?}");
            assert!(client.function(function).has(&digest).await, "{function:?}");
        }
    }
    // 64 digits without a function are SHA-256, and BLAKE3 of the same bytes is no SHA-256 of them.
    let blake3 = Blob::blake3(context.blob(301).data);
    invalid(client.write(&blake3).await, "a BLAKE3 hash whose function is not named");
    client.function(Function::Blake3).write(&blake3).await.expect("Write");
    assert!(!client.has(&blake3.digest).await, "64 digits were taken for BLAKE3");
}

async fn r_004(context: Context) {
    let client = &context.client;
    let blob = context.stored(10).await;
    let find = |number: i32, hash: String| {
        let mut cas = client.cas();
        async move {
            let blob_digests = vec![digest_of(&hash, 10)];
            let request = re::FindMissingBlobsRequest { blob_digests, digest_function: number, ..Default::default() };
            cas.find_missing_blobs(request).await
        }
    };
    find(Function::Sha256.into(), blob.digest.hash.clone()).await.expect("the right function");
    for (number, digits) in [(Function::Md5.into(), 32), (Function::Vso.into(), 66), (Function::Murmur3.into(), 32)] {
        invalid(find(number, "a".repeat(digits)).await, "known, not offered");
    }
    for number in [11, 99, -1] {
        invalid(find(number, blob.digest.hash.clone()).await, "no such function");
    }
    invalid(find(Function::Sha256.into(), "a".repeat(40)).await, "40 digits are no SHA-256");
    invalid(find(Function::Blake3.into(), "a".repeat(40)).await, "40 digits are no BLAKE3");
    invalid(find(0, "a".repeat(66)).await, "66 digits are no function that is offered");
}

async fn r_005(context: Context) {
    let client = &context.client;
    let blob = context.stored(20).await;
    let sha1 = digest_by(Function::Sha1, &blob.data).expect("SHA-1");
    client.find_missing(&[blob.digest.clone(), blob.digest.clone()]).await.expect("one function");
    invalid(client.find_missing(&[blob.digest.clone(), sha1.clone()]).await, "two functions");
    invalid(client.function(Function::Sha256).find_missing(std::slice::from_ref(&sha1)).await, "not the named one");
    // A batch of reads or writes may refuse the call or the item that does not fit.
    match client.batch_read(&[blob.digest.clone(), sha1], &[]).await {
        Ok(responses) => assert_eq!(item_code(responses[1].status.as_ref()), Code::InvalidArgument),
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
    }
}

async fn r_006(context: Context) {
    for function in [Function::Unknown, Function::Sha256] {
        let client = context.client.function(function);
        assert!(client.find_missing(&[]).await.expect("FindMissing").is_empty());
        assert!(client.batch_read(&[], &[]).await.expect("BatchRead").is_empty());
        assert!(client.batch_update(&[]).await.expect("BatchUpdate").is_empty());
    }
}

async fn r_007(context: Context) {
    let (without, with) = (context.client.clone(), context.client.function(Function::Sha256));
    for (writer, reader, len) in [(&without, &with, 71), (&with, &without, 72)] {
        let blob = context.blob(len);
        writer.write(&blob).await.expect("Write");
        assert!(reader.has(&blob.digest).await);
        assert_eq!(
            item_code(
                reader.batch_read(std::slice::from_ref(&blob.digest), &[]).await.expect("BatchRead")[0].status.as_ref()
            ),
            Code::Ok
        );
        writer.update_action_result(&blob.digest, result_with(&blob)).await.expect("UpdateActionResult");
        reader.action_result(&blob.digest).await.expect("GetActionResult");
    }
}

async fn r_008(context: Context) {
    let (sha256, blake3) = (context.client.clone(), context.client.function(Function::Blake3));
    let data = context.blob(200).data;
    sha256.write(&Blob::new(data.clone())).await.expect("Write");
    let other = Blob::blake3(data);
    assert!(!blake3.has(&other.digest).await, "the BLAKE3 digest was never written");
    // The same 64 digits in the other key space are another blob.
    let digits = Blob::new(other.data.clone()).digest;
    assert!(!blake3.has(&digits).await, "a SHA-256 digest is no BLAKE3 digest");
    blake3.write(&other).await.expect("Write");
    assert_eq!(blake3.read(&other.digest).await.expect("Read"), other.data);
}

async fn r_009(context: Context) {
    let client = &context.client;
    let functions = advertised(client).await;
    assert!(functions.contains(&Function::Sha256) && functions.contains(&Function::Blake3), "{functions:?}");
    for weak in [Function::Md5, Function::Murmur3, Function::Unknown] {
        assert!(!functions.contains(&weak), "{weak:?} is offered");
    }
    for function in &functions {
        let client = client.function(*function);
        let data = context.blob(400).data;
        let digest = digest_by(*function, &data).expect("a function that the test can compute");
        let right = Blob { data, digest };
        let mut wrong = right.clone();
        wrong.data[0] ^= 1;
        invalid(client.write(&wrong).await, "other bytes");
        client.write(&right).await.expect("Write");
        assert_eq!(client.read(&right.digest).await.expect("Read"), right.data, "{function:?}");
    }
    if functions.contains(&Function::Sha256tree) {
        let client = client.function(Function::Sha256tree);
        for (len, hash) in [
            (1025, "36c0998b21839ef74300b9de47d96d1f62323dc81f2b4231e98ce70cd6ffe750"),
            (2049, "7318d2029b0392edf4cf109edb5a086b4bdadbb7950f710a1483eb881d9e5d44"),
            (102_400, "0668d69e5331840d2f1823d717b7b3f5d1fdc8a09504cddb692b87ff83d50e5f"),
        ] {
            let data: Vec<u8> = (0..=250u8).cycle().take(len).collect();
            let blob = Blob { data, digest: digest_of(hash, len) };
            client.write(&blob).await.expect("Write of a published vector");
            assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
        }
    }
}

async fn r_010(context: Context) {
    for function in advertised(&context.client).await {
        let client = context.client.function(function);
        let digest = digest_by(function, b"").expect("a function that the test can compute");
        assert!(client.has(&digest).await, "{function:?}");
        assert!(client.read(&digest).await.expect("Read").is_empty());
        assert!(client.read_zstd(&digest).await.expect("Read").is_empty());
        let answer = client.batch_read(std::slice::from_ref(&digest), &[Compressor::Zstd]).await.expect("BatchRead");
        assert_eq!(item_code(answer[0].status.as_ref()), Code::Ok, "{function:?}");
        let request = re::SplitBlobRequest {
            blob_digest: Some(digest.clone()),
            digest_function: function.into(),
            ..Default::default()
        };
        let chunks = client.cas().split_blob(request).await.expect("SplitBlob").into_inner().chunk_digests;
        assert!(chunks.is_empty() || chunks == [digest.clone()], "{chunks:?}");
    }
    // As an output, as standard output, and inside a tree.
    let empty = Blob::new(Vec::new());
    let root = re::Directory { files: vec![file_node("empty", &empty)], ..Default::default() };
    let tree = message_blob(&re::Tree { root: Some(root), children: Vec::new() });
    context.client.write(&tree).await.expect("Write");
    let mut result = result_with(&empty);
    result.stdout_digest = Some(empty.digest.clone());
    result.output_directories = vec![re::OutputDirectory {
        path: "tree".to_owned(),
        tree_digest: Some(tree.digest.clone()),
        ..Default::default()
    }];
    let action = context.blob(32).digest;
    context.client.update_action_result(&action, result).await.expect("UpdateActionResult");
    context.client.action_result(&action).await.expect("complete");
}

async fn r_011(context: Context) {
    let client = &context.client;
    let empty = Blob::new(Vec::new());
    assert_eq!(client.write(&empty).await.expect("Write"), 0);
    client.write_zstd(&empty).await.expect("Write as zstd");
    assert_eq!(update_code(client, &empty.digest, b"", Compressor::Identity).await, Code::Ok);
    assert_ne!(update_code(client, &empty.digest, b"x", Compressor::Identity).await, Code::Ok);
}

async fn r_012(context: Context) {
    let client = &context.client;
    let with_size = digest_of(EMPTY_SHA256, 5);
    let sizeless = digest_of(&context.blob(5).digest.hash, 0);
    let data = context.blob(5).data;
    invalid(client.write(&Blob { data: data.clone(), digest: with_size.clone() }).await, "the empty hash with a size");
    invalid(client.write(&Blob { data: Vec::new(), digest: sizeless.clone() }).await, "size 0 with another hash");
    assert_eq!(update_code(client, &with_size, &data, Compressor::Identity).await, Code::InvalidArgument);
    assert_eq!(update_code(client, &sizeless, b"", Compressor::Identity).await, Code::InvalidArgument);
    for digest in [with_size, sizeless] {
        let alone = std::slice::from_ref(&digest);
        assert_eq!(client.find_missing(alone).await.expect("FindMissing"), alone);
        refused(client.read(&digest).await, Code::NotFound, "not a blob");
        assert_eq!(read_code(client, &digest).await, Code::NotFound);
    }
}

async fn q_12(context: Context) {
    // As a Bazel with asynchronous uploads sent it: no data at all under a size that is not 0.
    let client = &context.client;
    let name = client.write_name(&digest_of(EMPTY_SHA256, 1234));
    invalid(client.write_messages(vec![message(&name, 0, b"", true)]).await, "no data, size 1234");
    let digest = digest_of(EMPTY_SHA256, 1234);
    let action = context.blob(32).digest;
    let result = result_with(&Blob { data: Vec::new(), digest: digest.clone() });
    if client.update_action_result(&action, result).await.is_ok() {
        refused(client.action_result(&action).await, Code::NotFound, "names a blob that cannot be");
    }
    assert!(client.has(&digest_of(EMPTY_SHA256, 0)).await);
}

async fn pain_12(context: Context) {
    let client = context.client.instance("team/a").function(Function::Blake3);
    let blob = Blob::blake3(context.random().text(300_000));
    client.write_zstd(&blob).await.expect("Write as zstd");
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
    assert_eq!(client.read_zstd(&blob.digest).await.expect("Read as zstd"), blob.data);
    let action = Blob::blake3(context.blob(32).data).digest;
    client.update_action_result(&action, result_with(&blob)).await.expect("UpdateActionResult");
    client.action_result(&action).await.expect("GetActionResult");
    refused(context.client.instance("team/a").action_result(&action).await, Code::NotFound, "as SHA-256");
}
