use backends::{Embedded, Work};
use bytes::Bytes;
use reapi::Origin;
use store::RecordKey;

use super::request::Filter;
use super::{Purge, PurgeReport};

/// Drops what the filter names, leased or not.
pub(super) async fn run(store: &Embedded, purge: &Purge, work: &Work) -> anyhow::Result<PurgeReport> {
    let filter = purge.filter()?;
    work.expect(store.stats().records);
    let mut report = PurgeReport { dry_run: purge.dry_run, ..PurgeReport::default() };
    let mut after = None;
    while !work.is_called_off() {
        let page = store.records_after(after).await?;
        let Some((last, _)) = page.last() else { break };
        after = Some(last.clone());
        let count = page.len() as u64;
        let named: Vec<_> = page.into_iter().filter(|(key, value)| names(&filter, key, value)).collect();
        report.records += if purge.dry_run { named.len() } else { store.purge_records(named).await? } as u64;
        report.seen += count;
        work.advance(count);
    }
    // Nobody signs a blob, and all instances share it: only its digest names it.
    if let Some(hash) = filter.digest.filter(|_| filter.is_digest_alone()) {
        let is_here = if purge.dry_run { store.has_blob(&hash).await? } else { store.purge_blob(&hash).await? };
        report.blobs = u64::from(is_here);
    }
    if !purge.dry_run && report.records > 0 {
        store.erase_purged().await?;
    }
    tracing::info!(records = report.records, blobs = report.blobs, dry_run = report.dry_run, ?purge, "purged");
    Ok(report)
}

fn names(filter: &Filter, key: &RecordKey, value: &Bytes) -> bool {
    Origin::of(key, value).is_some_and(|origin| filter.names(&origin))
}
