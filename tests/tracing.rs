//! Spans over OTLP, as a collector receives them.

mod harness;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use harness::{Server, re, sha256};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{TraceService, TraceServiceServer};
use opentelemetry_proto::tonic::collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse};
use opentelemetry_proto::tonic::trace::v1::Span;
use tonic::transport::Server as Transport;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// A collector that keeps what it receives.
#[derive(Clone, Default)]
struct Collector(Arc<Mutex<Vec<ExportTraceServiceRequest>>>);

#[tonic::async_trait]
impl TraceService for Collector {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.0.lock().expect("no holder panics").push(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// Listens on a free port until the test ends.
    fn start(&self) -> SocketAddr {
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().expect("an address")).expect("a free port");
        let address = incoming.local_addr().expect("an address");
        let service = TraceServiceServer::new(self.clone());
        tokio::spawn(Transport::builder().add_service(service).serve_with_incoming(incoming));
        address
    }

    fn spans(&self) -> Vec<Span> {
        let received = self.0.lock().expect("no holder panics");
        let scopes = received.iter().flat_map(|request| &request.resource_spans).flat_map(|spans| &spans.scope_spans);
        scopes.flat_map(|spans| spans.spans.clone()).collect()
    }

    /// The attributes of the program that sent the first spans.
    fn resource(&self) -> String {
        let received = self.0.lock().expect("no holder panics");
        format!("{:?}", received.first().map(|request| &request.resource_spans[0].resource))
    }
}

async fn ask(server: &Server, traceparent: Option<&'static str>) {
    let mut request =
        Request::new(re::GetActionResultRequest { action_digest: Some(sha256(b"nowhere")), ..Default::default() });
    if let Some(traceparent) = traceparent {
        request.metadata_mut().insert("traceparent", traceparent.parse().expect("a header"));
    }
    server.client().action_cache().get_action_result(request).await.expect_err("nothing is here");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_becomes_a_span_of_its_callers_trace() {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.start());
    let mut server = Server::start(&["--otlp-endpoint", &endpoint]);
    ask(&server, Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")).await;
    ask(&server, Some("00-11111111111111111111111111111111-2222222222222222-00")).await;
    ask(&server, Some("nonsense")).await;
    ask(&server, None).await;
    assert!(server.terminate().success(), "the end sends what is left");

    let spans = collector.spans();
    let name = "build.bazel.remote.execution.v2.ActionCache/GetActionResult";
    assert!(spans.iter().all(|span| span.name == name && span.kind == 2 && span.end_time_unix_nano > 0), "{spans:#?}");
    let hex = |bytes: &[u8]| harness::hex(bytes);
    let followed: Vec<&Span> = spans.iter().filter(|span| hex(&span.trace_id).starts_with("0af765")).collect();
    let [followed] = followed.as_slice() else { panic!("one span of the caller's trace: {spans:#?}") };
    assert_eq!(hex(&followed.trace_id), "0af7651916cd43dd8448eb211c80319c");
    assert_eq!(hex(&followed.parent_span_id), "b7ad6b7169203331");
    assert!(!spans.iter().any(|span| hex(&span.trace_id).starts_with("1111")), "that caller did not sample");
    let own = spans.iter().filter(|span| span.parent_span_id.is_empty()).count();
    assert_eq!((own, spans.len()), (2, 3), "those that name no trace begin one");
    let resource = collector.resource();
    assert!(resource.contains("service.name") && resource.contains("twofold"), "{resource}");

    let file = tempfile::NamedTempFile::new().expect("a temporary file");
    std::fs::write(file.path(), format!("otlp_endpoint = \"{endpoint}\"\n")).expect("written");
    let mut server = Server::start(&["--config", file.path().to_str().expect("a path of UTF-8")]);
    ask(&server, None).await;
    assert!(server.terminate().success());
    assert_eq!(collector.spans().len(), 4, "the file names the collector too");
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_sent_of_what_is_not_sampled_and_a_collector_that_is_away_costs_no_call() {
    let collector = Collector::default();
    let endpoint = format!("http://{}", collector.start());
    let mut server = Server::start(&["--otlp-endpoint", &endpoint, "--otlp-sample", "0"]);
    ask(&server, None).await;
    assert!(server.terminate().success());
    assert_eq!(collector.spans(), []);

    let mut server = Server::start(&["--otlp-endpoint", "http://127.0.0.1:1"]);
    ask(&server, None).await;
    assert!(server.terminate().success());
}
