use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// The upper bounds of the buckets of every latency histogram, in microseconds. One more bucket holds what is above.
pub const LATENCY_BOUNDS_MICROS: [u64; 20] = [
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000,
    2_500_000, 5_000_000, 10_000_000, 30_000_000, 60_000_000,
];

/// The number of buckets.
const BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;

/// A latency histogram that many threads add to without a lock.
#[derive(Debug, Default)]
pub struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Histogram {
    /// Counts one duration.
    pub fn observe(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        let bucket = LATENCY_BOUNDS_MICROS.partition_point(|bound| bound * 1000 < nanos);
        if let Some(bucket) = self.buckets.get(bucket) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn latencies(&self) -> Latencies {
        Latencies {
            counts: std::array::from_fn(|bucket| self.buckets[bucket].load(Ordering::Relaxed)),
            sum: Duration::from_nanos(self.sum_nanos.load(Ordering::Relaxed)),
        }
    }
}

/// What a [`Histogram`] had counted at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Latencies {
    /// One count per bucket, not cumulative.
    pub counts: [u64; BUCKETS],
    /// All durations together.
    pub sum: Duration,
}

impl Latencies {
    /// How many durations were counted.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Adds what another histogram counted.
    pub fn add(&mut self, other: &Self) {
        self.counts.iter_mut().zip(other.counts).for_each(|(count, more)| *count += more);
        self.sum += other.sum;
    }

    /// What was counted since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        Self {
            counts: std::array::from_fn(|bucket| self.counts[bucket].saturating_sub(earlier.counts[bucket])),
            sum: self.sum.saturating_sub(earlier.sum),
        }
    }

    /// The duration that a share `quantile` of all does not exceed, interpolated within its bucket; `None` when nothing was
    /// counted. What lies above the last bound counts as that bound.
    pub fn quantile(&self, quantile: f64) -> Option<Duration> {
        let total = self.count();
        if total == 0 {
            return None;
        }
        let rank = quantile.clamp(0.0, 1.0) * total as f64;
        let (mut below, mut lower) = (0.0, 0.0);
        for (count, bound) in self.counts.iter().zip(LATENCY_BOUNDS_MICROS) {
            let (count, upper) = (*count as f64, bound as f64);
            if count > 0.0 && below + count >= rank {
                let micros = lower + (upper - lower) * ((rank - below) / count).clamp(0.0, 1.0);
                return Some(Duration::from_secs_f64(micros / 1e6));
            }
            below += count;
            lower = upper;
        }
        Some(Duration::from_secs_f64(lower / 1e6))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket_and_what_is_above_all_to_the_last() {
        let histogram = Histogram::default();
        for micros in [25, 26, 60_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let latencies = histogram.latencies();
        assert_eq!((latencies.counts[0], latencies.counts[1], latencies.counts[BUCKETS - 1]), (1, 1, 1));
        assert_eq!(latencies.count(), 3);
        assert_eq!(latencies.sum, Duration::from_micros(60_000_052));
    }

    #[test]
    fn quantiles_lie_in_the_bucket_that_holds_them() {
        let histogram = Histogram::default();
        assert_eq!(histogram.latencies().quantile(0.5), None);
        (0..90).for_each(|_| histogram.observe(Duration::from_micros(80)));
        let before = histogram.latencies();
        (0..10).for_each(|_| histogram.observe(Duration::from_millis(40)));
        let all = histogram.latencies();
        let micros = |quantile| all.quantile(quantile).expect("counted").as_micros();
        assert!((50..=100).contains(&micros(0.5)));
        assert!((25_000..=50_000).contains(&micros(0.99)));
        assert_eq!(all.since(&before).count(), 10);
        assert_eq!(all.since(&before).sum, Duration::from_millis(400));
    }
}
