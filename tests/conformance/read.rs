//! ByteStream Read. Spec: reapi §7.4.

use tonic::Code;

use crate::case::{Case, Context, EMPTY_SHA256, case, invalid, refused, signed};
use crate::harness::{Blob, Client, Server, digest_of};
use crate::lifetimes::damage;

pub fn cases() -> Vec<Case> {
    vec![
        case("r_085_offsets", r_085),
        case("r_086_limits", r_086),
        case("r_087_zstd_from_an_offset_on", r_087),
        case("r_088_every_blob_is_readable_in_every_form", r_088),
        case("r_089_missing_and_damaged_blobs_are_not_found", r_089),
        case("r_090_pieces_stay_well_under_4_mib", r_090),
        case("r_091_what_is_sent_as_zstd_any_decoder_takes", r_091),
        case("section_17_2_offsets_and_limits_plain_and_zstd", r_085),
        case("pain_16_a_resumed_download_has_each_byte_once", pain_16),
        case("pain_17_a_download_goes_on_beside_an_idle_reader", pain_17),
    ]
}

/// Blobs of each way to be stored, uploaded plain or as zstd in turn.
async fn stored_in_all_ways(context: &Context) -> Vec<Blob> {
    let mut random = context.random();
    let mut blobs = Vec::new();
    for (at, len) in [1, 100, 2048, 2049, 65_536, 1 << 20, (1 << 20) + 1, 2_500_000, 7_000_000].into_iter().enumerate()
    {
        let blob = if at % 2 == 0 { Blob::random(&mut random, len) } else { Blob::new(random.text(len)) };
        if at % 3 == 0 {
            context.client.write_zstd(&blob).await.expect("Write");
        } else {
            context.client.write(&blob).await.expect("Write");
        }
        blobs.push(blob);
    }
    blobs
}

async fn read_zstd_at(client: &Client, blob: &Blob, offset: usize) -> Vec<u8> {
    let compressed = client.read_named(&client.read_zstd_name(&blob.digest), signed(offset), 0).await.expect("Read");
    zstd::decode_all(compressed.as_slice()).expect("a zstd stream")
}

async fn r_085(context: Context) {
    let client = &context.client;
    for blob in stored_in_all_ways(&context).await {
        let len = blob.data.len();
        let (plain, zstd) = (client.read_name(&blob.digest), client.read_zstd_name(&blob.digest));
        for offset in [0, 1, len / 2, len - 1, len] {
            let read = client.read_named(&plain, signed(offset), 0).await.expect("Read");
            assert!(read == blob.data[offset..], "{blob:?} from {offset}");
            assert!(read_zstd_at(client, &blob, offset).await == blob.data[offset..], "{blob:?} from {offset}, zstd");
        }
        for offset in [-1, signed(len) + 1, i64::MAX, i64::MIN] {
            for name in [&plain, &zstd] {
                refused(client.read_named(name, offset, 0).await, Code::OutOfRange, &format!("{name} from {offset}"));
            }
        }
    }
}

async fn r_086(context: Context) {
    let client = &context.client;
    for blob in stored_in_all_ways(&context).await {
        let len = blob.data.len();
        let (plain, zstd) = (client.read_name(&blob.digest), client.read_zstd_name(&blob.digest));
        for (offset, limit) in [(0, 1), (0, len), (0, len + 1), (len / 2, 1), (len / 2, len), (len, 5), (len - 1, 1)] {
            let read = client.read_named(&plain, signed(offset), signed(limit)).await.expect("Read");
            let end = len.min(offset + limit);
            assert!(read == blob.data[offset..end], "{blob:?} from {offset}, {limit} bytes");
        }
        assert!(client.read_named(&plain, 0, i64::MAX).await.expect("Read") == blob.data);
        for limit in [-1, i64::MIN] {
            invalid(client.read_named(&plain, 0, limit).await, "a negative limit");
        }
        for limit in [1, signed(len), -1] {
            invalid(client.read_named(&zstd, 0, limit).await, "a limit on compressed data");
        }
    }
}

async fn r_087(context: Context) {
    let client = &context.client;
    for blob in stored_in_all_ways(&context).await {
        let mut random = context.random();
        for _ in 0..5 {
            let offset = usize::try_from(random.below(blob.digest.size_bytes.unsigned_abs() + 1)).expect("small");
            assert!(read_zstd_at(client, &blob, offset).await == blob.data[offset..], "{blob:?} from {offset}");
        }
    }
}

async fn r_088(context: Context) {
    let client = &context.client;
    for blob in stored_in_all_ways(&context).await {
        assert!(client.read(&blob.digest).await.expect("Read") == blob.data, "{blob:?} plain");
        assert!(client.read_zstd(&blob.digest).await.expect("Read") == blob.data, "{blob:?} as zstd");
    }
    let in_batch = context.blobs(2, 900)[1].clone();
    client.batch_update(std::slice::from_ref(&in_batch)).await.expect("BatchUpdate");
    assert_eq!(client.read_zstd(&in_batch.digest).await.expect("Read"), in_batch.data);
}

async fn r_089(context: Context) {
    let absent = context.blobs(2, 500)[1].digest.clone();
    refused(context.client.read(&absent).await, Code::NotFound, "absent");
    let zstd_name = context.client.read_zstd_name(&absent);
    refused(context.client.read_named(&zstd_name, 0, 0).await, Code::NotFound, "absent, as zstd");

    let mut server = Server::start(&[]);
    let blobs = [context.blob(50_000), context.blobs(2, 600_000)[1].clone(), context.blobs(3, 3_000_000)[2].clone()];
    for blob in &blobs {
        server.client().write(blob).await.expect("Write");
    }
    server.terminate();
    for blob in &blobs {
        damage(server.folder(), &blob.data);
    }
    server.restart();
    let client = server.client();
    for blob in &blobs {
        // The first byte may be out before the damage is met; a wrong byte never is.
        let outcome = client.read(&blob.digest).await;
        let code = outcome.map_or_else(|status| status.code(), |_| Code::Ok);
        assert!(matches!(code, Code::NotFound | Code::DataLoss), "{blob:?}: {code:?}");
        refused(client.read(&blob.digest).await, Code::NotFound, "read again");
        assert!(!client.has(&blob.digest).await, "a damaged blob is said to be there");
        client.write(blob).await.expect("the upload again");
        assert!(client.read(&blob.digest).await.expect("Read") == blob.data);
    }
}

async fn r_090(context: Context) {
    let client = &context.client;
    let blob = context.stored(20 << 20).await;
    let read = client.read_pieces(&client.read_name(&blob.digest), 0, 0).await.expect("Read");
    let largest = read.iter().map(Vec::len).max().expect("pieces");
    assert!(largest <= 1 << 20, "a piece of {largest} bytes");
    let tiny = read.iter().filter(|piece| piece.len() < 16 * 1024).count();
    assert!(tiny * 4 < read.len(), "{tiny} of {} pieces are under 16 KiB", read.len());
    assert!(read.concat() == blob.data);
}

async fn r_091(context: Context) {
    let client = &context.client;
    for blob in stored_in_all_ways(&context).await {
        // Decoded bit by bit, as a client that gets small buffers does.
        let compressed = client.read_named(&client.read_zstd_name(&blob.digest), 0, 0).await.expect("Read");
        let mut decoder = zstd::stream::read::Decoder::new(compressed.as_slice()).expect("zstd");
        let mut data = Vec::new();
        std::io::copy(&mut decoder, &mut data).expect("a zstd stream that ends at its end");
        assert!(data == blob.data, "{blob:?}");
    }
    let empty = client.read_named(&client.read_zstd_name(&digest_of(EMPTY_SHA256, 0)), 0, 0).await.expect("Read");
    assert!(empty.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]), "one empty frame: {empty:?}");
    assert!(zstd::decode_all(empty.as_slice()).expect("zstd").is_empty());
}

async fn pain_16(context: Context) {
    let client = &context.client;
    let blob = context.stored(3_000_000).await;
    let name = client.read_name(&blob.digest);
    let (mut got, mut random) = (Vec::new(), context.random());
    while got.len() < blob.data.len() {
        let request = crate::harness::bytestream::ReadRequest {
            resource_name: name.clone(),
            read_offset: signed(got.len()),
            ..Default::default()
        };
        // A download that breaks after a few pieces, and goes on from what it has.
        let mut stream = client.byte_stream().read(request).await.expect("Read").into_inner();
        for _ in 0..=random.below(4) {
            let Some(piece) = stream.message().await.expect("Read") else { break };
            got.extend(piece.data);
        }
    }
    assert!(got == blob.data);
}

async fn pain_17(context: Context) {
    // A reader that takes nothing holds up neither its own connection nor the server.
    let client = context.another_client();
    let blob = context.stored(30 << 20).await;
    let request = || crate::harness::bytestream::ReadRequest {
        resource_name: client.read_name(&blob.digest),
        ..Default::default()
    };
    let idle = client.byte_stream().read(request()).await.expect("Read");
    for client in [client.clone(), context.another_client()] {
        assert!(client.has(&blob.digest).await);
        assert_eq!(client.read_named(&client.read_name(&blob.digest), 0, 1000).await.expect("Read"), blob.data[..1000]);
    }
    drop(idle);
}
