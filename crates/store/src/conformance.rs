//! The suite that every store and every wrapper passes: each sentence of the two traits, asked of a store.
//!
//! The checks panic with what went wrong. They use data made from a seed, so a store may hold other data meanwhile, and be
//! asked again with another seed.

use std::collections::HashSet;

use bytes::Bytes;
use cache_types::{ByteRange, Digest, DigestFunction, Hasher};
use futures::StreamExt;
use futures::future::join_all;
use futures::stream;

use crate::{BlobBody, BlobStore, BodyError, MAX_CHUNK_BYTES, RecordKey, RecordKind, RecordStore, StoreError};

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
/// Every size class of every store, and its edges.
const SIZES: [usize; 13] = [
    1,
    2 * KIB - 1,
    2 * KIB,
    2 * KIB + 1,
    64 * KIB,
    64 * KIB + 1,
    MIB - 1,
    MIB,
    MIB + 1,
    2 * MIB,
    3 * MIB,
    4 * MIB + 7,
    9 * MIB,
];

/// Everything that [`BlobStore`] promises. `seed` makes the data of this run.
///
/// # Panics
/// When the store breaks a promise.
pub async fn blob_store(store: &dyn BlobStore, seed: u64) {
    empty_blobs_are_always_present(store).await;
    blobs_of_every_size_read_back(store, seed).await;
    blobs_of_every_function_read_back(store, seed).await;
    compressible_blobs_read_back(store, seed).await;
    ranges_give_the_bytes_they_name(store, seed).await;
    bodies_in_pieces_are_stored(store, seed).await;
    wrong_hashes_store_nothing(store, seed).await;
    wrong_sizes_store_nothing(store, seed).await;
    failing_bodies_store_nothing(store, seed).await;
    writing_again_succeeds(store, seed).await;
    concurrent_writes_of_one_blob_succeed(store, seed).await;
    blobs_of_a_batch_fail_alone(store, seed).await;
    missing_digests_are_listed_once(store, seed).await;
    split_blobs_are_their_chunks(store, seed).await;
    split_gives_the_cuts_of_the_specification(store).await;
    small_blobs_are_their_own_chunk(store, seed).await;
    splice_makes_a_blob_from_its_chunks(store, seed).await;
    splice_takes_chunks_that_are_lists(store, seed).await;
    splice_refuses_what_does_not_add_up(store, seed).await;
    splice_of_a_present_blob_succeeds(store, seed).await;
}

/// Everything that [`RecordStore`] promises. `seed` makes the keys of this run.
///
/// # Panics
/// When the store breaks a promise.
pub async fn record_store(store: &dyn RecordStore, seed: u64) {
    records_read_back_and_are_replaced(store, seed).await;
    records_take_any_bytes(store, seed).await;
    records_are_read_together(store, seed).await;
    removed_records_are_gone(store, seed).await;
    concurrent_writes_leave_one_of_them(store, seed).await;
}

/// Bytes that no other check has, and that do not compress.
fn noise(seed: u64, name: &str, len: usize) -> Bytes {
    let mut state =
        seed ^ name.bytes().fold(len as u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    let mut data = Vec::with_capacity(len + 8);
    while data.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        data.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    data.truncate(len);
    data.into()
}

fn sha256(data: &[u8]) -> Digest {
    Digest::of(DigestFunction::Sha256, data)
}

fn with_size(digest: Digest, size_bytes: u64) -> Digest {
    Digest::new(*digest.hash(), size_bytes).expect("a small size")
}

async fn put(store: &dyn BlobStore, data: &Bytes) -> Digest {
    let digest = sha256(data);
    if let Err(error) = store.write(digest, data.clone().into()).await {
        panic!("write of {digest} failed: {error:?}");
    }
    digest
}

/// All bytes of a range; `None` when the blob is not there.
async fn get(store: &dyn BlobStore, digest: &Digest, range: ByteRange) -> Option<Bytes> {
    let body = match store.read(digest, range).await {
        Ok(body) => body?,
        Err(error) => panic!("read of {digest} failed: {error:?}"),
    };
    match body.collect(usize::MAX).await {
        Ok(bytes) => bytes,
        Err(error) => panic!("the body of {digest} failed: {error:?}"),
    }
}

async fn missing(store: &dyn BlobStore, digests: &[Digest]) -> Vec<Digest> {
    match store.find_missing(digests).await {
        Ok(missing) => missing,
        Err(error) => panic!("find_missing failed: {error:?}"),
    }
}

async fn assert_absent(store: &dyn BlobStore, digest: &Digest) {
    assert_eq!(missing(store, &[*digest]).await, [*digest], "{digest} is not listed as missing");
    assert!(get(store, digest, ByteRange::ALL).await.is_none(), "{digest} is read though it was not stored");
}

async fn assert_present(store: &dyn BlobStore, digest: &Digest, data: &Bytes) {
    assert_eq!(missing(store, &[*digest]).await, [], "{digest} is listed as missing");
    let read = get(store, digest, ByteRange::ALL).await;
    assert!(read.as_ref() == Some(data), "{digest} does not read back: {:?} bytes", read.map(|bytes| bytes.len()));
}

fn assert_mismatch(result: Result<(), StoreError>, what: &str) {
    assert!(matches!(result, Err(StoreError::Mismatch { .. })), "{what}: {result:?}");
}

async fn empty_blobs_are_always_present(store: &dyn BlobStore) {
    for function in DigestFunction::ALL {
        let empty = Digest::empty(function);
        assert_present(store, &empty, &Bytes::new()).await;
        store.write(empty, Bytes::new().into()).await.expect("the empty blob is accepted");
        assert_mismatch(store.write(empty, Bytes::from_static(b"x").into()).await, "bytes for the empty blob");
        let one = with_size(empty, 1);
        assert_mismatch(store.write(one, Bytes::new().into()).await, "the empty hash with size 1, no bytes");
        assert_absent(store, &one).await;
        let split = store.split(&empty).await.expect("split of the empty blob");
        let chunks = split.expect("the empty blob is present");
        assert!(chunks.iter().all(Digest::is_empty), "{chunks:?}");
    }
    let hash = *sha256(b"not empty").hash();
    let zero = Digest::new(hash, 0).expect("zero is a size");
    assert_mismatch(store.write(zero, Bytes::new().into()).await, "size 0 with another hash");
    assert_absent(store, &zero).await;
}

async fn blobs_of_every_size_read_back(store: &dyn BlobStore, seed: u64) {
    for size in SIZES {
        let data = noise(seed, "sizes", size);
        let digest = sha256(&data);
        assert_absent(store, &digest).await;
        put(store, &data).await;
        assert_present(store, &digest, &data).await;
        for other in [size as u64 - 1, size as u64 + 1] {
            assert_absent(store, &with_size(digest, other)).await;
        }
    }
}

async fn blobs_of_every_function_read_back(store: &dyn BlobStore, seed: u64) {
    for size in [100, 70 * KIB, MIB + 100] {
        let data = noise(seed, "functions", size);
        for function in DigestFunction::ALL {
            let digest = Digest::of(function, &data);
            // The functions are separate key spaces.
            assert_absent(store, &digest).await;
            store.write(digest, data.clone().into()).await.unwrap_or_else(|error| panic!("{function}: {error:?}"));
            assert_present(store, &digest, &data).await;
        }
    }
}

async fn compressible_blobs_read_back(store: &dyn BlobStore, seed: u64) {
    for size in [1000, 10_000, MIB, 3 * MIB + 5] {
        let line = noise(seed, "compressible", 40);
        let data: Bytes = line.iter().copied().cycle().take(size).collect::<Vec<u8>>().into();
        let digest = put(store, &data).await;
        assert_present(store, &digest, &data).await;
        check_ranges(store, &digest, &data).await;
    }
}

async fn ranges_give_the_bytes_they_name(store: &dyn BlobStore, seed: u64) {
    for size in [1, 1000, 64 * KIB, MIB, MIB + 1, 3 * MIB + 5] {
        let data = noise(seed, "ranges", size);
        let digest = put(store, &data).await;
        check_ranges(store, &digest, &data).await;
    }
}

async fn check_ranges(store: &dyn BlobStore, digest: &Digest, data: &Bytes) {
    let size = data.len() as u64;
    let middle = size / 2;
    let offsets = [0, 1, middle, size - 1, size, MIB as u64 - 1, MIB as u64, MIB as u64 + 1];
    for offset in offsets.into_iter().filter(|offset| *offset <= size) {
        for limit in [None, Some(1), Some(1000), Some(MIB as u64), Some(size), Some(size + 10), Some(u64::MAX)] {
            let range = ByteRange::new(offset, limit);
            let within = range.within(size).expect("not past the end");
            let wanted = data.slice(within.start as usize..within.end as usize);
            let read = get(store, digest, range).await.unwrap_or_else(|| panic!("{digest} is gone"));
            assert!(read == wanted, "{digest} {range:?}: {} bytes of {}", read.len(), wanted.len());
        }
    }
    let past = store.read(digest, ByteRange::new(size + 1, None)).await;
    assert!(matches!(past, Err(StoreError::Range { .. })), "a read past the end of {digest} is no range error");
}

/// The bytes in pieces of `len`, then an error if there is one.
fn pieces(data: &Bytes, len: usize, error: Option<StoreError>) -> BlobBody {
    let pieces: Vec<Result<Bytes, StoreError>> =
        data.chunks(len).map(|piece| Ok(Bytes::copy_from_slice(piece))).chain(error.map(Err)).collect();
    BlobBody::from_stream(stream::iter(pieces))
}

async fn bodies_in_pieces_are_stored(store: &dyn BlobStore, seed: u64) {
    for (size, piece) in [(10, 1), (5000, 7), (300 * KIB, 64 * KIB), (3 * MIB + 1, 100_003), (5 * MIB, 3 * MIB)] {
        let data = noise(seed, "pieces", size);
        let digest = sha256(&data);
        store.write(digest, pieces(&data, piece, None)).await.unwrap_or_else(|error| panic!("{digest}: {error:?}"));
        assert_present(store, &digest, &data).await;
    }
}

async fn wrong_hashes_store_nothing(store: &dyn BlobStore, seed: u64) {
    for size in [10, 10_000, 3 * MIB] {
        let (right, wrong) = (noise(seed, "right", size), noise(seed, "wrong", size));
        let digest = sha256(&right);
        assert_mismatch(store.write(digest, wrong.clone().into()).await, "another blob of the same size");
        assert_absent(store, &digest).await;
        assert_absent(store, &sha256(&wrong)).await;
    }
}

async fn wrong_sizes_store_nothing(store: &dyn BlobStore, seed: u64) {
    for size in [10, 10_000, MIB, 3 * MIB] {
        let data = noise(seed, "wrong sizes", size);
        let digest = sha256(&data);
        for claimed in [1, size as u64 - 1, size as u64 + 1, size as u64 * 2] {
            let claimed = with_size(digest, claimed);
            assert_mismatch(store.write(claimed, pieces(&data, 64 * KIB, None)).await, "another size than claimed");
            assert_absent(store, &claimed).await;
        }
        let (short, long) = (data.slice(1..), [&data[..], b"x"].concat());
        assert_mismatch(store.write(digest, short.into()).await, "fewer bytes");
        assert_mismatch(store.write(digest, Bytes::from(long).into()).await, "more bytes");
        assert_absent(store, &digest).await;
    }
}

async fn failing_bodies_store_nothing(store: &dyn BlobStore, seed: u64) {
    for size in [10, 10_000, 3 * MIB] {
        let data = noise(seed, "failing", size);
        let digest = sha256(&data);
        for sent in [0, 1, size / 2, size] {
            let error = StoreError::Body(BodyError::Interrupted("the peer went away".into()));
            let result = store.write(digest, pieces(&data.slice(..sent), 64 * KIB, Some(error))).await;
            assert!(result.is_err(), "a body that failed after {sent} of {size} bytes was accepted");
            assert_absent(store, &digest).await;
        }
    }
}

async fn writing_again_succeeds(store: &dyn BlobStore, seed: u64) {
    for size in [10, 10_000, 3 * MIB] {
        let data = noise(seed, "again", size);
        put(store, &data).await;
        let digest = put(store, &data).await;
        assert_present(store, &digest, &data).await;
    }
}

async fn concurrent_writes_of_one_blob_succeed(store: &dyn BlobStore, seed: u64) {
    for size in [10, 10_000, 3 * MIB] {
        let data = noise(seed, "concurrent", size);
        let digest = sha256(&data);
        let writes = (0..8).map(|_| store.write(digest, pieces(&data, 64 * KIB, None)));
        for result in join_all(writes).await {
            result.unwrap_or_else(|error| panic!("one of several writes of {digest}: {error:?}"));
        }
        assert_present(store, &digest, &data).await;
    }
}

async fn blobs_of_a_batch_fail_alone(store: &dyn BlobStore, seed: u64) {
    assert!(store.write_all(Vec::new()).await.is_empty());
    let blob = |n: usize, len| {
        let data = noise(seed, &format!("batch {n}"), len);
        (sha256(&data), data)
    };
    let sizes = [1, 100, 2 * KIB, 2 * KIB + 1, 20 * KIB, 300 * KIB, MIB + 1];
    let good: Vec<(Digest, Bytes)> = (0..100).zip(sizes.into_iter().cycle()).map(|(n, len)| blob(n, len)).collect();
    let (absent, data) = blob(1000, 3000);
    let bad = [
        (absent, data.slice(1..)),
        (absent, noise(seed, "other bytes", 3000)),
        (with_size(absent, 2999), data.slice(1..)),
        (with_size(good[1].0, 99), good[1].1.slice(1..)),
    ];
    let again = [good[3].clone(), good[4].clone(), (Digest::empty(DigestFunction::Sha1), Bytes::new())];
    let batch = [&bad[..2], &good, &bad[2..], &again].concat();
    let written = store.write_all(batch).await;
    assert_eq!(written.len(), 2 + good.len() + 2 + again.len());
    for (at, result) in written.into_iter().enumerate() {
        if at < 2 || (2 + good.len()..4 + good.len()).contains(&at) {
            assert_mismatch(result, &format!("blob {at} of a batch"));
        } else {
            result.unwrap_or_else(|error| panic!("blob {at} of a batch: {error:?}"));
        }
    }
    for (digest, data) in &good {
        assert_present(store, digest, data).await;
    }
    assert_absent(store, &absent).await;
}

async fn missing_digests_are_listed_once(store: &dyn BlobStore, seed: u64) {
    assert_eq!(missing(store, &[]).await, []);
    let mut here = Vec::new();
    for n in 0..20 {
        here.push(put(store, &noise(seed, &format!("here {n}"), 100 + n)).await);
    }
    let gone: Vec<Digest> = (0..20).map(|n| sha256(&noise(seed, &format!("gone {n}"), 100 + n))).collect();
    let other_size = with_size(here[0], 7);
    let mut asked = [here.clone(), gone.clone(), vec![other_size, Digest::empty(DigestFunction::Blake3)]].concat();
    asked.extend(asked.clone());
    let found = missing(store, &asked).await;
    let expected: HashSet<Digest> = gone.into_iter().chain([other_size]).collect();
    assert_eq!(found.len(), expected.len(), "a digest is listed twice or one too many");
    assert_eq!(found.into_iter().collect::<HashSet<_>>(), expected);
}

async fn split_blobs_are_their_chunks(store: &dyn BlobStore, seed: u64) {
    let data = noise(seed, "split", 9 * MIB + 3);
    let digest = sha256(&data);
    assert!(store.split(&digest).await.expect("split of a missing blob").is_none(), "an absent blob has no chunks");
    put(store, &data).await;
    let chunks = store.split(&digest).await.expect("split").expect("the blob is here");
    assert!(chunks.len() > 1, "{} bytes are one chunk", data.len());
    assert!(chunks.iter().all(|chunk| (1..=MAX_CHUNK_BYTES as u64).contains(&chunk.size_bytes())), "{chunks:?}");
    assert_eq!(missing(store, &chunks).await, [], "chunks are missing");
    let mut joined = Vec::new();
    for chunk in &chunks {
        assert_eq!(chunk.function(), digest.function());
        joined.extend_from_slice(&get(store, chunk, ByteRange::ALL).await.expect("a chunk"));
    }
    assert!(joined == data, "the chunks are not the blob");
    assert_present(store, &digest, &data).await;
    check_ranges(store, &digest, &data).await;
    assert_eq!(store.split(&digest).await.expect("split again"), Some(chunks), "a second split differs");
}

/// The vector of the specification that needs no file. Spec: reapi §9.
async fn split_gives_the_cuts_of_the_specification(store: &dyn BlobStore) {
    let data: Bytes = (0..262_144u64)
        .flat_map(|i| DigestFunction::Sha256.hash(&i.to_le_bytes()).as_bytes().to_vec())
        .collect::<Vec<u8>>()
        .into();
    let digest = put(store, &data).await;
    assert_eq!(
        digest.hash().to_string(),
        "dd4dd87ac92dd0462503941469c4f06a70c0e4a1a0a6545d4c2c4e98ea2821e1",
        "the vector's own hash"
    );
    let chunks = store.split(&digest).await.expect("split").expect("the blob is here");
    let sizes: Vec<u64> = chunks.iter().map(Digest::size_bytes).collect();
    let expected = [
        560_905, 636_753, 708_026, 322_071, 533_378, 662_298, 556_544, 573_335, 617_449, 660_916, 541_350, 602_020,
        495_627, 588_824, 329_112,
    ];
    assert_eq!(sizes, expected);
    let hash = |at: usize| chunks[at].hash().to_string();
    assert_eq!(hash(0), "d432704e372ca8edc2db1f38db519f3f0baa97162a106b9ad2bd883f95e47db5");
    assert_eq!(hash(14), "7923141ffbb108cd947c634ef571b7e6d6198074280f49c5e3fb253bcb7d85fe");
}

async fn small_blobs_are_their_own_chunk(store: &dyn BlobStore, seed: u64) {
    for size in [1, 100 * KIB, MAX_CHUNK_BYTES] {
        let digest = put(store, &noise(seed, "own chunk", size)).await;
        assert_eq!(store.split(&digest).await.expect("split"), Some(vec![digest]));
    }
}

/// A blob's bytes cut into chunks that are stored, the blob itself not.
async fn stored_chunks(store: &dyn BlobStore, data: &Bytes, len: usize) -> Vec<Digest> {
    let mut chunks = Vec::new();
    for chunk in data.chunks(len) {
        chunks.push(put(store, &Bytes::copy_from_slice(chunk)).await);
    }
    chunks
}

async fn splice_makes_a_blob_from_its_chunks(store: &dyn BlobStore, seed: u64) {
    for (size, len) in
        [(3000, 1000), (100 * KIB, 30_000), (MAX_CHUNK_BYTES, MIB), (7 * MIB, 600_000), (9 * MIB, 3 * MIB)]
    {
        let data = noise(seed, "splice", size + 1);
        let digest = sha256(&data);
        let chunks = stored_chunks(store, &data, len).await;
        assert_absent(store, &digest).await;
        store.splice(digest, &chunks).await.unwrap_or_else(|error| panic!("splice of {digest}: {error:?}"));
        assert_present(store, &digest, &data).await;
        check_ranges(store, &digest, &data).await;
        let split = store.split(&digest).await.expect("split").expect("the blob is here");
        assert!(split.iter().all(|chunk| chunk.size_bytes() <= MAX_CHUNK_BYTES as u64), "{split:?}");
        assert_eq!(split.iter().map(Digest::size_bytes).sum::<u64>(), data.len() as u64);
        assert_present(store, &digest, &data).await;
    }
    for function in DigestFunction::ALL {
        let data = noise(seed, function.name(), 5 * MIB);
        let mut chunks = Vec::new();
        for chunk in data.chunks(MIB) {
            let digest = Digest::of(function, chunk);
            store.write(digest, Bytes::copy_from_slice(chunk).into()).await.expect("a chunk");
            chunks.push(digest);
        }
        let digest = Digest::of(function, &data);
        store.splice(digest, &chunks).await.unwrap_or_else(|error| panic!("splice by {function}: {error:?}"));
        assert_present(store, &digest, &data).await;
    }
}

async fn splice_takes_chunks_that_are_lists(store: &dyn BlobStore, seed: u64) {
    let data = noise(seed, "nested", 12 * MIB);
    let (first, second) = (data.slice(..6 * MIB), data.slice(6 * MIB..));
    let chunks = stored_chunks(store, &first, 500_000).await;
    store.splice(sha256(&first), &chunks).await.expect("the first half, which is a list then");
    let second = put(store, &second).await;
    let digest = sha256(&data);
    store.splice(digest, &[sha256(&first), second]).await.expect("a list of lists");
    // The second half becomes a list after it was used as a chunk.
    store.split(&second).await.expect("split").expect("the second half");
    assert_present(store, &digest, &data).await;
    check_ranges(store, &digest, &data).await;
}

async fn splice_refuses_what_does_not_add_up(store: &dyn BlobStore, seed: u64) {
    for size in [3000, 5 * MIB] {
        let data = noise(seed, "refused", size);
        let digest = sha256(&data);
        let chunks = stored_chunks(store, &data, size / 3 + 1).await;
        let absent = sha256(&noise(seed, "absent chunk", size / 3 + 1));
        let with_absent = [absent, chunks[1], chunks[2]];
        let result = store.splice(digest, &with_absent).await;
        assert!(matches!(result, Err(StoreError::MissingChunk(_))), "a chunk that is not here: {result:?}");
        assert_mismatch(store.splice(digest, &chunks[..2]).await, "too few chunks");
        assert_mismatch(store.splice(digest, &[&chunks[..], &chunks[..1]].concat()).await, "too many chunks");
        assert_mismatch(store.splice(digest, &[chunks[1], chunks[0], chunks[2]]).await, "chunks in another order");
        assert_mismatch(store.splice(digest, &[]).await, "no chunks");
        assert_absent(store, &digest).await;
        let larger = with_size(digest, size as u64 + 1);
        assert_mismatch(store.splice(larger, &chunks).await, "another size than the sum");
        assert_absent(store, &larger).await;
    }
}

async fn splice_of_a_present_blob_succeeds(store: &dyn BlobStore, seed: u64) {
    let data = noise(seed, "present", 3 * MIB);
    let digest = put(store, &data).await;
    let chunks = stored_chunks(store, &data, MIB).await;
    store.splice(digest, &chunks).await.expect("a splice of what is here");
    assert_present(store, &digest, &data).await;
}

fn record_key(seed: u64, name: &str) -> RecordKey {
    RecordKey { kind: RecordKind::ActionResult, key: format!("{seed}/{name}").into() }
}

async fn record(store: &dyn RecordStore, key: &RecordKey) -> Option<Bytes> {
    match store.get(key).await {
        Ok(value) => value,
        Err(error) => panic!("get of {key:?} failed: {error:?}"),
    }
}

async fn records_read_back_and_are_replaced(store: &dyn RecordStore, seed: u64) {
    let key = record_key(seed, "replaced");
    assert_eq!(record(store, &key).await, None, "a record before it was written");
    for len in [1, 0, 100, 3000, 70 * KIB, 5] {
        let value = noise(seed, "value", len);
        store.put(key.clone(), value.clone()).await.unwrap_or_else(|error| panic!("put of {len} bytes: {error:?}"));
        for _ in 0..2 {
            assert_eq!(record(store, &key).await, Some(value.clone()), "{len} bytes");
        }
    }
    assert_eq!(record(store, &record_key(seed, "replace")).await, None, "a key that is the start of another");
}

async fn records_take_any_bytes(store: &dyn RecordStore, seed: u64) {
    let long: Vec<u8> = noise(seed, "key", 4000).into();
    let keys: [Vec<u8>; 5] = [vec![0; 40], vec![0; 41], vec![255; 50], long, (0..=255).collect()];
    let keys = keys
        .map(|key| RecordKey { kind: RecordKind::ActionResult, key: [&seed.to_le_bytes()[..], &key].concat().into() });
    for (n, key) in keys.iter().enumerate() {
        store.put(key.clone(), noise(seed, "any", 100 + n)).await.expect("a binary key");
    }
    for (n, key) in keys.iter().enumerate() {
        assert_eq!(record(store, key).await, Some(noise(seed, "any", 100 + n)), "binary key {n}");
    }
}

async fn records_are_read_together(store: &dyn RecordStore, seed: u64) {
    let keys: Vec<RecordKey> = (0..40).map(|n| record_key(seed, &format!("together {n}"))).collect();
    let value = |n: usize| noise(seed, "together", 10 + n);
    for (n, key) in keys.iter().enumerate().filter(|(n, _)| n % 3 != 0) {
        store.put(key.clone(), value(n)).await.expect("put");
    }
    let expected: Vec<Option<Bytes>> = (0..keys.len()).map(|n| (n % 3 != 0).then(|| value(n))).collect();
    for _ in 0..2 {
        assert_eq!(store.get_all(&keys).await.expect("all of them"), expected);
    }
    let denied = keys.iter().zip(&expected).find(|(key, value)| value.is_some() && !store.may_have(key));
    assert_eq!(denied, None, "a record that is here is never denied");
    assert!(store.get_all(&[]).await.expect("none").is_empty());
}

async fn removed_records_are_gone(store: &dyn RecordStore, seed: u64) {
    let key = record_key(seed, "removed");
    store.remove(&key).await.expect("removing nothing");
    store.put(key.clone(), Bytes::from_static(b"value")).await.expect("put");
    assert!(record(store, &key).await.is_some());
    store.remove(&key).await.expect("removing");
    assert_eq!(record(store, &key).await, None, "a removed record");
    store.put(key.clone(), Bytes::from_static(b"again")).await.expect("put after removal");
    assert_eq!(record(store, &key).await.as_deref(), Some(&b"again"[..]));
}

async fn concurrent_writes_leave_one_of_them(store: &dyn RecordStore, seed: u64) {
    let key = record_key(seed, "concurrent");
    let values: Vec<Bytes> = (0..16).map(|n| noise(seed, "one of", 100 + n)).collect();
    for result in join_all(values.iter().map(|value| store.put(key.clone(), value.clone()))).await {
        result.expect("one of several puts");
    }
    let left = record(store, &key).await.expect("one of them");
    assert!(values.contains(&left), "a mixture of several values");
}

/// The hash of a body, piece by piece: for checks of blobs that are too large to hold.
///
/// # Errors
/// The body's own.
pub async fn hash_of(digest: &Digest, mut body: BlobBody) -> Result<Digest, StoreError> {
    let mut hasher = Hasher::new(digest.function(), digest.size_bytes());
    let mut size_bytes = 0;
    while let Some(piece) = body.next().await.transpose()? {
        hasher.update(&piece);
        size_bytes += piece.len() as u64;
    }
    Ok(Digest::new(hasher.finish(), size_bytes).expect("a stream of less than 2^63 bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryStore, Verifying};

    #[tokio::test]
    async fn the_memory_store_conforms() {
        let store = MemoryStore::default();
        blob_store(&store, 1).await;
        blob_store(&store, 2).await;
        record_store(&store, 1).await;
    }

    #[tokio::test]
    async fn a_verified_store_conforms() {
        blob_store(&Verifying::new(MemoryStore::default()), 1).await;
    }
}
