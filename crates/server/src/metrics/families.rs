use std::fmt::Error;

use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder};
use prometheus_client::metrics::MetricType;
use store::{LATENCY_BOUNDS_MICROS, Latencies};

/// Labels of one sample: names and values.
pub(super) type Labels<'a> = Vec<(&'static str, &'a str)>;

/// Writes families of samples.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

impl Families<'_> {
    /// A counter, whose name gets `_total`.
    pub(super) fn counters<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            labelled(&mut family, &labels, |mut sample| sample.encode_counter::<Labels<'_>, f64, f64>(&value, None))?;
        }
        Ok(())
    }

    /// A value that goes up and down.
    pub(super) fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, f64)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            labelled(&mut family, &labels, |mut sample| sample.encode_gauge(&value))?;
        }
        Ok(())
    }

    /// A counter without labels.
    pub(super) fn counter(&mut self, name: &str, help: &str, value: u64) -> Result<(), Error> {
        self.counters(name, help, [(Labels::new(), to_f64(value))])
    }

    /// A value without labels.
    pub(super) fn gauge(&mut self, name: &str, help: &str, value: impl Into<Option<f64>>) -> Result<(), Error> {
        self.gauges(name, help, value.into().map(|value| (Labels::new(), value)))
    }

    /// Durations in seconds.
    pub(super) fn latencies<'l>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l>, Latencies)>,
    ) -> Result<(), Error> {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, latencies) in samples {
            let bounds = LATENCY_BOUNDS_MICROS.iter().map(|micros| to_f64(*micros) / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(latencies.counts).collect();
            let (sum, count) = (latencies.sum.as_secs_f64(), latencies.count());
            labelled(&mut family, &labels, |mut sample| {
                sample.encode_histogram::<Labels<'_>>(sum, count, &buckets, None)
            })?;
        }
        Ok(())
    }
}

fn labelled(
    family: &mut MetricEncoder<'_>,
    labels: &Labels<'_>,
    write: impl FnOnce(MetricEncoder<'_>) -> Result<(), Error>,
) -> Result<(), Error> {
    write(family.encode_family(labels)?)
}

/// Prometheus counts in doubles; above 2^53 the last digits go.
pub(super) fn to_f64(value: u64) -> f64 {
    value as f64
}
