use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use store::StoreCall;

use super::Sources;
use super::families::{Families, to_f64};

/// The engine: how full it is, what it evicted, and how it answers.
#[derive(Debug)]
pub(super) struct Storage(pub(super) Sources);

impl Collector for Storage {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut families = Families(encoder);
        self.size(&mut families)?;
        self.eviction(&mut families)?;
        self.calls(&mut families)
    }
}

impl Storage {
    fn size(&self, families: &mut Families<'_>) -> Result<(), Error> {
        let stats = self.0.stats();
        families.gauge("twofold_store_max_bytes", "The bound of the store", to_f64(stats.max_bytes))?;
        families.gauge("twofold_store_used_bytes", "What counts against the bound", to_f64(stats.used_bytes))?;
        let parts = [
            ("packs", stats.pack_bytes),
            ("files", stats.file_bytes),
            ("index", stats.index_bytes),
            ("quarantine", stats.quarantine_bytes),
            ("reserved", stats.reserved_bytes),
        ];
        let parts = parts.map(|(part, bytes)| (vec![("part", part)], to_f64(bytes)));
        families.gauges("twofold_store_part_bytes", "What the bytes in use are", parts)?;
        families.gauge("twofold_store_dead_bytes", "Bytes in packs to be compacted", to_f64(stats.dead_bytes))?;
        families.gauge("twofold_store_blobs", "Blobs", to_f64(stats.blobs))?;
        families.gauge("twofold_store_records", "Action results and other records", to_f64(stats.records))?;
        families.gauge(
            "twofold_store_leases",
            "Blobs and records that were promised to a client and whose lease has not passed",
            to_f64(stats.leases),
        )?;
        families.gauge("twofold_store_lease_seconds", "How long a promise is kept", stats.lease.as_secs_f64())?;
        families.gauge("twofold_disk_free_bytes", "Free space beside the data", to_f64(stats.disk_free_bytes))?;
        families.gauge("twofold_disk_full", "1 when writes are refused for want of disk", f64::from(stats.disk_is_full))
    }

    fn eviction(&self, families: &mut Families<'_>) -> Result<(), Error> {
        let stats = self.0.stats();
        families.counter("twofold_store_evicted_blobs", "Blobs that were evicted", stats.evicted_blobs)?;
        families.counter("twofold_store_evicted_records", "Records that were evicted", stats.evicted_records)?;
        families.counter("twofold_store_evicted_bytes", "Bytes that eviction freed", stats.evicted_bytes)?;
        families.gauge(
            "twofold_store_youngest_evicted_age_seconds",
            "The least time that passed between a promise and its eviction since the start; absent when none was evicted",
            stats.youngest_evicted.map(|age| age.as_secs_f64()),
        )?;
        families.counter(
            "twofold_store_lease_refusals",
            "Writes refused because all that is left is leased",
            stats.lease_refusals,
        )?;
        families.counter("twofold_store_quarantined", "Entries dropped as damaged", stats.quarantined)?;
        families.counter("twofold_store_lost", "Blobs dropped because their bytes were gone", stats.lost)
    }

    fn calls(&self, families: &mut Families<'_>) -> Result<(), Error> {
        let meters = &self.0.meters;
        let met = || StoreCall::ALL.into_iter().filter(|call| meters.latency(*call).latencies().count() > 0);
        families.latencies(
            "twofold_store_call_duration_seconds",
            "Calls to the store; a write takes as long as its sender",
            met().map(|call| (vec![("call", call.name())], meters.latency(call).latencies())),
        )?;
        families.counters(
            "twofold_store_call_failures",
            "Calls to the store that ended with an error",
            met().map(|call| (vec![("call", call.name())], to_f64(meters.failures(call)))),
        )?;
        families.counter("twofold_store_read_bytes", "Bytes read from the store", meters.read_bytes())?;
        families.counter("twofold_store_written_bytes", "Bytes given to the store", meters.written_bytes())
    }
}
