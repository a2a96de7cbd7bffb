use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use http::{Request, StatusCode, header};
use store::Histogram;
use tonic::Code as RpcCode;

use super::{Method, Observer, Route, Rpc};

/// What a call is counted as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A gRPC method.
    Rpc(Rpc),
    /// A request to the HTTP caches.
    Http(Route, Method),
}

impl Endpoint {
    /// What a request counts as.
    pub fn of<B>(request: &Request<B>) -> Self {
        let path = request.uri().path();
        let content_type = request.headers().get(header::CONTENT_TYPE);
        if content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc")) {
            return Self::Rpc(Rpc::of_path(path));
        }
        Self::Http(Route::of_path(path), Method::from(request.method()))
    }
}

/// How a call ended: the number of a gRPC code, or an HTTP status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u16);

/// The HTTP statuses that are counted each by itself, in order.
const STATUSES: [u16; 24] = [
    200, 201, 204, 206, 207, 304, 400, 401, 403, 404, 405, 408, 409, 412, 413, 415, 416, 429, 499, 500, 501, 502, 503,
    507,
];

/// Slots for the codes of either protocol, and for any other.
const SLOTS: usize = STATUSES.len() + 1;

/// The status of a request whose client went away before there was an answer.
const CLIENT_WENT_AWAY: u16 = 499;

impl Code {
    /// A gRPC code.
    pub fn rpc(code: RpcCode) -> Self {
        Self(u16::try_from(i32::from(code)).unwrap_or(2))
    }

    /// An HTTP status.
    pub fn http(status: StatusCode) -> Self {
        Self(status.as_u16())
    }

    /// What a call is counted as whose client went away.
    fn cancelled(endpoint: Endpoint) -> Self {
        match endpoint {
            Endpoint::Rpc(_) => Self::rpc(RpcCode::Cancelled),
            Endpoint::Http(..) => Self(CLIENT_WENT_AWAY),
        }
    }

    fn slot(self, endpoint: Endpoint) -> usize {
        match endpoint {
            Endpoint::Rpc(_) => usize::from(self.0).min(SLOTS - 1),
            Endpoint::Http(..) => STATUSES.binary_search(&self.0).unwrap_or(SLOTS - 1),
        }
    }

    /// The name of a slot as a label.
    fn label(endpoint: Endpoint, slot: usize) -> &'static str {
        const NAMES: [&str; 17] = [
            "OK",
            "CANCELLED",
            "UNKNOWN",
            "INVALID_ARGUMENT",
            "DEADLINE_EXCEEDED",
            "NOT_FOUND",
            "ALREADY_EXISTS",
            "PERMISSION_DENIED",
            "RESOURCE_EXHAUSTED",
            "FAILED_PRECONDITION",
            "ABORTED",
            "OUT_OF_RANGE",
            "UNIMPLEMENTED",
            "INTERNAL",
            "UNAVAILABLE",
            "DATA_LOSS",
            "UNAUTHENTICATED",
        ];
        const TEXTS: [&str; STATUSES.len()] = [
            "200", "201", "204", "206", "207", "304", "400", "401", "403", "404", "405", "408", "409", "412", "413",
            "415", "416", "429", "499", "500", "501", "502", "503", "507",
        ];
        let names: &[&str] = match endpoint {
            Endpoint::Rpc(_) => &NAMES,
            Endpoint::Http(..) => &TEXTS,
        };
        names.get(slot).copied().unwrap_or("other")
    }
}

/// The counts of one kind of call.
#[derive(Debug, Default)]
pub struct CallMeter {
    begun: AtomicU64,
    codes: [AtomicU64; SLOTS],
    latency: Histogram,
    received_bytes: AtomicU64,
    sent_bytes: AtomicU64,
}

impl CallMeter {
    pub(super) fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self, endpoint: Endpoint, code: Code, took: Duration) {
        // The histogram last: whoever saw a call in it finds its code counted.
        self.codes[code.slot(endpoint)].fetch_add(1, Ordering::Relaxed);
        self.latency.observe(took);
    }

    /// Calls so far by the name of their code, those without any left out.
    pub fn codes(&self, endpoint: Endpoint) -> impl Iterator<Item = (&'static str, u64)> {
        self.codes.iter().enumerate().filter_map(move |(slot, count)| {
            let count = count.load(Ordering::Relaxed);
            (count > 0).then(|| (Code::label(endpoint, slot), count))
        })
    }

    /// How long calls took, from the request's head to the end of the answer.
    pub fn latency(&self) -> &Histogram {
        &self.latency
    }

    /// Calls that were begun and have not ended.
    pub fn in_flight(&self) -> u64 {
        let ended: u64 = self.codes.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        self.begun.load(Ordering::Relaxed).saturating_sub(ended)
    }

    /// Calls that were begun.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::Relaxed)
    }

    /// The bytes of the bodies of requests, framing of gRPC included.
    pub fn received_bytes(&self) -> u64 {
        self.received_bytes.load(Ordering::Relaxed)
    }

    /// The bytes of the bodies of answers, framing of gRPC included.
    pub fn sent_bytes(&self) -> u64 {
        self.sent_bytes.load(Ordering::Relaxed)
    }

    pub(super) fn received(&self, bytes: u64) {
        self.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// One call under way. Dropped without a code, it counts as cancelled by the client.
#[derive(Debug)]
pub struct Call {
    observer: Arc<Observer>,
    endpoint: Endpoint,
    since: Instant,
    code: Option<Code>,
}

impl Call {
    pub(super) fn new(observer: Arc<Observer>, endpoint: Endpoint, since: Instant) -> Self {
        Self { observer, endpoint, since, code: None }
    }

    /// Sets how it ends; the last one said counts.
    pub fn set_code(&mut self, code: Code) {
        self.code = Some(code);
    }

    /// Counts bytes of the request's body.
    pub fn received(&self, bytes: u64) {
        self.observer.meter(self.endpoint).received(bytes);
    }

    /// Counts bytes of the answer's body.
    pub fn sent(&self, bytes: u64) {
        self.observer.meter(self.endpoint).sent_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn endpoint(&self) -> Endpoint {
        self.endpoint
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let code = self.code.unwrap_or_else(|| Code::cancelled(self.endpoint));
        self.observer.meter(self.endpoint).end(self.endpoint, code, self.since.elapsed());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_its_label_and_strange_ones_are_other() {
        let rpc = Endpoint::Rpc(Rpc::Read);
        let label = |endpoint, code: Code| Code::label(endpoint, code.slot(endpoint));
        assert_eq!(label(rpc, Code::rpc(RpcCode::Ok)), "OK");
        assert_eq!(label(rpc, Code::rpc(RpcCode::Unauthenticated)), "UNAUTHENTICATED");
        let http = Endpoint::Http(Route::Cas, Method::Get);
        for status in STATUSES {
            let code = Code::http(StatusCode::from_u16(status).expect("a status"));
            assert_eq!(label(http, code), status.to_string());
        }
        assert_eq!(label(http, Code::http(StatusCode::IM_A_TEAPOT)), "other");
    }

    #[test]
    fn a_call_is_in_flight_until_it_is_dropped() {
        let observer = Arc::new(Observer::default());
        let endpoint = Endpoint::Rpc(Rpc::Write);
        let call = observer.call(endpoint);
        call.received(10);
        assert_eq!((observer.meter(endpoint).in_flight(), observer.uploads_in_flight()), (1, 1));
        drop(call);
        let mut call = observer.call(endpoint);
        call.set_code(Code::rpc(RpcCode::Ok));
        call.sent(3);
        drop(call);
        let meter = observer.meter(endpoint);
        assert_eq!((meter.in_flight(), meter.received_bytes(), meter.sent_bytes()), (0, 10, 3));
        assert_eq!(meter.codes(endpoint).collect::<Vec<_>>(), [("OK", 1), ("CANCELLED", 1)]);
        assert_eq!(meter.latency().latencies().count(), 2);
    }
}
