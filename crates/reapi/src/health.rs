use futures::stream::{self, BoxStream, StreamExt};
use tokio::sync::watch;
use tonic::server::NamedService;
use tonic::{Request, Response, Status};
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::{self, HealthServer};
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};

use crate::action_cache::ActionCache;
use crate::bytestream::ByteStream;
use crate::capabilities::Capabilities;
use crate::cas::Cas;
use crate::proto::bytestream::byte_stream_server::ByteStreamServer;
use crate::proto::re::capabilities_server::CapabilitiesServer;
use crate::wire::raw::action_cache_server::ActionCacheServer;
use crate::wire::raw::content_addressable_storage_server::ContentAddressableStorageServer;

/// The names that can be asked for: the server as a whole, the spelling that tools written for another server ask, and
/// each service. Spec: R-180.
const NAMES: [&str; 9] = [
    "",
    "/grpc.health.v1.Health/Check",
    <CapabilitiesServer<Capabilities> as NamedService>::NAME,
    <ContentAddressableStorageServer<Cas> as NamedService>::NAME,
    <ActionCacheServer<ActionCache> as NamedService>::NAME,
    <ByteStreamServer<ByteStream> as NamedService>::NAME,
    <HealthServer<Health> as NamedService>::NAME,
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
];

/// The grpc.health.v1 service. All services start and stop together, so they have one state.
pub(crate) struct Health {
    state: watch::Receiver<ServingStatus>,
}

impl Health {
    pub(crate) fn new(state: watch::Receiver<ServingStatus>) -> Self {
        Self { state }
    }
}

#[tonic::async_trait]
impl health_server::Health for Health {
    async fn check(&self, request: Request<HealthCheckRequest>) -> Result<Response<HealthCheckResponse>, Status> {
        let service = &request.get_ref().service;
        if !NAMES.contains(&service.as_str()) {
            return Err(Status::not_found("no such service is served here"));
        }
        Ok(Response::new(response(*self.state.borrow())))
    }

    type WatchStream = BoxStream<'static, Result<HealthCheckResponse, Status>>;

    /// Sends the state and each change. The stream ends once the server is about to stop, so that it does not hold up
    /// the stop. A name that is not known is no error here. Spec: R-180.
    async fn watch(&self, request: Request<HealthCheckRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let is_known = NAMES.contains(&request.get_ref().service.as_str());
        let states = states(self.state.clone());
        let shown = move |state| if is_known { state } else { ServingStatus::ServiceUnknown };
        Ok(Response::new(states.map(move |state| Ok(response(shown(state)))).boxed()))
    }
}

fn response(status: ServingStatus) -> HealthCheckResponse {
    HealthCheckResponse { status: status.into() }
}

/// The state now and each later one, up to NOT_SERVING.
fn states(mut state: watch::Receiver<ServingStatus>) -> impl stream::Stream<Item = ServingStatus> + Send {
    state.mark_changed();
    stream::unfold(Some(state), |state| async {
        let mut state = state?;
        state.changed().await.ok()?;
        let now = *state.borrow_and_update();
        Some((now, (now != ServingStatus::NotServing).then_some(state)))
    })
}
