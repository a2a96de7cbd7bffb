use std::fmt::Error;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use reapi::observer::{CallMeter, Endpoint, Method, Route, Rpc};

use super::Sources;
use super::families::{Families, Labels, to_f64};

/// gRPC methods and HTTP routes that were called at least once.
#[derive(Debug)]
pub(super) struct Calls(pub(super) Sources);

/// The names of the families of one protocol.
struct Names {
    requests: &'static str,
    duration: &'static str,
    received: &'static str,
    sent: &'static str,
    in_flight: &'static str,
}

const RPC: Names = Names {
    requests: "twofold_rpc_requests",
    duration: "twofold_rpc_duration_seconds",
    received: "twofold_rpc_received_bytes",
    sent: "twofold_rpc_sent_bytes",
    in_flight: "twofold_rpc_in_flight",
};

const HTTP: Names = Names {
    requests: "twofold_http_requests",
    duration: "twofold_http_duration_seconds",
    received: "twofold_http_received_bytes",
    sent: "twofold_http_sent_bytes",
    in_flight: "twofold_http_in_flight",
};

/// One kind of call that occurred.
struct Met<'a> {
    endpoint: Endpoint,
    meter: &'a CallMeter,
}

impl Met<'_> {
    fn labels(&self) -> Labels<'static> {
        match self.endpoint {
            Endpoint::Rpc(rpc) => vec![("rpc", rpc.name())],
            Endpoint::Http(route, method) => vec![("route", route.name()), ("method", method.name())],
        }
    }

    fn by_code(&self) -> impl Iterator<Item = (Labels<'static>, f64)> {
        self.meter.codes(self.endpoint).map(|(code, count)| {
            let mut labels = self.labels();
            labels.push(("code", code));
            (labels, to_f64(count))
        })
    }
}

impl Collector for Calls {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let mut families = Families(encoder);
        let rpcs = Rpc::ALL.into_iter().map(Endpoint::Rpc);
        write(&mut families, &RPC, &self.met(rpcs))?;
        let requests = Route::ALL.into_iter().flat_map(|route| Method::ALL.map(|method| Endpoint::Http(route, method)));
        write(&mut families, &HTTP, &self.met(requests))?;
        let uploads = self.0.observer.uploads_in_flight();
        families.gauge("twofold_uploads_in_progress", "Uploads whose answer is still to come", to_f64(uploads))?;
        families.gauge("twofold_connections", "Connections that are open", to_f64((self.0.connections)()))
    }
}

impl Calls {
    fn met(&self, endpoints: impl Iterator<Item = Endpoint>) -> Vec<Met<'_>> {
        endpoints
            .map(|endpoint| Met { endpoint, meter: self.0.observer.meter(endpoint) })
            .filter(|met| met.meter.begun() > 0)
            .collect()
    }
}

fn write(families: &mut Families<'_>, names: &Names, met: &[Met<'_>]) -> Result<(), Error> {
    families.counters(names.requests, "Calls that ended, by code", met.iter().flat_map(Met::by_code))?;
    families.latencies(
        names.duration,
        "From the head of the request to the end of the answer",
        met.iter().map(|met| (met.labels(), met.meter.latency().latencies())),
    )?;
    families.counters(
        names.received,
        "Bytes of the bodies of requests",
        met.iter().map(|met| (met.labels(), to_f64(met.meter.received_bytes()))),
    )?;
    families.counters(
        names.sent,
        "Bytes of the bodies of answers",
        met.iter().map(|met| (met.labels(), to_f64(met.meter.sent_bytes()))),
    )?;
    families.gauges(
        names.in_flight,
        "Calls that have not ended",
        met.iter().map(|met| (met.labels(), to_f64(met.meter.in_flight()))),
    )
}
