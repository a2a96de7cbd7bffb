use cache_types::Digest;
use tonic::Status;

use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::digest_list::{self, DigestList};
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::proto::re;
use crate::status;

/// Which of the digests are not here. Spec.
pub(super) async fn find_missing(
    core: &Core,
    request: re::FindMissingBlobsRequest,
) -> Result<re::FindMissingBlobsResponse, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let digests = reader.list(&request.blob_digests)?;
    drop(request);
    if digests.is_empty() {
        return Ok(re::FindMissingBlobsResponse::default());
    }
    let missing = ask(core, &digests).await?;
    Ok(re::FindMissingBlobsResponse { missing_blob_digests: missing.iter().map(convert::to_wire).collect() })
}

/// The same for a request that was not decoded.
pub(crate) async fn missing_of(core: &Core, request: &DigestList<'_>) -> Result<Vec<Digest>, Status> {
    convert::instance(request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let read = |(hash, size_bytes): &(&str, i64)| reader.read_parts(hash, *size_bytes);
    let digests: Result<Vec<Digest>, _> = request.digests.iter().map(read).collect();
    let digests = digests.map_err(|error| status::bad_digest(&error))?;
    if digests.is_empty() {
        return Ok(digests);
    }
    ask(core, &digests).await
}

async fn ask(core: &Core, digests: &[Digest]) -> Result<Vec<Digest>, Status> {
    let missing = core.blobs.find_missing(digests).await.map_err(status::from_store)?;
    // A request that fits the default limit has an answer that does; only a larger one comes here.
    if digest_list::encoded_len(&missing) >= MAX_OUTBOUND_BYTES {
        return Err(status::invalid("the answer would be over 4 MiB; ask for fewer digests at once"));
    }
    Ok(missing)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use cache_types::{Digest, DigestFunction};
    use store::{BlobStore, MemoryStore};

    use super::*;
    use crate::Settings;

    #[tokio::test]
    async fn the_missing_are_named_once_and_the_empty_blob_never() {
        let store = Arc::new(MemoryStore::default());
        let core = Core::new(store.clone(), store.clone(), Settings::default());
        for function in DigestFunction::ALL {
            let [here, gone] = [b"here".as_slice(), b"gone"].map(|data| Digest::of(function, data));
            store.write(here, Bytes::from_static(b"here").into()).await.expect("stored");
            let blob_digests = [here, gone, gone, Digest::empty(function)].iter().map(convert::to_wire).collect();
            let request = re::FindMissingBlobsRequest {
                blob_digests,
                digest_function: i32::from(function.number()),
                ..Default::default()
            };
            let response = find_missing(&core, request).await.expect("answered");
            assert_eq!(response.missing_blob_digests, [convert::to_wire(&gone)]);
        }
        let empty = find_missing(&core, re::FindMissingBlobsRequest::default()).await.expect("answered");
        assert!(empty.missing_blob_digests.is_empty());
    }
}
