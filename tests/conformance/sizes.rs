//! Message sizes. Spec: reapi §4.

use tonic::Code;

use crate::case::{Case, Compressor, Context, action, case, code, invalid, item_code, message, result_with};
use crate::harness::{Blob, digest_of, re};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_030_a_full_batch_of_many_items_stays_under_4_mib", r_030),
        case("r_031_the_server_reads_messages_well_above_4_mib", r_031),
        case("r_032_a_batch_above_the_limit_stores_nothing", r_032),
        case("r_033_the_batch_limit_is_stated", r_033),
        case("r_034_no_answer_is_above_4_mib", r_034),
        case("r_035_a_message_above_the_servers_limit_is_refused_and_the_connection_goes_on", r_035),
        case("section_17_7_batch_read_of_4000000_bytes_over_1000_blobs_fits_a_4_mib_client", section_17_7),
        case("pain_09_what_is_advertised_is_taken", r_030),
    ]
}

async fn r_030(context: Context) {
    let client = &context.client;
    let blobs = context.blobs(2000, 2000);
    let answer = client.batch_update(&blobs).await.expect("a batch of exactly 4,000,000 bytes");
    assert!(answer.iter().all(|item| item_code(item.status.as_ref()) == Code::Ok));
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    // The stub takes 4 MiB and no more.
    let read = client.batch_read(&digests, &[]).await.expect("an answer under 4 MiB");
    assert!(read.iter().zip(&blobs).all(|(item, blob)| item.data == blob.data));
}

async fn r_031(context: Context) {
    let client = &context.client;
    let blob = context.blob(10 << 20);
    let name = client.write_name(&blob.digest);
    client.write_messages(vec![message(&name, 0, &blob.data, true)]).await.expect("one message of 10 MiB");
    assert!(client.has(&blob.digest).await);
    // Pants has sent a FindMissing of 5.8 MB. All but one are the same digest, so that the answer is small.
    let absent = digest_of(&context.blobs(2, 9)[1].digest.hash, 9);
    let mut digests = vec![blob.digest.clone(); 80_000];
    digests.push(absent.clone());
    assert_eq!(client.find_missing(&digests).await.expect("FindMissing of 6 MB"), [absent]);
}

async fn r_032(context: Context) {
    let client = &context.client;
    let mut blobs = context.blobs(4, 1_000_000);
    blobs.push(Blob::new(b"one too many".to_vec()));
    invalid(client.batch_update(&blobs).await, "4,000,012 bytes");
    for blob in &blobs {
        assert!(!client.has(&blob.digest).await, "a part of a refused batch was stored");
    }
    client.batch_update(&blobs[..4]).await.expect("4,000,000 bytes");
    // What counts is what the digests declare.
    let declared = digest_of(&context.blobs(5, 1)[4].digest.hash, 4_000_001);
    invalid(client.batch_update(&[Blob { data: vec![1], digest: declared }]).await, "declared size");
}

async fn r_033(context: Context) {
    let request = re::GetCapabilitiesRequest::default();
    let answer = context.client.capabilities().get_capabilities(request).await.expect("GetCapabilities").into_inner();
    let stated = answer.cache_capabilities.expect("set").max_batch_total_size_bytes;
    // 0 would be "none stated", and clients then take the limit of their own transport.
    assert!(stated > 0 && stated < 4 << 20);
}

async fn r_034(context: Context) {
    let client = &context.client;
    let blobs = context.blobs(5, 1_000_000);
    for blob in &blobs {
        client.write(blob).await.expect("Write");
    }
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    invalid(client.batch_read(&digests, &[]).await, "5,000,000 bytes");
    assert_eq!(client.batch_read(&digests[..4], &[]).await.expect("4,000,000 bytes").len(), 4);
    // 5 MB asked for inline: what does not fit is left out, and its digest stays.
    let action = action(&mut context.random());
    let files = blobs.iter().enumerate();
    let result = re::ActionResult {
        output_files: files
            .map(|(at, blob)| re::OutputFile {
                path: at.to_string(),
                digest: Some(blob.digest.clone()),
                ..Default::default()
            })
            .collect(),
        ..Default::default()
    };
    client.update_action_result(&action, result).await.expect("UpdateActionResult");
    let request = re::GetActionResultRequest {
        action_digest: Some(action),
        inline_output_files: (0..5).map(|at: usize| at.to_string()).collect(),
        ..Default::default()
    };
    let result = client.action_cache().get_action_result(request).await.expect("under 4 MiB").into_inner();
    assert_eq!(result.output_files.len(), 5);
    assert!(result.output_files.iter().zip(&digests).all(|(file, digest)| file.digest.as_ref() == Some(digest)));
    assert!(result.output_files.iter().any(|file| !file.contents.is_empty()), "nothing was inlined");
    // 53,000 digests, none of them there: the answer is as long as the question, and still under 4 MiB.
    let mut random = context.random();
    let absent: Vec<re::Digest> = (0..53_000).map(|_| digest_of(&format!("{:064x}", random.next()), 99)).collect();
    assert_eq!(client.find_missing(&absent).await.expect("an answer under 4 MiB").len(), 53_000);
}

async fn r_035(context: Context) {
    let client = context.another_client();
    let blob = context.blob(40 << 20);
    let name = client.write_name(&blob.digest);
    let outcome = client.write_messages(vec![message(&name, 0, &blob.data, true)]).await;
    assert!(matches!(code(&outcome), Code::ResourceExhausted | Code::OutOfRange), "a message of 40 MiB: {outcome:?}");
    assert!(!client.has(&blob.digest).await);
    client.write(&blob).await.expect("the same blob in pieces");
    let action = action(&mut context.random());
    client.update_action_result(&action, result_with(&blob)).await.expect("UpdateActionResult");
}

async fn section_17_7(context: Context) {
    let client = &context.client;
    let blobs = context.blobs(1000, 4000);
    client.batch_update(&blobs).await.expect("BatchUpdate");
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    for compressors in [&[][..], &[Compressor::Zstd][..]] {
        let read = client.batch_read(&digests, compressors).await.expect("under 4 MiB");
        // Random bytes: zstd would make them larger, so it is not used.
        assert!(read.iter().zip(&blobs).all(|(item, blob)| item.data == blob.data && item.compressor == 0));
    }
}
