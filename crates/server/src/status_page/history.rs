use std::collections::VecDeque;
use std::time::{Duration, SystemTime};

use reapi::observer::{Endpoint, Method, Outcome, Route, Rpc};
use serde::Serialize;
use store::Latencies;

use crate::metrics::Sources;

/// The points of the last hour.
const FINE_POINTS: usize = 360;
/// The points of the last day, each of so many fine ones.
const COARSE_POINTS: usize = 720;
const FINE_PER_COARSE: u32 = 12;

/// What was counted up to one moment.
#[derive(Clone, Debug)]
pub(super) struct Sample {
    pub(super) at: SystemTime,
    pub(super) requests: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    pub(super) latencies: Latencies,
    /// Not a count but a state.
    pub(super) used_bytes: u64,
}

impl Sample {
    pub(super) fn of(sources: &Sources, at: SystemTime) -> Self {
        let observer = &sources.observer;
        let mut sample = Self {
            at,
            requests: 0,
            hits: observer.actions().total(Outcome::Hit),
            misses: Outcome::ALL.into_iter().skip(1).map(|miss| observer.actions().total(miss)).sum(),
            received_bytes: 0,
            sent_bytes: 0,
            latencies: Latencies::default(),
            used_bytes: sources.stats().used_bytes,
        };
        for endpoint in cache_calls() {
            let meter = observer.meter(endpoint);
            if meter.begun() == 0 {
                continue;
            }
            let latencies = meter.latency().latencies();
            sample.requests += latencies.count();
            sample.received_bytes += meter.received_bytes();
            sample.sent_bytes += meter.sent_bytes();
            sample.latencies.add(&latencies);
        }
        sample
    }
}

/// The calls of clients; what operators ask, and streams that stay open to watch, would blur their latency.
fn cache_calls() -> impl Iterator<Item = Endpoint> {
    let rpcs = Rpc::ALL.into_iter().filter(|rpc| !matches!(rpc, Rpc::HealthCheck | Rpc::HealthWatch | Rpc::Other));
    let routes = Route::ALL.into_iter().filter(|route| !matches!(route, Route::Operation | Route::Other));
    let requests = routes.flat_map(|route| Method::ALL.map(|method| Endpoint::Http(route, method)));
    rpcs.map(Endpoint::Rpc).chain(requests)
}

/// What happened between two samples.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Point {
    /// The end, in seconds since 1970.
    pub(super) at: u64,
    /// The length in seconds.
    pub(super) seconds: f64,
    pub(super) requests: u64,
    pub(super) hits: u64,
    pub(super) misses: u64,
    pub(super) received_bytes: u64,
    pub(super) sent_bytes: u64,
    /// `null` where there was no call.
    pub(super) p50_seconds: Option<f64>,
    pub(super) p99_seconds: Option<f64>,
    pub(super) used_bytes: u64,
}

impl Point {
    pub(super) fn between(earlier: &Sample, later: &Sample) -> Self {
        let latencies = later.latencies.since(&earlier.latencies);
        let quantile = |share| latencies.quantile(share).map(|took| took.as_secs_f64());
        Self {
            at: later.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
            seconds: later.at.duration_since(earlier.at).unwrap_or(Duration::ZERO).as_secs_f64(),
            requests: later.requests.saturating_sub(earlier.requests),
            hits: later.hits.saturating_sub(earlier.hits),
            misses: later.misses.saturating_sub(earlier.misses),
            received_bytes: later.received_bytes.saturating_sub(earlier.received_bytes),
            sent_bytes: later.sent_bytes.saturating_sub(earlier.sent_bytes),
            p50_seconds: quantile(0.5),
            p99_seconds: quantile(0.99),
            used_bytes: later.used_bytes,
        }
    }
}

/// The last hour in fine points and the last day in coarse ones.
pub(super) struct History {
    fine: VecDeque<Point>,
    coarse: VecDeque<Point>,
    last: Sample,
    coarse_since: Sample,
    pending: u32,
}

impl History {
    /// Begins with what was counted so far.
    pub(super) fn new(first: Sample) -> Self {
        let (fine, coarse) = (VecDeque::new(), VecDeque::new());
        Self { fine, coarse, last: first.clone(), coarse_since: first, pending: 0 }
    }

    /// Adds the point that ends with this sample.
    pub(super) fn push(&mut self, sample: Sample) {
        push_bounded(&mut self.fine, Point::between(&self.last, &sample), FINE_POINTS);
        self.pending += 1;
        if self.pending == FINE_PER_COARSE {
            push_bounded(&mut self.coarse, Point::between(&self.coarse_since, &sample), COARSE_POINTS);
            self.pending = 0;
            self.coarse_since = sample.clone();
        }
        self.last = sample;
    }

    /// The points of the last hour, the one that has only begun included.
    pub(super) fn fine(&self, now: &Sample) -> Vec<Point> {
        self.fine.iter().cloned().chain([Point::between(&self.last, now)]).collect()
    }

    /// The points of the last day, the one that has only begun included.
    pub(super) fn coarse(&self, now: &Sample) -> Vec<Point> {
        self.coarse.iter().cloned().chain([Point::between(&self.coarse_since, now)]).collect()
    }
}

fn push_bounded(points: &mut VecDeque<Point>, point: Point, most: usize) {
    if points.len() == most {
        points.pop_front();
    }
    points.push_back(point);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(second: u64) -> Sample {
        Sample {
            at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000 + second),
            requests: second * 3,
            hits: second,
            misses: second * 2,
            received_bytes: 0,
            sent_bytes: second * 1000,
            latencies: Latencies::default(),
            used_bytes: second,
        }
    }

    #[test]
    fn both_scales_are_bounded_and_no_call_is_counted_twice() {
        let mut history = History::new(sample(0));
        (1..=20_000).for_each(|n| history.push(sample(n * 10)));
        let now = sample(200_004);
        let (fine, coarse) = (history.fine(&now), history.coarse(&now));
        assert_eq!((fine.len(), coarse.len()), (FINE_POINTS + 1, COARSE_POINTS + 1));
        let sum = |points: &[Point]| points.iter().map(|point| point.requests).sum::<u64>();
        assert_eq!(sum(&fine), 3 * (3600 + 4));
        // 20,000 points are 1,666 coarse ones and eight more.
        assert_eq!(sum(&coarse), 3 * (86_400 + 80 + 4));
        let last = fine.last().expect("a point");
        assert_eq!((last.at, last.seconds, last.hits, last.misses), (1_200_004, 4.0, 4, 8));
        assert_eq!((last.p50_seconds, last.used_bytes), (None, 200_004));
    }
}
