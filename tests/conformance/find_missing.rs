//! FindMissingBlobs. Spec: reapi §5.

use std::collections::HashSet;
use std::time::Instant;

use crate::case::{Case, Context, case, code, invalid, read_code, signed};
use crate::harness::{Random, digest_of, re, say};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_040_the_answer_is_what_is_not_there_each_once", r_040),
        case("r_041_what_is_present_can_be_read_and_what_is_missing_cannot", r_041),
        case("r_043_a_malformed_digest_fails_the_call", r_043),
        case("r_044_lists_of_every_size_that_clients_send", r_044),
        case("pain_09_a_find_missing_of_53000_digests_as_pants_sends", pain_09),
        case("pain_18_many_small_calls_one_after_another", pain_18),
    ]
}

async fn r_040(context: Context) {
    let client = &context.client;
    let blobs = context.blobs(6, 100);
    for blob in &blobs[..3] {
        client.write(blob).await.expect("Write");
    }
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    let asked = [&digests[..], &digests[..], &digests[2..4]].concat();
    let missing = client.find_missing(&asked).await.expect("FindMissing");
    assert_eq!(missing.len(), 3, "each once: {missing:?}");
    let missing: HashSet<String> = missing.into_iter().map(|digest| digest.hash).collect();
    assert_eq!(missing, digests[3..].iter().map(|digest| digest.hash.clone()).collect());
    assert!(client.find_missing(&digests[..3]).await.expect("FindMissing").is_empty());
}

async fn r_041(context: Context) {
    let client = &context.client;
    // Inline, packed, in a file of its own, in chunks: each way that the server may store a blob.
    let mut random = context.random();
    for len in [1, 100, 3000, 70_000, 1_100_000, 9_000_000] {
        let blob = crate::harness::Blob::random(&mut random, len);
        assert!(!client.has(&blob.digest).await);
        assert_ne!(read_code(client, &blob.digest).await, tonic::Code::Ok);
        client.write(&blob).await.expect("Write");
        assert!(client.has(&blob.digest).await, "{len}");
        assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data, "{len}");
    }
}

async fn r_043(context: Context) {
    let client = &context.client;
    let good = context.stored(10).await.digest;
    for bad in [digest_of("", 10), digest_of("xyz", 10), re::Digest { size_bytes: -1, ..good.clone() }] {
        invalid(client.find_missing(&[good.clone(), bad.clone(), good.clone()]).await, &format!("{bad:?}"));
    }
    assert!(client.find_missing(&[good]).await.expect("FindMissing").is_empty());
}

async fn r_044(context: Context) {
    let client = &context.client;
    let present = context.blobs(100, 10);
    client.batch_update(&present).await.expect("BatchUpdate");
    for count in [1, 100, 10_000, 16_384] {
        let mut random = context.random();
        let mut digests = absent(&mut random, count);
        digests.extend(present.iter().map(|blob| blob.digest.clone()));
        assert_eq!(client.find_missing(&digests).await.expect("FindMissing").len(), count);
    }
}

async fn pain_09(context: Context) {
    let client = &context.client;
    let present = context.blobs(1000, 10);
    client.batch_update(&present).await.expect("BatchUpdate");
    let mut digests = absent(&mut context.random(), 52_000);
    digests.extend(present.iter().map(|blob| blob.digest.clone()));
    let start = Instant::now();
    let missing = client.find_missing(&digests).await.expect("FindMissing");
    say(format!("FindMissingBlobs of 53,000 digests: {} ms", start.elapsed().as_millis()));
    assert_eq!(missing.len(), 52_000);
}

/// A caller that waits for each answer shows whether small frames wait for others (TCP_NODELAY). Shown, not judged.
async fn pain_18(context: Context) {
    let client = context.another_client();
    let blob = context.stored(100).await;
    let mut times = Vec::new();
    for _ in 0..300 {
        let start = Instant::now();
        assert_eq!(client.read(&blob.digest).await.expect("Read").len(), 100);
        times.push(start.elapsed());
    }
    times.sort_unstable();
    say(format!(
        "Read of 100 bytes, one after another: p50 {} us, p99 {} us",
        times[150].as_micros(),
        times[297].as_micros()
    ));
    assert_eq!(code(&client.find_missing(&[]).await), tonic::Code::Ok);
    assert_eq!(signed(blob.data.len()), blob.digest.size_bytes);
}

fn absent(random: &mut Random, count: usize) -> Vec<re::Digest> {
    (0..count).map(|_| digest_of(&format!("{:064x}", random.next()), 77)).collect()
}
