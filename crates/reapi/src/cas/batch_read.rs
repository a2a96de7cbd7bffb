use bytes::Bytes;
use cache_types::Digest;
use futures::{StreamExt, stream};
use prost::Message;
use tonic::{Code, Status};
use tonic_types::pb;

use super::batch_update::{check_count, check_total};
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::limits::{MAX_BATCH_BYTES, MAX_OUTBOUND_BYTES};
use crate::proto::re;
use crate::proto::re::batch_read_blobs_response::Response;
use crate::proto::re::compressor::Value as Compressor;
use crate::{status, zstd_stream};

/// The reads of one batch that are under way at a time.
const MAX_IN_FLIGHT: usize = 32;

/// The longest status of an item: its tag and length, the code, and a message of [`short`].
const MAX_STATUS_LEN: usize = 2 + 2 + 2 + 20;

/// The blobs that are not worth compressing, in bytes.
const COMPRESS_FROM_BYTES: usize = 128;

/// The blobs that are compressed without leaving the async thread, in bytes.
const COMPRESS_INLINE_BYTES: usize = 64 * 1024;

/// One answer per digest, in order. Spec.
pub(crate) async fn batch_read(
    core: &Core,
    request: re::BatchReadBlobsRequest,
) -> Result<re::BatchReadBlobsResponse, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    check_count(request.digests.len())?;
    check_total(request.digests.iter())?;
    check_answer(&request.digests)?;
    let compressor = match request.acceptable_compressors.contains(&(Compressor::Zstd as i32)) {
        true => Compressor::Zstd,
        false => Compressor::Identity,
    };
    let digests: Vec<_> = request.digests.iter().map(|sent| reader.required(Some(sent), "digest")).collect();
    let mut at_hand = at_hand(core, &digests, compressor).into_iter();
    let items = request.digests.into_iter().zip(digests).map(|(sent, digest)| match at_hand.next().flatten() {
        Some(data) => Item::Ready(found(sent, data, Compressor::Identity)),
        None => Item::Wanted(sent, digest),
    });
    Ok(re::BatchReadBlobsResponse { responses: answers(core, items.collect(), compressor).await })
}

/// One blob of a batch, and how far it is.
enum Item {
    Ready(Response),
    Wanted(re::Digest, Result<Digest, Status>),
}

/// What is in memory and goes as it is.
fn at_hand(core: &Core, digests: &[Result<Digest, Status>], compressor: Compressor) -> Vec<Option<Bytes>> {
    let plain: Option<Vec<Digest>> = digests.iter().map(|digest| digest.as_ref().ok().copied()).collect();
    match (&core.in_memory, plain) {
        (Some(in_memory), Some(plain)) if compressor == Compressor::Identity => in_memory.whole(&plain),
        _ => Vec::new(),
    }
}

/// The answers in order; what is not there yet is read, some at a time.
async fn answers(core: &Core, items: Vec<Item>, compressor: Compressor) -> Vec<Response> {
    let (mut responses, mut wanted) = (Vec::with_capacity(items.len()), Vec::new());
    for (at, item) in items.into_iter().enumerate() {
        match item {
            Item::Ready(response) => responses.push(response),
            Item::Wanted(sent, digest) => {
                responses.push(Response::default());
                wanted.push(async move { (at, read(core, sent, digest, compressor).await) });
            }
        }
    }
    let mut reads = stream::iter(wanted).buffer_unordered(MAX_IN_FLIGHT);
    while let Some((at, response)) = reads.next().await {
        if let Some(place) = responses.get_mut(at) {
            *place = response;
        }
    }
    drop(reads);
    responses
}

fn found(sent: re::Digest, data: Bytes, compressor: Compressor) -> Response {
    Response { digest: Some(sent), data, compressor: compressor as i32, status: Some(pb::Status::default()) }
}

/// Refuses a call whose answer could be over the limit of a message. Spec: R-034.
fn check_answer(digests: &[re::Digest]) -> Result<(), Status> {
    let needed = digests.iter().try_fold(0usize, |needed, digest| needed.checked_add(item_len(digest)));
    if needed.is_none_or(|needed| needed >= MAX_OUTBOUND_BYTES) {
        return Err(status::invalid("the answer would be over 4 MiB; ask for fewer blobs at once"));
    }
    Ok(())
}

/// The bytes that one item of the answer takes at most: with its data and a status that is OK, or without and one that
/// is not.
fn item_len(digest: &re::Digest) -> usize {
    let data_len = usize::try_from(digest.size_bytes).unwrap_or(0);
    let outcome_len = (field_len(data_len) + 2).max(MAX_STATUS_LEN);
    field_len(field_len(digest.encoded_len()) + outcome_len)
}

/// The bytes of a field of a low number that holds so many bytes.
fn field_len(len: usize) -> usize {
    1 + prost::encoding::encoded_len_varint(len as u64) + len
}

async fn read(core: &Core, sent: re::Digest, digest: Result<Digest, Status>, compressor: Compressor) -> Response {
    match try_read(core, digest, compressor).await {
        Ok((data, compressor)) => found(sent, data, compressor),
        Err(status) => Response {
            digest: Some(sent),
            data: Bytes::new(),
            compressor: Compressor::Identity as i32,
            status: Some(short(&status)),
        },
    }
}

/// The status of an item with a message that fits the accounting.
fn short(status: &Status) -> pb::Status {
    let message = match status.code() {
        Code::NotFound => "not here",
        Code::InvalidArgument => "malformed digest",
        _ => "cannot be read now",
    };
    pb::Status { code: status.code().into(), message: message.to_owned(), details: Vec::new() }
}

async fn try_read(
    core: &Core,
    digest: Result<Digest, Status>,
    compressor: Compressor,
) -> Result<(Bytes, Compressor), Status> {
    let digest = digest?;
    let limit = usize::try_from(MAX_BATCH_BYTES).unwrap_or(usize::MAX);
    let data = core.whole(&digest, limit).await?.ok_or_else(|| status::not_found(&digest))?;
    if compressor == Compressor::Identity || data.len() < COMPRESS_FROM_BYTES {
        return Ok((data, Compressor::Identity));
    }
    let compressed = compress(data.clone()).await?;
    // The number of the compressor takes two bytes of the answer.
    if compressed.len() + 2 <= data.len() {
        return Ok((compressed.into(), Compressor::Zstd));
    }
    Ok((data, Compressor::Identity))
}

async fn compress(data: Bytes) -> Result<Vec<u8>, Status> {
    const FAILED: &str = "compressing failed";
    let inline = data.len() <= COMPRESS_INLINE_BYTES;
    let compress = move || zstd_stream::encode_all(&data).map_err(|_| Status::internal(FAILED));
    if inline {
        return compress();
    }
    tokio::task::spawn_blocking(compress).await.map_err(|_| Status::internal(FAILED))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cache_types::DigestFunction;
    use store::{BlobStore, MemoryStore};

    use super::*;
    use crate::Settings;

    async fn core_with(blobs: &[&[u8]]) -> (Core, Vec<re::Digest>) {
        let store = Arc::new(MemoryStore::default());
        let mut digests = Vec::new();
        for blob in blobs {
            let digest = Digest::of(DigestFunction::Sha256, blob);
            store.write(digest, Bytes::copy_from_slice(blob).into()).await.expect("stored");
            digests.push(convert::to_wire(&digest));
        }
        (Core::new(store.clone(), store, Settings::default()), digests)
    }

    #[tokio::test]
    async fn each_digest_has_its_answer_and_zstd_is_used_only_where_it_is_listed_and_smaller() {
        let zeros = vec![0u8; 100_000];
        let noise: Vec<u8> =
            (0..4000u64).flat_map(|i| DigestFunction::Sha256.hash(&i.to_le_bytes()).as_bytes().to_vec()).collect();
        let (core, mut digests) = core_with(&[&zeros, &noise, b""]).await;
        digests.push(convert::to_wire(&Digest::of(DigestFunction::Sha256, b"gone")));
        digests.push(digests[0].clone());
        digests.push(re::Digest { hash: "zz".to_owned(), size_bytes: 1 });
        for (accepted, zeros_as) in [(vec![], Compressor::Identity), (vec![3, 1], Compressor::Zstd)] {
            let request = re::BatchReadBlobsRequest {
                digests: digests.clone(),
                acceptable_compressors: accepted,
                ..Default::default()
            };
            let responses = batch_read(&core, request).await.expect("answered").responses;
            let codes: Vec<i32> = responses.iter().map(|item| item.status.as_ref().expect("set").code).collect();
            assert_eq!(codes, [0, 0, 0, 5, 0, 3]);
            assert_eq!(responses[0].compressor, zeros_as as i32);
            assert_eq!(responses[1].compressor, Compressor::Identity as i32);
            assert_eq!(responses[1].data, noise);
            assert_eq!(responses[4], responses[0]);
            if zeros_as == Compressor::Zstd {
                let data = zstd_stream::decode_all(responses[0].data.clone(), 100_000, crate::ZstdLimits::default())
                    .expect("decodes");
                assert_eq!(data, zeros);
            }
        }
    }

    #[tokio::test]
    async fn a_full_batch_of_many_fits_a_message_of_four_mebibytes() {
        let blobs: Vec<Vec<u8>> = (0..2000u32).map(|i| i.to_le_bytes().repeat(500)).collect();
        let (core, digests) = core_with(&blobs.iter().map(Vec::as_slice).collect::<Vec<_>>()).await;
        let mut request = re::BatchReadBlobsRequest { digests, ..Default::default() };
        for compressors in [vec![], vec![Compressor::Zstd as i32]] {
            request.acceptable_compressors = compressors;
            let response = batch_read(&core, request.clone()).await.expect("answered");
            assert!(response.responses.iter().all(|item| item.status.as_ref().is_some_and(|status| status.code == 0)));
            assert!(response.encoded_len() < MAX_OUTBOUND_BYTES);
        }
        request.digests.push(request.digests[0].clone());
        assert_eq!(batch_read(&core, request).await.expect_err("one over").code(), Code::InvalidArgument);
    }

    #[tokio::test]
    async fn answers_of_many_small_blobs_stay_below_the_limit_of_a_message() {
        let (core, digests) = core_with(&[]).await;
        assert!(digests.is_empty());
        let gone = convert::to_wire(&Digest::of(DigestFunction::Sha512, b"gone"));
        let most = (MAX_OUTBOUND_BYTES - 1) / item_len(&gone);
        for (count, fits) in [(most, true), (most + 1, false)] {
            let request = re::BatchReadBlobsRequest { digests: vec![gone.clone(); count], ..Default::default() };
            match batch_read(&core, request).await {
                Ok(response) => assert!(fits && response.encoded_len() < MAX_OUTBOUND_BYTES),
                Err(refused) => assert!(!fits && refused.code() == Code::InvalidArgument),
            }
        }
    }
}
