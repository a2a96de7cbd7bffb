//! SplitBlob, SpliceBlob, GetChunkMapping, RegisterChunkMapping. Spec: reapi §9.

use futures::stream;
use tonic::{Code, Status};

use crate::case::{Case, Context, Function, action, case, invalid, refused, result_with, signed};
use crate::harness::{Blob, Client, Server, digest_of, re, sha256};
use crate::lifetimes::damage;

pub fn cases() -> Vec<Case> {
    vec![
        case("r_042_a_blob_of_chunks_is_present_only_if_every_chunk_is", r_042),
        case("r_101_chunks_are_blobs_and_joined_they_are_the_whole", r_101),
        case("r_102_split_of_what_is_not_there_is_not_found", r_102),
        case("r_103_chunk_sizes_are_within_what_is_advertised", r_103),
        case("r_104_splice_checks_digest_chunks_sizes_and_hash", r_104),
        case("r_105_splice_of_a_present_blob_is_ok", r_105),
        case("r_106_any_chunking_function_is_accepted", r_106),
        case("r_108_register_takes_the_first_message_for_all_and_joins_the_lists", r_108),
        case("r_109_get_chunk_mapping_streams_the_list", r_109),
        case("r_110_a_spliced_blob_is_a_blob_for_every_call", r_110),
        case("r_111_a_list_of_more_than_a_million_chunks_is_refused", r_111),
        case("r_112_a_lost_chunk_can_be_brought_back", r_112),
        case("section_17_6_the_specifications_own_vector", section_17_6),
        case("q_13_bazel_uploads_and_downloads_in_chunks", q_13),
        case("pain_11_a_plain_upload_can_be_fetched_in_chunks", r_103),
    ]
}

async fn split(client: &Client, digest: &re::Digest) -> Result<Vec<re::Digest>, Status> {
    let request = re::SplitBlobRequest { blob_digest: Some(digest.clone()), ..Default::default() };
    Ok(client.cas().split_blob(request).await?.into_inner().chunk_digests)
}

async fn splice(client: &Client, whole: &re::Digest, chunks: &[Blob]) -> Result<re::Digest, Status> {
    let request = re::SpliceBlobRequest {
        blob_digest: Some(whole.clone()),
        chunk_digests: chunks.iter().map(|chunk| chunk.digest.clone()).collect(),
        ..Default::default()
    };
    Ok(client.cas().splice_blob(request).await?.into_inner().blob_digest.expect("the digest"))
}

async fn mapping(client: &Client, digest: &re::Digest) -> Result<Vec<re::Digest>, Status> {
    let request = re::GetChunkMappingRequest {
        blob_digest: Some(digest.clone()),
        digest_function: Function::Sha256.into(),
        ..Default::default()
    };
    let mut stream = client.cas().get_chunk_mapping(request).await?.into_inner();
    let mut chunks = Vec::new();
    while let Some(message) = stream.message().await? {
        chunks.extend(message.chunk_digests);
    }
    Ok(chunks)
}

async fn register(client: &Client, messages: Vec<re::RegisterChunkMappingRequest>) -> Result<re::Digest, Status> {
    let answer = client.cas().register_chunk_mapping(stream::iter(messages)).await?.into_inner();
    Ok(answer.blob_digest.expect("the digest"))
}

/// Chunks that are stored, and the blob of them, which is not.
async fn stored_chunks(context: &Context, client: &Client, lens: &[usize]) -> (Vec<Blob>, Blob) {
    let mut random = context.random();
    let chunks: Vec<Blob> = lens.iter().map(|len| Blob::random(&mut random, *len)).collect();
    for chunk in &chunks {
        client.write(chunk).await.expect("Write");
    }
    let data: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.data.clone()).collect();
    (chunks, Blob::new(data))
}

fn digests(chunks: &[Blob]) -> Vec<re::Digest> {
    chunks.iter().map(|chunk| chunk.digest.clone()).collect()
}

async fn r_042(context: Context) {
    let mut server = Server::start(&[]);
    let client = server.client();
    let (chunks, whole) = stored_chunks(&context, &client, &[700_000, 800_000, 900_000]).await;
    splice(&client, &whole.digest, &chunks).await.expect("SpliceBlob");
    let action = action(&mut context.random());
    client.update_action_result(&action, result_with(&whole)).await.expect("UpdateActionResult");
    assert!(client.has(&whole.digest).await);
    client.action_result(&action).await.expect("GetActionResult");
    server.terminate();
    damage(server.folder(), &chunks[1].data);
    server.restart();
    let client = server.client();
    // The damage is met when the chunk is read.
    assert!(client.read(&chunks[1].digest).await.is_err());
    assert!(!client.has(&chunks[1].digest).await);
    assert!(!client.has(&whole.digest).await, "a blob with a hole is said to be there");
    refused(client.read(&whole.digest).await, Code::NotFound, "a blob with a hole");
    refused(split(&client, &whole.digest).await, Code::NotFound, "a blob with a hole");
    refused(client.action_result(&action).await, Code::NotFound, "a result with a hole");
    assert!(client.has(&chunks[0].digest).await);
}

async fn r_101(context: Context) {
    let client = &context.client;
    for function in [Function::Sha256, Function::Blake3] {
        let client = client.function(function);
        let data = context.blob(6_000_000).data;
        let blob = if function == Function::Blake3 { Blob::blake3(data) } else { Blob::new(data) };
        client.write(&blob).await.expect("Write");
        let request = re::SplitBlobRequest {
            blob_digest: Some(blob.digest.clone()),
            digest_function: function.into(),
            ..Default::default()
        };
        let answer = client.cas().split_blob(request).await.expect("SplitBlob").into_inner();
        assert!(answer.chunk_digests.len() > 1);
        assert!(client.find_missing(&answer.chunk_digests).await.expect("FindMissing").is_empty());
        let mut joined = Vec::new();
        for chunk in &answer.chunk_digests {
            let data = client.read(chunk).await.expect("a chunk is a blob");
            // Of the same function as the whole.
            let named = if function == Function::Blake3 { Blob::blake3(data.clone()).digest } else { sha256(&data) };
            assert_eq!(&named, chunk);
            joined.extend(data);
        }
        assert!(joined == blob.data);
    }
}

async fn r_102(context: Context) {
    let client = &context.client;
    let absent = context.blobs(2, 3_000_000)[1].digest.clone();
    refused(split(client, &absent).await, Code::NotFound, "absent");
    refused(mapping(client, &absent).await, Code::NotFound, "absent");
    invalid(client.cas().split_blob(re::SplitBlobRequest::default()).await, "no digest");
    invalid(split(client, &digest_of("xyz", 3)).await, "a malformed digest");
    let blob = context.stored(3_000_000).await;
    let request = re::SplitBlobRequest { blob_digest: Some(blob.digest), chunking_function: 1, ..Default::default() };
    let answer = client.cas().split_blob(request).await.expect("SplitBlob").into_inner();
    assert!(matches!(answer.chunking_function, 0 | 1), "the function that was used");
}

async fn r_103(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for len in [1, 1000, 100_000, 1 << 20, 2 << 20, (2 << 20) + 1, 3_000_000, 20 << 20] {
        let blob = Blob::random(&mut random, len);
        client.write(&blob).await.expect("Write");
        match split(client, &blob.digest).await {
            Ok(chunks) => {
                assert!(chunks.iter().all(|chunk| (1..=2 << 20).contains(&chunk.size_bytes)), "{len}: {chunks:?}");
                assert_eq!(chunks.iter().map(|chunk| chunk.size_bytes).sum::<i64>(), signed(len));
                assert!(client.find_missing(&chunks).await.expect("FindMissing").is_empty());
            }
            Err(status) => {
                assert_eq!(status.code(), Code::NotFound, "{len}");
                assert!(len <= 2 << 20, "a blob of {len} bytes has no chunks");
            }
        }
    }
    // A chunk list with a chunk above the maximum is not given out as it is.
    let (chunks, whole) = stored_chunks(&context, client, &[3 << 20, 1000]).await;
    splice(client, &whole.digest, &chunks).await.expect("SpliceBlob");
    if let Ok(chunks) = split(client, &whole.digest).await {
        assert!(chunks.iter().all(|chunk| chunk.size_bytes <= 2 << 20), "{chunks:?}");
    }
    assert!(client.read(&whole.digest).await.expect("Read") == whole.data);
}

async fn r_104(context: Context) {
    let client = &context.client;
    let (chunks, whole) = stored_chunks(&context, client, &[300_000, 400_000, 500_000]).await;
    let request = re::SpliceBlobRequest { chunk_digests: digests(&chunks), ..Default::default() };
    invalid(client.cas().splice_blob(request).await, "no digest of the whole");
    let swapped = [chunks[1].clone(), chunks[0].clone(), chunks[2].clone()];
    invalid(splice(client, &whole.digest, &swapped).await, "another order");
    invalid(splice(client, &whole.digest, &chunks[..2]).await, "sizes that do not add up");
    invalid(splice(client, &whole.digest, &[]).await, "no chunks");
    let wrong = digest_of(&context.blobs(9, 1)[8].digest.hash, whole.data.len());
    invalid(splice(client, &wrong, &chunks).await, "another hash");
    assert!(!client.has(&wrong).await, "section 17.6: still missing");
    let mut with_absent = chunks.clone();
    with_absent[1] = context.blobs(9, 400_000)[8].clone();
    refused(splice(client, &whole.digest, &with_absent).await, Code::NotFound, "an absent chunk");
    assert!(!client.has(&whole.digest).await);
    assert_eq!(splice(client, &whole.digest, &chunks).await.expect("SpliceBlob"), whole.digest);
    assert!(client.read(&whole.digest).await.expect("Read") == whole.data);
}

async fn r_105(context: Context) {
    let client = &context.client;
    let (chunks, whole) = stored_chunks(&context, client, &[150_000, 250_000]).await;
    for _ in 0..3 {
        assert_eq!(splice(client, &whole.digest, &chunks).await.expect("OK each time"), whole.digest);
    }
    let uploaded = Blob::new([&whole.data[..], b"x"].concat());
    client.write(&uploaded).await.expect("Write");
    let last = Blob::new(b"x".to_vec());
    client.write(&last).await.expect("Write");
    let list = [chunks[0].clone(), chunks[1].clone(), last];
    assert_eq!(splice(client, &uploaded.digest, &list).await.expect("uploaded whole before"), uploaded.digest);
}

async fn r_106(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    for function in [0, 1, 2, 99] {
        let chunks = [Blob::random(&mut random, 1000), Blob::random(&mut random, 2000)];
        client.batch_update(&chunks).await.expect("BatchUpdate");
        let whole = Blob::new([&chunks[0].data[..], &chunks[1].data].concat());
        let request = re::SpliceBlobRequest {
            blob_digest: Some(whole.digest.clone()),
            chunk_digests: digests(&chunks),
            chunking_function: function,
            ..Default::default()
        };
        client.cas().splice_blob(request).await.expect("SpliceBlob");
        let request =
            re::SplitBlobRequest { blob_digest: Some(whole.digest), chunking_function: function, ..Default::default() };
        client.cas().split_blob(request).await.expect("SplitBlob");
    }
}

async fn r_108(context: Context) {
    let client = &context.client;
    let (chunks, whole) = stored_chunks(&context, client, &[1000, 2000, 3000, 4000]).await;
    let list = digests(&chunks);
    let first = re::RegisterChunkMappingRequest {
        blob_digest: Some(whole.digest.clone()),
        digest_function: Function::Sha256.into(),
        chunk_digests: list[..1].to_vec(),
        ..Default::default()
    };
    let next = |list: &[re::Digest]| re::RegisterChunkMappingRequest {
        chunk_digests: list.to_vec(),
        // Values after the first message do not count.
        blob_digest: Some(list.first().unwrap_or(&whole.digest).clone()),
        digest_function: Function::Blake3.into(),
        ..Default::default()
    };
    invalid(register(client, Vec::new()).await, "no message");
    let without = re::RegisterChunkMappingRequest { digest_function: 0, ..first.clone() };
    invalid(register(client, vec![without, next(&list[1..])]).await, "no digest function");
    let nameless = re::RegisterChunkMappingRequest { blob_digest: None, ..first.clone() };
    invalid(register(client, vec![nameless, next(&list[1..])]).await, "no digest of the whole");
    invalid(register(client, vec![first.clone(), next(&list[2..])]).await, "a chunk left out");
    assert!(!client.has(&whole.digest).await);
    let messages = vec![first, next(&[]), next(&list[1..3]), next(&list[3..])];
    assert_eq!(register(client, messages).await.expect("RegisterChunkMapping"), whole.digest);
    assert!(client.read(&whole.digest).await.expect("Read") == whole.data);
}

async fn r_109(context: Context) {
    let client = &context.client;
    // 60,000 chunks: one message of them would be above 4 MiB.
    let chunks: Vec<Blob> = (0..=255u8).map(|byte| Blob::new(vec![byte])).collect();
    client.batch_update(&chunks).await.expect("BatchUpdate");
    let data = context.blob(60_000).data;
    let whole = Blob::new(data);
    let list: Vec<re::Digest> = whole.data.iter().map(|byte| chunks[usize::from(*byte)].digest.clone()).collect();
    let messages = list
        .chunks(10_000)
        .map(|list| re::RegisterChunkMappingRequest {
            blob_digest: Some(whole.digest.clone()),
            digest_function: Function::Sha256.into(),
            chunk_digests: list.to_vec(),
            ..Default::default()
        })
        .collect();
    register(client, messages).await.expect("RegisterChunkMapping");
    let given = mapping(client, &whole.digest).await.expect("GetChunkMapping");
    assert_eq!(given.iter().map(|chunk| chunk.size_bytes).sum::<i64>(), 60_000);
    let without = re::GetChunkMappingRequest { blob_digest: Some(whole.digest.clone()), ..Default::default() };
    invalid(client.cas().get_chunk_mapping(without).await.map(|_| ()), "no digest function");
    let blob = context.stored(5_000_000).await;
    let by_split = split(client, &blob.digest).await.expect("SplitBlob");
    assert_eq!(mapping(client, &blob.digest).await.expect("GetChunkMapping"), by_split, "both pairs say the same");
}

async fn r_110(context: Context) {
    let client = &context.client;
    let (chunks, whole) = stored_chunks(&context, client, &[400_000, 500_000, 600_000]).await;
    splice(client, &whole.digest, &chunks).await.expect("SpliceBlob");
    assert!(client.has(&whole.digest).await);
    assert!(client.read(&whole.digest).await.expect("Read") == whole.data);
    assert!(client.read_zstd(&whole.digest).await.expect("Read as zstd") == whole.data);
    let middle = client.read_named(&client.read_name(&whole.digest), 399_990, 500_020).await.expect("a range");
    assert!(middle == whole.data[399_990..900_010], "a range over three chunks");
    let batch = client.batch_read(std::slice::from_ref(&whole.digest), &[]).await.expect("BatchRead");
    assert!(batch[0].data == whole.data);
    let action = action(&mut context.random());
    client.update_action_result(&action, result_with(&whole)).await.expect("UpdateActionResult");
    client.action_result(&action).await.expect("complete");
    assert_eq!(client.write(&whole).await.expect("Write"), whole.digest.size_bytes);
    assert!(client.write_status(&client.write_name(&whole.digest)).await.expect("QueryWriteStatus").complete);
    // As a chunk of another, and that one of a third.
    let mut inner = whole;
    for len in [1000, 2000] {
        let tail = context.blobs(5, len)[4].clone();
        client.write(&tail).await.expect("Write");
        let outer = Blob::new([&inner.data[..], &tail.data].concat());
        splice(client, &outer.digest, &[inner, tail]).await.expect("SpliceBlob of a spliced blob");
        assert!(client.read(&outer.digest).await.expect("Read") == outer.data);
        inner = outer;
    }
}

async fn r_111(context: Context) {
    let client = &context.another_client();
    let chunk = context.stored(1).await;
    let whole = Blob::new(vec![chunk.data[0]; 1_010_000]);
    let message = re::RegisterChunkMappingRequest {
        blob_digest: Some(whole.digest.clone()),
        digest_function: Function::Sha256.into(),
        chunk_digests: vec![chunk.digest.clone(); 10_000],
        ..Default::default()
    };
    invalid(register(client, vec![message.clone(); 101]).await, "1,010,000 chunks");
    assert!(!client.has(&whole.digest).await);
    let whole = Blob::new(vec![chunk.data[0]; 20_000]);
    let message = re::RegisterChunkMappingRequest { blob_digest: Some(whole.digest.clone()), ..message };
    register(client, vec![message.clone(); 2]).await.expect("20,000 chunks");
}

async fn r_112(context: Context) {
    let mut server = Server::start(&[]);
    let client = server.client();
    let (chunks, whole) = stored_chunks(&context, &client, &[300_000, 400_000, 500_000]).await;
    splice(&client, &whole.digest, &chunks).await.expect("SpliceBlob");
    server.terminate();
    damage(server.folder(), &chunks[2].data);
    server.restart();
    let client = server.client();
    // The server may hold the whole apart from its chunks, so each is read for its own damage to be met.
    assert!(client.read(&whole.digest).await.is_err());
    assert!(!client.has(&whole.digest).await);
    assert!(client.read(&chunks[2].digest).await.is_err());
    assert_eq!(client.find_missing(&digests(&chunks)).await.expect("FindMissing"), [chunks[2].digest.clone()]);
    // The chunk comes back, and with it, by the list that the client still has, the whole.
    client.write(&chunks[2]).await.expect("Write");
    splice(&client, &whole.digest, &chunks).await.expect("SpliceBlob");
    assert!(client.read(&whole.digest).await.expect("Read") == whole.data);
}

/// SHA-256 of the numbers 0 to 262,143, joined: 8 MiB, with cuts that three implementations agree on.
fn vector() -> (Blob, [usize; 15]) {
    use sha2::Digest as _;
    let data: Vec<u8> = (0..262_144_u64).flat_map(|number| sha2::Sha256::digest(number.to_le_bytes())).collect();
    let lens = [
        560_905, 636_753, 708_026, 322_071, 533_378, 662_298, 556_544, 573_335, 617_449, 660_916, 541_350, 602_020,
        495_627, 588_824, 329_112,
    ];
    (Blob::new(data), lens)
}

async fn section_17_6(context: Context) {
    let client = &context.client;
    let (blob, lens) = vector();
    assert_eq!(blob.digest.hash, "dd4dd87ac92dd0462503941469c4f06a70c0e4a1a0a6545d4c2c4e98ea2821e1");
    client.write(&blob).await.expect("Write");
    let chunks = split(client, &blob.digest).await.expect("SplitBlob");
    let given: Vec<i64> = chunks.iter().map(|chunk| chunk.size_bytes).collect();
    assert_eq!(given, lens.map(signed));
    assert_eq!(chunks[0].hash, "d432704e372ca8edc2db1f38db519f3f0baa97162a106b9ad2bd883f95e47db5");
    assert_eq!(chunks[14].hash, "7923141ffbb108cd947c634ef571b7e6d6198074280f49c5e3fb253bcb7d85fe");
}

async fn q_13(context: Context) {
    let client = &context.client;
    // Cuts at content, as Bazel makes them; a second version differs in one place and shares all other chunks.
    let (vector, lens) = vector();
    let mut data = vector.data;
    for byte in &mut data[..64] {
        *byte ^= 0x55;
    }
    let mut chunks = Vec::new();
    let mut rest = &data[..];
    for len in lens {
        let (chunk, tail) = rest.split_at(len);
        chunks.push(Blob::new(chunk.to_vec()));
        rest = tail;
    }
    let missing = client.find_missing(&digests(&chunks)).await.expect("FindMissing");
    for chunk in chunks.iter().filter(|chunk| missing.contains(&chunk.digest)) {
        client.write_zstd(chunk).await.expect("Write");
    }
    let whole = Blob::new(data);
    splice(client, &whole.digest, &chunks).await.expect("SpliceBlob");
    let mut joined = Vec::new();
    for chunk in split(client, &whole.digest).await.expect("SplitBlob") {
        joined.extend(client.read_zstd(&chunk).await.expect("Read"));
    }
    assert!(joined == whole.data);
}
