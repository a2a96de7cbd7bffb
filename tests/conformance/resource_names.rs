//! Resource names of ByteStream. Spec: reapi §7.1.

use tonic::{Code, Request};

use crate::case::{Case, Context, Function, case, invalid, message, open_upload, refused};
use crate::harness::{Blob, bytestream, digest_of};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_060_names_are_parsed_from_the_left", r_060),
        case("r_061_a_compressor_that_is_not_offered_is_refused", r_061),
        case("r_062_the_function_segment_is_for_functions_8_to_10_and_sha256_is_tolerated", r_062),
        case("r_063_hash_and_size_are_of_the_uncompressed_data", r_063),
        case("r_064_segments_after_the_size_are_ignored", r_064),
        case("r_065_an_uploads_uuid_may_be_anything_and_be_used_again", r_065),
        case("r_066_a_resource_name_in_the_metadata_changes_nothing", r_066),
        case("section_17_3_names", section_17_3),
        case("q_bazel_4_names_without_function_and_with_an_instance", bazel_4),
    ]
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).expect("zstd in memory")
}

async fn r_060(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for instance in ["", "a/", "a/b/", "a/b/c/d/"] {
        let blob = Blob::random(&mut random, 40);
        let (hash, data) = (&blob.digest.hash, &blob.data);
        client.write_named(&format!("{instance}uploads/u/blobs/{hash}/40"), data).await.expect(instance);
        assert_eq!(&client.read_named(&format!("{instance}blobs/{hash}/40"), 0, 0).await.expect(instance), data);
        let read = client.read_named(&format!("{instance}compressed-blobs/zstd/{hash}/40"), 0, 0).await;
        assert_eq!(&zstd::decode_all(read.expect(instance).as_slice()).expect("zstd"), data);
    }
    let hash = &context.blobs(9, 40)[8].digest.hash;
    let data = [0; 40];
    for name in [
        String::new(),
        "uploads".to_owned(),
        format!("blobs/{hash}/40"),
        format!("uploads/blobs/{hash}/40"),
        format!("uploads//blobs/{hash}/40"),
        format!("uploads/u/blobs/{hash}"),
        format!("uploads/u/{hash}/40"),
        format!("blobs/uploads/u/blobs/{hash}/40"),
        format!("actions/uploads/u/blobs/{hash}/40"),
    ] {
        invalid(client.write_named(&name, &data).await, &name);
    }
    for name in [String::new(), "blobs".to_owned(), format!("blobs/{hash}"), format!("uploads/{hash}/40"), hash.clone()]
    {
        invalid(client.read_named(&name, 0, 0).await, &name);
    }
}

async fn r_061(context: Context) {
    let client = &context.client;
    let blob = context.stored(40).await;
    let hash = &blob.digest.hash;
    client.read_named(&format!("compressed-blobs/zstd/{hash}/40"), 0, 0).await.expect("zstd");
    for compressor in ["identity", "ZSTD", "Zstd", "gzip", "deflate", "brotli", ""] {
        let read = format!("compressed-blobs/{compressor}/{hash}/40");
        invalid(client.read_named(&read, 0, 0).await, &read);
        let write = format!("uploads/u/compressed-blobs/{compressor}/{hash}/40");
        invalid(client.write_named(&write, &blob.data).await, &write);
    }
}

async fn r_062(context: Context) {
    let client = &context.client;
    let blob = context.blob(40);
    let hash = &blob.digest.hash;
    client.write_named(&format!("uploads/u/blobs/sha256/{hash}/40"), &blob.data).await.expect("redundant sha256");
    assert_eq!(client.read_named(&format!("blobs/sha256/{hash}/40"), 0, 0).await.expect("Read"), blob.data);
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
    let blake3 = Blob::blake3(blob.data.clone());
    let name = format!("blobs/blake3/{}/40", blake3.digest.hash);
    client.write_named(&format!("uploads/u/{name}"), &blake3.data).await.expect("blake3");
    assert_eq!(client.read_named(&name, 0, 0).await.expect("Read"), blake3.data);
    refused(client.read(&blake3.digest).await, Code::NotFound, "without its segment it is a SHA-256");
    invalid(client.read_named(&format!("blobs/md5/{}/40", &hash[..32]), 0, 0).await, "md5");
    invalid(client.read_named(&format!("blobs/blake3/{}/40", &hash[..40]), 0, 0).await, "40 digits of BLAKE3");
    invalid(client.read_named(&format!("blobs/nonsense/{hash}/40"), 0, 0).await, "no function");
}

async fn r_063(context: Context) {
    let client = &context.client;
    let blob = Blob::new(context.random().text(5000));
    let hash = &blob.digest.hash;
    let compressed = zstd(&blob.data);
    let by_compressed_size = format!("uploads/u/compressed-blobs/zstd/{hash}/{}", compressed.len());
    invalid(client.write_named(&by_compressed_size, &compressed).await, "the compressed size");
    let by_compressed_hash = Blob::new(compressed.clone());
    invalid(client.write_zstd(&Blob { digest: by_compressed_hash.digest, ..blob.clone() }).await, "compressed hash");
    client.write_zstd(&blob).await.expect("Write");
    for size in ["-1", "+5000", "05000x", "5e3", "", "9223372036854775808", " 5000"] {
        invalid(client.read_named(&format!("blobs/{hash}/{size}"), 0, 0).await, size);
        invalid(client.write_named(&format!("uploads/u/blobs/{hash}/{size}"), &blob.data).await, size);
    }
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
}

async fn r_064(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for tail in ["", "/", "/file.txt", "/x/y/z", "/blobs/and/uploads", "/ö"] {
        let blob = Blob::random(&mut random, 40);
        let hash = &blob.digest.hash;
        client.write_named(&format!("a/b/uploads/u/blobs/{hash}/40{tail}"), &blob.data).await.expect(tail);
        assert_eq!(client.read_named(&format!("a/b/blobs/{hash}/40{tail}"), 0, 0).await.expect(tail), blob.data);
    }
}

async fn r_065(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for uuid in ["8f1bb3e2-58ad-4c14-a5d1-0d0fe4d3d7c0", "not-a-uuid", "1", "{x}", &"u".repeat(200)] {
        // Two blobs under one uuid, one of them begun before the other is done.
        let (one, two) = (Blob::random(&mut random, 40), Blob::random(&mut random, 40));
        let name = |blob: &Blob| format!("uploads/{uuid}/blobs/{}/40", blob.digest.hash);
        let slow = open_upload(client, message(&name(&one), 0, &one.data[..20], false)).await;
        client.write_named(&name(&two), &two.data).await.expect(uuid);
        slow.send(message("", 20, &one.data[20..], true));
        slow.finish().await.expect(uuid);
        assert!(client.find_missing(&[one.digest, two.digest]).await.expect("FindMissing").is_empty());
    }
}

async fn r_066(context: Context) {
    let client = &context.client;
    let blob = context.stored(40).await;
    let name = client.read_name(&blob.digest);
    let request = || bytestream::ReadRequest { resource_name: name.clone(), ..Default::default() };
    let mut same = Request::new(request());
    let value = name.parse().expect("ASCII");
    same.metadata_mut().insert("build.bazel.remote.execution.v2.resource-name", value);
    client.byte_stream().read(same).await.expect("the same name");
    // A different one may be refused, but is never what is served.
    let mut other = Request::new(request());
    let absent = client.read_name(&digest_of(&context.blobs(2, 40)[1].digest.hash, 40));
    other.metadata_mut().insert("build.bazel.remote.execution.v2.resource-name", absent.parse().expect("ASCII"));
    match client.byte_stream().read(other).await {
        Ok(stream) => {
            let first = stream.into_inner().message().await.expect("Read").expect("a piece");
            assert_eq!(first.data, blob.data);
        }
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
    }
}

async fn section_17_3(context: Context) {
    let client = &context.client;
    let blob = context.blob(1);
    let hash = &blob.digest.hash;
    client.write_named(&format!("a/b/uploads/u/blobs/{hash}/1/x/y/z"), &blob.data).await.expect("segments after");
    assert_eq!(client.read_named(&format!("/blobs/{hash}/1"), 0, 0).await.expect("leading slash"), blob.data);
    assert_eq!(client.read_named(&format!("blobs/sha256/{hash}/1"), 0, 0).await.expect("redundant"), blob.data);
    let nine = Blob::blake3(context.blobs(2, 9)[1].data.clone());
    let name = format!("uploads/u/compressed-blobs/zstd/blake3/{}/9", nine.digest.hash);
    client.write_named(&name, &zstd(&nine.data)).await.expect("BLAKE3 as zstd");
    assert!(client.function(Function::Blake3).has(&nine.digest).await);
    invalid(client.read_named(&format!("x/blobs/y/blobs/{hash}/1"), 0, 0).await, "instance x/blobs/y");
}

async fn bazel_4(context: Context) {
    // No function anywhere, ByteStream only, one FindMissing after the action, even for 10 bytes.
    let client = context.client.instance("main");
    let blob = context.blob(10);
    let alone = std::slice::from_ref(&blob.digest);
    assert_eq!(client.find_missing(alone).await.expect("FindMissing"), alone);
    let name = format!("main/uploads/8f1bb3e2-58ad-4c14-a5d1-0d0fe4d3d7c0/blobs/{}/10", blob.digest.hash);
    // Bazel names the resource in the first message only.
    let messages = vec![message(&name, 0, &blob.data, true)];
    assert_eq!(client.write_messages(messages).await.expect("Write"), 10);
    assert_eq!(client.read_named(&format!("main/blobs/{}/10", blob.digest.hash), 0, 0).await.expect("Read"), blob.data);
}
