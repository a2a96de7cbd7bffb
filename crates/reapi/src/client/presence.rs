use std::collections::{BTreeMap, HashSet};

use cache_types::{Digest, DigestFunction};
use futures::{StreamExt, TryStreamExt};
use tonic::Status;

use super::{RemoteStore, parse, wire, wire_function};
use crate::proto::re;

/// Digests in one message take no more than this, so that with the instance name it stays under 4 MiB.
const MAX_LIST_BYTES: usize = 3_500_000;
/// What a digest takes beside its hash: tags, lengths, and the size.
const DIGEST_OVERHEAD_BYTES: usize = 20;
/// Messages of one question that are on their way at once.
const MAX_IN_FLIGHT: usize = 4;

/// Which of `digests` the server lacks, each once; asked per function, in as few messages as fit.
pub(super) async fn find_missing(remote: &RemoteStore, digests: &[Digest]) -> Result<Vec<Digest>, Status> {
    let mut by_function: BTreeMap<DigestFunction, Vec<Digest>> = BTreeMap::new();
    let mut seen = HashSet::new();
    for digest in digests.iter().filter(|digest| !digest.is_empty()) {
        if seen.insert(*digest) {
            by_function.entry(digest.function()).or_default().push(*digest);
        }
    }
    let questions = by_function.iter().flat_map(|(function, digests)| {
        let per_message = MAX_LIST_BYTES / (function.hash_len() * 2 + DIGEST_OVERHEAD_BYTES);
        digests.chunks(per_message).map(|part| ask(remote, *function, part))
    });
    // Collected first: a lazy iterator of borrowing futures is not general enough to be sent between threads.
    let questions: Vec<_> = questions.collect();
    futures::stream::iter(questions).buffer_unordered(MAX_IN_FLIGHT).try_concat().await
}

async fn ask(remote: &RemoteStore, function: DigestFunction, digests: &[Digest]) -> Result<Vec<Digest>, Status> {
    let request = re::FindMissingBlobsRequest {
        instance_name: remote.instance(),
        blob_digests: digests.iter().map(wire).collect(),
        digest_function: wire_function(function),
    };
    let answer = remote
        .call(|| {
            let (mut cas, request) = (remote.cas(), request.clone());
            async move { cas.find_missing_blobs(request).await }
        })
        .await?;
    let missing: Result<HashSet<Digest>, Status> =
        answer.missing_blob_digests.iter().map(|digest| parse(function, digest)).collect();
    let missing = missing?;
    Ok(digests.iter().filter(|digest| missing.contains(digest)).copied().collect())
}
