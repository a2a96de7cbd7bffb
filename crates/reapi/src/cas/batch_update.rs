use bytes::Bytes;
use cache_types::Digest;
use store::StoreError;
use tonic::Status;
use tonic_types::pb;

use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::limits::MAX_BATCH_BYTES;
use crate::proto::re;
use crate::proto::re::batch_update_blobs_response::Response;
use crate::{ZstdLimits, status, zstd_stream};

/// The compressed bytes of an item that are decoded without leaving the async thread.
const DECODE_INLINE_BYTES: usize = 64 * 1024;

/// Stores each blob, in order; items fail alone. Spec.
pub(crate) async fn batch_update(
    core: &Core,
    request: re::BatchUpdateBlobsRequest,
) -> Result<re::BatchUpdateBlobsResponse, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    check_count(request.requests.len())?;
    check_total(request.requests.iter().filter_map(|item| item.digest.as_ref()))?;
    let (mut unpacked, mut blobs) = (Vec::with_capacity(request.requests.len()), Vec::new());
    for item in request.requests {
        let digest = reader.required(item.digest.as_ref(), "digest");
        let blob = unpack(core, digest, item.data, item.compressor).await;
        unpacked.push((item.digest, blob.map(|blob| blobs.push(blob))));
    }
    let mut written = core.blobs.write_all(blobs).await.into_iter();
    let mut stored = || written.next().unwrap_or_else(|| Err(no_answer())).map_err(status::from_store);
    let responses = unpacked.into_iter().map(|(digest, unpacked)| {
        let outcome = unpacked.and_then(|()| stored());
        let status = outcome.map_or_else(|status| status::to_item(&status), |()| pb::Status::default());
        Response { digest, status: Some(status) }
    });
    Ok(re::BatchUpdateBlobsResponse { responses: responses.collect() })
}

fn no_answer() -> StoreError {
    StoreError::Internal { level: "the store", source: "it said nothing of a blob".into() }
}

/// The most items of a batch: the answer repeats each digest and has to stay below 4 MiB.
const MAX_ITEMS: usize = 60_000;

/// Refuses a batch of more items than its answer could hold. Spec: R-034.
pub(super) fn check_count(items: usize) -> Result<(), Status> {
    if items > MAX_ITEMS {
        return Err(status::invalid(format!("a batch has at most {MAX_ITEMS} blobs")));
    }
    Ok(())
}

/// Refuses a batch whose declared sizes are over the limit. Spec: R-032.
pub(super) fn check_total<'a>(mut digests: impl Iterator<Item = &'a re::Digest>) -> Result<(), Status> {
    let total =
        digests.try_fold(0u64, |total, digest| total.checked_add(u64::try_from(digest.size_bytes).unwrap_or(0)));
    if total.is_none_or(|total| total > MAX_BATCH_BYTES) {
        return Err(status::invalid(format!("the blobs of one batch are over {MAX_BATCH_BYTES} bytes together")));
    }
    Ok(())
}

/// One blob as it is to be stored.
async fn unpack(
    core: &Core,
    digest: Result<Digest, Status>,
    data: Bytes,
    compressor: i32,
) -> Result<(Digest, Bytes), Status> {
    let digest = digest?;
    core.check_size(&digest)?;
    let data = match re::compressor::Value::try_from(compressor) {
        Ok(re::compressor::Value::Identity) => data,
        Ok(re::compressor::Value::Zstd) => decode(data, digest.size_bytes(), core.limits().zstd).await?,
        _ => return Err(status::invalid(format!("compressor {compressor} is not offered"))),
    };
    if data.len() as u64 != digest.size_bytes() {
        return Err(status::invalid(format!("{} bytes came for {digest}", data.len())));
    }
    Ok((digest, data))
}

/// Decodes an item; the output is at most what the digest declares and one byte. Spec: R-051.
async fn decode(data: Bytes, size_bytes: u64, limits: ZstdLimits) -> Result<Bytes, Status> {
    let decode = move || zstd_stream::decode_all(data, size_bytes, limits).map_err(|error| status::bad_zstd(&error));
    if size_bytes <= DECODE_INLINE_BYTES as u64 {
        return decode();
    }
    tokio::task::spawn_blocking(decode).await.map_err(|_| Status::internal("decoding did not end"))?
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use cache_types::DigestFunction;
    use store::{BlobStore, MemoryStore};
    use tonic::Code;

    use super::*;
    use crate::proto::re::batch_update_blobs_request::Request;
    use crate::{Limits, Settings};

    fn item(data: &[u8], sent: Vec<u8>, compressor: re::compressor::Value) -> Request {
        let digest = Some(convert::to_wire(&Digest::of(DigestFunction::Sha256, data)));
        Request { digest, data: sent.into(), compressor: compressor as i32 }
    }

    #[tokio::test]
    async fn items_fail_alone_and_answers_keep_the_order() {
        use re::compressor::Value::{Brotli, Identity, Zstd};
        let store = Arc::new(MemoryStore::default());
        let settings =
            Settings { limits: Limits { blob_bytes: 200_000, ..Limits::default() }.into(), ..Settings::default() };
        let core = Core::new(store.clone(), store.clone(), settings);
        let long = vec![3u8; 100_000];
        let compressed = zstd_stream::encode_all(&long).expect("compresses");
        let mut upper = item(b"u", b"u".to_vec(), Identity);
        upper.digest.as_mut().expect("set").hash.make_ascii_uppercase();
        let requests = vec![
            item(b"a", b"a".to_vec(), Identity),
            item(b"b", b"wrong".to_vec(), Identity),
            item(b"c", b"d".to_vec(), Identity),
            item(&long, compressed.clone(), Zstd),
            item(b"short", compressed, Zstd),
            item(b"e", b"e".to_vec(), Brotli),
            Request::default(),
            upper,
            item(&vec![0; 200_001], vec![0; 200_001], Identity),
            item(b"a", b"a".to_vec(), Identity),
        ];
        let sent: Vec<_> = requests.iter().map(|request| request.digest.clone()).collect();
        let request = re::BatchUpdateBlobsRequest { requests, ..Default::default() };
        let responses = batch_update(&core, request).await.expect("the call succeeds").responses;
        assert_eq!(responses.iter().map(|response| response.digest.clone()).collect::<Vec<_>>(), sent);
        let codes: Vec<i32> = responses.iter().map(|response| response.status.as_ref().expect("set").code).collect();
        assert_eq!(codes, [0, 3, 3, 0, 3, 3, 3, 3, 3, 0]);
        let missing = store.find_missing(&[Digest::of(DigestFunction::Sha256, &long)]).await.expect("answers");
        assert!(missing.is_empty());
    }

    #[tokio::test]
    async fn a_batch_over_the_limit_stores_nothing() {
        let store = Arc::new(MemoryStore::default());
        let core = Core::new(store.clone(), store.clone(), Settings::default());
        let large = vec![1u8; 4_000_000];
        let requests = vec![
            item(b"a", b"a".to_vec(), re::compressor::Value::Identity),
            item(&large, large.clone(), re::compressor::Value::Identity),
        ];
        let request = re::BatchUpdateBlobsRequest { requests, ..Default::default() };
        let refused = batch_update(&core, request).await.expect_err("over the limit");
        assert_eq!(refused.code(), Code::InvalidArgument);
        let a = Digest::of(DigestFunction::Sha256, b"a");
        assert_eq!(store.find_missing(&[a]).await.expect("answers"), [a]);
    }
}
