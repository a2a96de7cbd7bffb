//! ByteStream Write and QueryWriteStatus. Spec: reapi §7.2, §7.3.

use std::time::Duration;

use futures::{StreamExt, stream};
use tonic::Code;

use crate::case::{Case, Context, case, code, invalid, message, open_upload, signed};
use crate::harness::{Blob, Server, bytestream, digest_of, pieces};

pub fn cases() -> Vec<Case> {
    vec![
        case("r_070_the_rules_of_the_messages", r_070),
        case("r_071_what_is_wrong_is_refused_and_nothing_is_stored", r_071),
        case("r_072_committed_size_in_every_case", r_072),
        case("r_073_an_upload_of_a_present_blob_ends_early", r_073),
        case("r_074_never_already_exists", r_074),
        case("r_075_concurrent_uploads_of_one_blob_all_succeed_and_no_reader_sees_a_part", r_075),
        case("r_076_zstd_frames_caps_and_garbage", r_076),
        case("r_077_an_upload_that_stands_still_is_ended_and_a_slow_one_is_not", r_077).slow(),
        case("r_078_grpc_compression_is_not_applied_to_blobs", r_078),
        case("r_080_write_status_tells_what_is_stored", r_080),
        case("r_081_write_status_of_an_absent_blob_is_zero_and_not_an_error", r_081),
        case("r_082_an_upload_that_starts_past_zero_is_refused", r_082),
        case("section_17_1_early_close_and_a_last_message_without_data", section_17_1),
        case("section_17_5_a_zstd_bomb_is_refused", section_17_5),
        case("section_17_8_a_server_killed_while_it_is_written_to", section_17_8),
        case("pain_10_committed_size_of_zstd_is_the_compressed_count_or_minus_one", pain_10),
        case("q_20_buck2_repeats_the_name_and_sends_large_messages", q_20),
        case("q_22_buck2_reads_several_frames", r_076),
        case("q_30_pants_compares_committed_size", q_30),
    ]
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 3).expect("zstd in memory")
}

async fn r_070(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let mut next = |len| Blob::random(&mut random, len);
    // The name in the first message only; in all; the end in a message of its own.
    let blob = next(100);
    let name = client.write_name(&blob.digest);
    let (left, right) = blob.data.split_at(60);
    client
        .write_messages(vec![message(&name, 0, left, false), message("", 60, right, true)])
        .await
        .expect("the name once");
    let blob = next(100);
    let name = client.write_name(&blob.digest);
    let (left, right) = blob.data.split_at(60);
    client
        .write_messages(vec![
            message(&name, 0, left, false),
            message(&name, 60, right, false),
            message(&name, 100, b"", true),
        ])
        .await
        .expect("the name each time, the end apart");
    // Offsets of a compressed upload count compressed bytes.
    let blob = next(100);
    let (name, data) = (client.write_zstd_name(&blob.digest), zstd(&blob.data));
    let (left, right) = data.split_at(50);
    client
        .write_messages(vec![message(&name, 0, left, false), message(&name, 50, right, true)])
        .await
        .expect("offsets in compressed bytes");
    let blob = next(100);
    let name = client.write_name(&blob.digest);
    let (left, right) = blob.data.split_at(60);
    let other = client.write_name(&next(100).digest);
    for (messages, what) in [
        (vec![message(&name, 0, left, false), message(&other, 60, right, true)], "another name"),
        (vec![message(&name, 0, left, false), message("", 59, right, true)], "an offset too small"),
        (vec![message(&name, 0, left, false), message("", 61, right, true)], "an offset too large"),
        (vec![message(&name, 0, left, false), message("", 0, right, true)], "no offset"),
        (vec![message(&name, 0, left, true), message("", 60, right, true)], "an end, and then more"),
        (vec![message("", 0, &blob.data, true)], "no name"),
        (Vec::new(), "no message"),
    ] {
        invalid(client.write_messages(messages).await, what);
        assert!(!client.has(&blob.digest).await, "{what}");
    }
}

async fn r_071(context: Context) {
    let client = &context.client;
    let blob = context.blob(100_000);
    let name = client.write_name(&blob.digest);
    let mut flipped = blob.data.clone();
    flipped[99_999] ^= 1;
    let longer = [&blob.data[..], b"x"].concat();
    let unfinished = {
        let mut messages = pieces(&name, &blob.data, 16_384);
        messages.last_mut().expect("several").finish_write = false;
        messages
    };
    for (messages, what) in [
        (pieces(&name, &flipped, 16_384), "a flipped bit"),
        (pieces(&name, &blob.data[..99_999], 16_384), "one byte too few"),
        (pieces(&name, &longer, 16_384), "one byte too many"),
        (pieces(&name, b"", 16_384), "no bytes"),
        (unfinished, "no finish_write"),
        (pieces("uploads/u/blobs/nonsense", &blob.data, 16_384), "a bad name"),
        (pieces(&client.write_zstd_name(&blob.digest), &blob.data, 16_384), "plain data as zstd"),
        (pieces(&client.write_zstd_name(&blob.digest), &zstd(&flipped), 16_384), "another blob as zstd"),
    ] {
        invalid(client.write_messages(messages).await, what);
        assert!(!client.has(&blob.digest).await, "{what}: stored");
        assert!(client.read(&blob.digest).await.is_err(), "{what}: readable");
    }
    client.write(&blob).await.expect("the right bytes");
}

async fn r_072(context: Context) {
    let client = &context.client;
    let blob = Blob::new(context.random().text(3_000_000));
    let size = blob.digest.size_bytes;
    assert_eq!(client.write(&blob).await.expect("Write"), size, "complete");
    assert_eq!(client.write(&blob).await.expect("Write"), size, "ended early");
    assert_eq!(client.write_zstd(&blob).await.expect("Write"), -1, "compressed, ended early");
    let other = Blob::new([blob.data, b"x".to_vec()].concat());
    let compressed = signed(zstd(&other.data).len());
    assert_eq!(client.write_zstd(&other).await.expect("Write"), compressed, "compressed, complete");
}

async fn r_073(context: Context) {
    let client = &context.client;
    let blob = context.stored(8 << 20).await;
    let name = client.write_name(&blob.digest);
    // The first message only, and the stream stays open: the server answers all the same.
    let first = stream::iter([message(&name, 0, &blob.data[..1000], false)]).chain(stream::pending());
    assert_eq!(client.write_stream(first).await.expect("an early end"), blob.digest.size_bytes);
    // A small rest is read to its end before the answer, for clients that take an early end for a broken stream.
    let small = Blob::new(blob.data[..200_000].to_vec());
    client.write(&small).await.expect("Write");
    let messages = pieces(&client.write_name(&small.digest), &small.data, 1000);
    let (sent, count) = (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), messages.len());
    let counted = stream::iter(messages).inspect({
        let sent = sent.clone();
        move |_| {
            sent.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    });
    assert_eq!(client.write_stream(counted).await.expect("Write"), 200_000);
    assert_eq!(sent.load(std::sync::atomic::Ordering::Relaxed), count, "the server did not take what was left");
}

async fn r_074(context: Context) {
    let client = &context.client;
    for len in [0, 10, 100_000, 3_000_000] {
        let blob = Blob::new(context.blob(len).data);
        for _ in 0..3 {
            assert_eq!(code(&client.write(&blob).await), Code::Ok);
            assert_eq!(code(&client.write_zstd(&blob).await), Code::Ok);
        }
    }
}

async fn r_075(context: Context) {
    let blob = Blob::new(context.random().text(2_500_000));
    let mut uploads = Vec::new();
    for at in 0..16 {
        let (client, blob) = (context.another_client(), blob.clone());
        uploads.push(tokio::spawn(async move {
            match at % 4 {
                0 => client.write_zstd(&blob).await.map(|_| ()),
                1 => client.batch_update(std::slice::from_ref(&blob)).await.map(|answer| {
                    assert_eq!(answer[0].status.as_ref().map(|status| status.code), Some(0));
                }),
                _ => client.write(&blob).await.map(|_| ()),
            }
        }));
    }
    // A reader finds all of it or none.
    let (client, digest, data) = (context.another_client(), blob.digest.clone(), blob.data.clone());
    let reader = tokio::spawn(async move {
        loop {
            match client.read(&digest).await {
                Ok(read) => break assert!(read == data, "a part of a blob was read"),
                Err(status) => assert_eq!(status.code(), Code::NotFound),
            }
        }
    });
    for upload in uploads {
        upload.await.expect("the task").expect("every upload succeeds");
    }
    reader.await.expect("the reader");
}

async fn r_076(context: Context) {
    let client = &context.client;
    let mut random = context.random();
    let mut next = |len| Blob::new(random.text(len));
    let send = async |blob: &Blob, data: &[u8]| client.write_named(&client.write_zstd_name(&blob.digest), data).await;
    let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 5, 0, 0, 0][..], b"hello"].concat();

    let blob = next(400_000);
    let frames: Vec<u8> = blob.data.chunks(100_000).flat_map(zstd).collect();
    send(&blob, &frames).await.expect("four frames");
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
    let blob = next(1000);
    send(&blob, &[&skippable[..], &zstd(&blob.data), &skippable].concat()).await.expect("skippable frames");
    let blob = next(1001);
    send(&blob, &[zstd(&[]), zstd(&blob.data), zstd(&[])].concat()).await.expect("empty frames");

    let blob = next(1002);
    let whole = zstd(&blob.data);
    let mut wide = Vec::new();
    {
        // A window of 1 GiB: more than a decoder must grant.
        let mut encoder = zstd::Encoder::new(&mut wide, 3).expect("zstd in memory");
        encoder.window_log(30).expect("a window that zstd knows");
        encoder.long_distance_matching(true).expect("a setting of zstd");
        std::io::Write::write_all(&mut encoder, &blob.data).expect("memory");
        encoder.finish().expect("memory");
    }
    for (data, what) in [
        ([&whole[..], b"x"].concat(), "garbage after the frame"),
        ([&whole[..], &zstd(b"x")].concat(), "a frame too many"),
        (whole[..whole.len() - 3].to_vec(), "a frame cut off"),
        (skippable.clone(), "a skippable frame alone"),
        (wide, "a window of 1 GiB"),
        (Vec::new(), "nothing"),
    ] {
        invalid(send(&blob, &data).await, what);
        assert!(!client.has(&blob.digest).await, "{what}");
    }
}

async fn r_077(context: Context) {
    let client = &context.another_client();
    let (still, slow) = match &context.blobs(2, 30)[..] {
        [still, slow] => (still.clone(), slow.clone()),
        _ => unreachable!("two blobs"),
    };
    let begun = stream::iter([message(&client.write_name(&still.digest), 0, &still.data[..10], false)]);
    let still_upload = client.write_stream(begun.chain(stream::pending()));
    // A piece each 25 seconds: it takes longer than the limit in all, and each step less.
    let messages = pieces(&client.write_name(&slow.digest), &slow.data, 8);
    let paced = stream::iter(messages).enumerate().then(|(at, message)| async move {
        if at > 0 {
            tokio::time::sleep(Duration::from_secs(25)).await;
        }
        message
    });
    let (ended, done) = futures::join!(still_upload, client.write_stream(paced));
    let code = code(&ended);
    assert!(matches!(code, Code::DeadlineExceeded | Code::InvalidArgument | Code::Unavailable), "{ended:?}");
    assert!(!client.has(&still.digest).await);
    assert_eq!(done.expect("a slow upload"), 30);
}

async fn r_078(context: Context) {
    let client = &context.client;
    let blob = Blob::new(context.random().text(100_000));
    client.write_zstd(&blob).await.expect("Write");
    for name in [client.read_name(&blob.digest), client.read_zstd_name(&blob.digest)] {
        let mut request = tonic::Request::new(bytestream::ReadRequest { resource_name: name, ..Default::default() });
        request.metadata_mut().insert("grpc-accept-encoding", "gzip,deflate,zstd,identity".parse().expect("ASCII"));
        let response = client.byte_stream().read(request).await.expect("Read");
        let encoding = response.metadata().get("grpc-encoding").map(|value| value.to_str().expect("ASCII").to_owned());
        assert!(encoding.as_deref().is_none_or(|encoding| encoding == "identity"), "{encoding:?}");
    }
}

async fn r_080(context: Context) {
    let client = &context.client;
    let blob = context.stored(5000).await;
    for name in [client.write_name(&blob.digest), client.write_zstd_name(&blob.digest)] {
        let status = client.write_status(&name).await.expect("QueryWriteStatus");
        assert_eq!((status.committed_size, status.complete), (5000, true), "{name}");
    }
    let empty = Blob::new(Vec::new());
    let status = client.write_status(&client.write_name(&empty.digest)).await.expect("QueryWriteStatus");
    assert_eq!((status.committed_size, status.complete), (0, true));
    invalid(client.write_status("uploads/u/blobs/nonsense").await, "a bad name");
    invalid(client.write_status("").await, "no name");
}

async fn r_081(context: Context) {
    let client = &context.client;
    let blob = context.blob(50_000);
    let name = client.write_name(&blob.digest);
    let status = client.write_status(&name).await.expect("OK, not NOT_FOUND");
    assert_eq!((status.committed_size, status.complete), (0, false));
    // A broken try: the stream ends half way. Then as Bazel does: ask, and start where the answer says.
    let half = pieces(&name, &blob.data[..25_000], 16_384);
    assert!(client.write_messages(half).await.is_err());
    let status = client.write_status(&name).await.expect("QueryWriteStatus");
    assert!(!status.complete);
    let rest = &blob.data[usize::try_from(status.committed_size).expect("not negative")..];
    let messages = pieces(&name, rest, 16_384).into_iter().map(|mut message| {
        message.write_offset += status.committed_size;
        message
    });
    client.write_messages(messages.collect()).await.expect("the next try");
    assert!(client.write_status(&name).await.expect("QueryWriteStatus").complete);
}

async fn r_082(context: Context) {
    let client = &context.client;
    let blob = context.blob(2000);
    for name in [client.write_name(&blob.digest), client.write_zstd_name(&blob.digest)] {
        for offset in [1000, -1, 2001] {
            let outcome = client.write_messages(vec![message(&name, offset, &blob.data[1000..], true)]).await;
            assert!(matches!(code(&outcome), Code::InvalidArgument | Code::OutOfRange), "{offset}: {outcome:?}");
        }
    }
    assert!(!client.has(&blob.digest).await);
    client.write(&blob).await.expect("from 0");
}

async fn section_17_1(context: Context) {
    let client = &context.client;
    let blob = context.blob(4 << 20);
    let name = client.write_name(&blob.digest);
    // A finish message of 0 bytes.
    let messages = vec![message(&name, 0, &blob.data, false), message(&name, 4 << 20, b"", true)];
    assert_eq!(client.write_messages(messages).await.expect("Write"), 4 << 20);
    // Another upload finishes while this one is under way: it may go on to its end or be ended, and is OK.
    let other = context.blobs(2, 4 << 20)[1].clone();
    let name = client.write_name(&other.digest);
    let mut messages = pieces(&name, &other.data, 64 * 1024).into_iter();
    let upload = open_upload(&context.another_client(), messages.next().expect("many")).await;
    client.write(&other).await.expect("the other upload");
    messages.for_each(|message| upload.send(message));
    assert_eq!(upload.finish().await.expect("Write"), 4 << 20);
}

async fn section_17_5(context: Context) {
    let client = &context.client;
    let digest = digest_of(&context.blob(10).digest.hash, 10);
    let name = client.write_zstd_name(&digest);
    let mut encoder = zstd::Encoder::new(Vec::new(), 3).expect("zstd in memory");
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1 << 30), &mut encoder).expect("memory");
    let bomb = encoder.finish().expect("memory");
    assert!(bomb.len() < 1 << 20);
    invalid(client.write_named(&name, &bomb).await, "1 GiB of zeros for 10 bytes");
    assert!(!client.has(&digest).await);
}

async fn section_17_8(context: Context) {
    let mut server = Server::start(&[]);
    let (whole, part) = (context.blob(3_000_000), context.blobs(2, 3_000_000)[1].clone());
    let client = server.client();
    client.write(&whole).await.expect("Write");
    let mut messages = pieces(&client.write_name(&part.digest), &part.data, 64 * 1024).into_iter();
    let upload = open_upload(&client, messages.next().expect("many")).await;
    messages.by_ref().take(20).for_each(|message| upload.send(message));
    client.find_missing(std::slice::from_ref(&part.digest)).await.expect("FindMissing");
    server.kill();
    assert!(upload.finish().await.is_err());
    server.restart();
    let client = server.client();
    assert!(client.has(&whole.digest).await);
    assert_eq!(client.read(&whole.digest).await.expect("Read"), whole.data);
    assert!(!client.has(&part.digest).await, "half a blob is listed");
    client.write(&part).await.expect("the upload again");
    assert_eq!(client.read(&part.digest).await.expect("Read"), part.data);
}

async fn pain_10(context: Context) {
    // Bazel and Buck2 take the compressed count or -1 and nothing else; Buck2 says so by its name, others by theirs.
    let mut random = context.random();
    for len in [10, 10_000, 2_000_000] {
        let blob = Blob::new(random.text(len));
        let compressed = signed(zstd(&blob.data).len());
        for _ in 0..2 {
            let committed = context.client.write_zstd(&blob).await.expect("Write");
            assert!(committed == compressed || committed == -1, "{committed}, {compressed} were sent");
        }
    }
}

async fn q_20(context: Context) {
    let client = &context.client;
    let blob = context.blob(9_000_000);
    let name = client.write_name(&blob.digest);
    let messages = pieces(&name, &blob.data, 4_000_000)
        .into_iter()
        .map(|message| bytestream::WriteRequest { resource_name: name.clone(), ..message })
        .collect();
    assert_eq!(client.write_messages(messages).await.expect("Write"), 9_000_000);
    assert_eq!(client.read(&blob.digest).await.expect("Read"), blob.data);
}

async fn q_30(context: Context) {
    let mut random = context.random();
    for len in [0, 1, 16_384, 16_385, 1 << 20, 5_000_000] {
        let blob = Blob::random(&mut random, len);
        for _ in 0..2 {
            assert_eq!(context.client.write(&blob).await.expect("Write"), signed(len));
        }
    }
}
