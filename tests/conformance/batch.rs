//! BatchUpdateBlobs and BatchReadBlobs. Spec: reapi §6.

use tonic::Code;

use crate::case::{Case, Compressor, Context, case, invalid, item_code, read_code, update_code};
use crate::harness::{Blob, digest_of, re};

use re::batch_update_blobs_request::Request;

pub fn cases() -> Vec<Case> {
    vec![
        case("r_050_one_answer_per_request_in_order_and_items_fail_alone", r_050),
        case("r_051_items_may_be_zstd_capped_at_their_size", r_051),
        case("r_052_item_codes", r_052),
        case("r_053_a_present_blob_is_still_verified", r_053),
        case("r_054_clients_that_ignore_or_insist_on_item_status_both_work", r_054),
        case("r_055_one_answer_per_digest_with_status_always_set", r_055),
        case("r_056_a_compressor_only_if_listed_and_smaller", r_056),
        case("r_057_a_read_above_the_limit_is_refused_whole", r_057),
        case("r_058_repeated_digests_are_answered_each_time", r_058),
        case("q_31_pants_reads_one_item_with_status_zero", r_055),
        case("q_50_moon_sends_zstd_inside_batches_under_an_instance", q_50),
    ]
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).expect("zstd in memory")
}

async fn r_050(context: Context) {
    let client = &context.client;
    let mut blobs = context.blobs(5, 100);
    blobs[1].data[0] ^= 1;
    blobs[3].data.push(0);
    let answer = client.batch_update(&blobs).await.expect("the call itself is OK");
    let codes: Vec<Code> = answer.iter().map(|item| item_code(item.status.as_ref())).collect();
    assert_eq!(codes, [Code::Ok, Code::InvalidArgument, Code::Ok, Code::InvalidArgument, Code::Ok]);
    assert!(answer.iter().zip(&blobs).all(|(item, blob)| item.digest.as_ref() == Some(&blob.digest)));
    for (blob, code) in blobs.iter().zip(codes) {
        assert_eq!(client.has(&blob.digest).await, code == Code::Ok, "{blob:?}");
    }
}

async fn r_051(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let blob = Blob::new(random.text(50_000));
    assert_eq!(update_code(client, &blob.digest, &zstd(&blob.data), Compressor::Zstd).await, Code::Ok);
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
    // Several frames are one stream.
    let frames = Blob::new(random.text(20_000));
    let (left, right) = frames.data.split_at(7000);
    assert_eq!(
        update_code(client, &frames.digest, &[zstd(left), zstd(right)].concat(), Compressor::Zstd).await,
        Code::Ok
    );
    let wrong = Blob::new(random.text(1000));
    let bomb = zstd(&vec![0; 64 << 20]);
    assert!(bomb.len() < 100_000);
    for (data, what) in [
        (zstd(&wrong.data[..999]), "too short"),
        (zstd(&[&wrong.data[..], b"x"].concat()), "too long"),
        (bomb, "64 MiB of zeros for 1,000 bytes"),
        (wrong.data.clone(), "not zstd"),
        ([zstd(&wrong.data), b"x".to_vec()].concat(), "garbage after the frame"),
        (zstd(&wrong.data)[..20].to_vec(), "a frame cut off"),
        (Vec::new(), "nothing"),
    ] {
        assert_eq!(update_code(client, &wrong.digest, &data, Compressor::Zstd).await, Code::InvalidArgument, "{what}");
    }
    for unsupported in [2, 3, 77] {
        let request = Request { digest: Some(wrong.digest.clone()), data: wrong.data.clone(), compressor: unsupported };
        let answer = client.batch_update_requests(vec![request]).await.expect("the call itself is OK");
        assert_eq!(item_code(answer[0].status.as_ref()), Code::InvalidArgument, "compressor {unsupported}");
    }
    assert!(!client.has(&wrong.digest).await);
}

async fn r_052(context: Context) {
    let client = &context.client;
    let blob = context.blob(500);
    for _ in 0..2 {
        assert_eq!(update_code(client, &blob.digest, &blob.data, Compressor::Identity).await, Code::Ok, "or present");
    }
    let twice = context.blobs(2, 501)[1].clone();
    let answer = client.batch_update(&[twice.clone(), twice.clone()]).await.expect("BatchUpdate");
    assert!(answer.iter().all(|item| item_code(item.status.as_ref()) == Code::Ok), "the same digest twice");
    let bad = digest_of("abc", 500);
    assert_eq!(update_code(client, &bad, &blob.data, Compressor::Identity).await, Code::InvalidArgument);
    let none = Request { digest: None, data: blob.data.clone(), compressor: 0 };
    match client.batch_update_requests(vec![none]).await {
        Ok(answer) => assert_eq!(item_code(answer[0].status.as_ref()), Code::InvalidArgument),
        Err(status) => assert_eq!(status.code(), Code::InvalidArgument),
    }
}

async fn r_053(context: Context) {
    let client = &context.client;
    let blob = context.stored(800).await;
    let other = vec![7; 800];
    assert_eq!(update_code(client, &blob.digest, &other, Compressor::Identity).await, Code::InvalidArgument);
    assert_eq!(update_code(client, &blob.digest, &zstd(&other), Compressor::Zstd).await, Code::InvalidArgument);
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
}

async fn r_054(context: Context) {
    let client = &context.client;
    let mut blobs = context.blobs(3, 64);
    blobs[2].data.clear();
    client.batch_update(&blobs).await.expect("a client that looks at the call only sees success");
    // It asks again, as Pants does, and learns what it must send.
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    assert_eq!(client.find_missing(&digests).await.expect("FindMissing"), digests[2..]);
}

async fn r_055(context: Context) {
    let client = &context.client;
    let blobs = context.blobs(3, 90);
    client.batch_update(&[blobs[0].clone(), blobs[2].clone()]).await.expect("BatchUpdate");
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    let answer = client.batch_read(&digests, &[]).await.expect("BatchRead");
    let codes: Vec<Code> = answer.iter().map(|item| item_code(item.status.as_ref())).collect();
    assert_eq!(codes, [Code::Ok, Code::NotFound, Code::Ok]);
    assert!(answer.iter().zip(&digests).all(|(item, digest)| item.digest.as_ref() == Some(digest)));
    assert_eq!(answer[0].data, blobs[0].data);
    assert!(answer[1].data.is_empty(), "no data on failure");
}

async fn r_056(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let (text, noise) = (Blob::new(random.text(10_000)), Blob::random(&mut random, 10_000));
    client.batch_update(&[text.clone(), noise.clone()]).await.expect("BatchUpdate");
    let digests = [text.digest.clone(), noise.digest.clone()];
    let plain = client.batch_read(&digests, &[]).await.expect("BatchRead");
    assert!(plain.iter().all(|item| item.compressor == 0));
    assert_eq!(plain[0].data, text.data);
    // DEFLATE and BROTLI are not offered: the answer is plain.
    let others = client.batch_read(&digests, &[Compressor::Deflate, Compressor::Brotli]).await.expect("BatchRead");
    assert!(others.iter().all(|item| item.compressor == 0));
    let listed = client.batch_read(&digests, &[Compressor::Identity, Compressor::Zstd]).await.expect("BatchRead");
    for (item, blob) in listed.iter().zip([&text, &noise]) {
        let data = match Compressor::try_from(item.compressor) {
            Ok(Compressor::Identity) => item.data.clone(),
            Ok(Compressor::Zstd) => zstd::decode_all(item.data.as_slice()).expect("zstd"),
            other => panic!("{other:?} was not listed"),
        };
        assert_eq!(data, blob.data);
        assert!(item.data.len() <= blob.data.len(), "compressed to more");
    }
}

async fn r_057(context: Context) {
    let client = &context.client;
    let blob = context.stored(2_000_001).await;
    invalid(client.batch_read(&[blob.digest.clone(), blob.digest.clone()], &[]).await, "4,000,002 bytes");
    // Judged by what is declared, before anything is read.
    let absent = digest_of(&context.blobs(2, 1)[1].digest.hash, 4_000_001);
    invalid(client.batch_read(&[absent], &[]).await, "a declared size above the limit");
    assert_eq!(read_code(client, &blob.digest).await, Code::Ok);
}

async fn r_058(context: Context) {
    let client = &context.client;
    let blob = context.stored(1_000_000).await;
    let four = vec![blob.digest.clone(); 4];
    let answer = client.batch_read(&four, &[]).await.expect("BatchRead");
    assert_eq!(answer.len(), 4);
    assert!(answer.iter().all(|item| item.data == blob.data));
    invalid(client.batch_read(&vec![blob.digest; 5], &[]).await, "each counts");
}

async fn q_50(context: Context) {
    let client = context.client.instance("moon-outputs");
    let mut random = context.random();
    let blobs: Vec<Blob> = (0..20).map(|at| Blob::new(random.text(at * 100))).collect();
    let requests = blobs
        .iter()
        .map(|blob| Request {
            digest: Some(blob.digest.clone()),
            data: zstd(&blob.data),
            compressor: Compressor::Zstd.into(),
        })
        .collect();
    let answer = client.batch_update_requests(requests).await.expect("BatchUpdate");
    assert!(answer.iter().all(|item| item_code(item.status.as_ref()) == Code::Ok), "{answer:?}");
    let digests: Vec<re::Digest> = blobs.iter().map(|blob| blob.digest.clone()).collect();
    let read = client.batch_read(&digests, &[Compressor::Zstd]).await.expect("BatchRead");
    for (item, blob) in read.iter().zip(&blobs) {
        let is_zstd = item.compressor == i32::from(Compressor::Zstd);
        let data = if is_zstd { zstd::decode_all(item.data.as_slice()).expect("zstd") } else { item.data.clone() };
        assert_eq!(data, blob.data);
    }
}
