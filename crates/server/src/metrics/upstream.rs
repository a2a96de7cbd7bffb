use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use reapi::client::Link;

use super::Sources;
use super::families::{Families, to_f64};

/// The far server, where there is one.
#[derive(Debug)]
pub(super) struct Far(pub(super) Sources);

impl Collector for Far {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let Some(upstream) = &self.0.upstream else {
            return Ok(());
        };
        let mut families = Families(encoder);
        let stats = upstream.stats();
        let is_up = if stats.link == Link::Up { 1.0 } else { 0.0 };
        families.gauge("twofold_upstream_up", "1 when the upstream answers, 0 when it is left out", is_up)?;
        let queued = to_f64(stats.queued as u64);
        families.gauge("twofold_upstream_queued", "Blobs and action results that wait to be sent", queued)?;
        let sent = [("blob", stats.sent_blobs), ("action_result", stats.sent_actions)];
        let sent = sent.map(|(kind, count)| (vec![("kind", kind)], to_f64(count)));
        families.counters("twofold_upstream_sent", "What was sent to the upstream", sent)?;
        families.counter(
            "twofold_upstream_dropped",
            "What was not sent: refused, gone from this store, or over the bound of the queue",
            stats.dropped,
        )
    }
}
