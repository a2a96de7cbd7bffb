use async_trait::async_trait;
use axum::Router;
use axum::routing::{get, post};
use tonic::{Request, Response, Status};

use crate::cache::caller;
use crate::proto::prompt_cache_server::{self, PromptCacheServer};
use crate::proto::{
    AttestRequest, AttestResponse, ExplainResponse, InvalidateRequest, InvalidateResponse, LongestPrefixRequest,
    LongestPrefixResponse, LookupRequest, LookupResponse, ProducersRequest, ProducersResponse, RecordRequest,
    RecordResponse, ReportRequest, ReportResponse, Savings, SavingsRequest, SignRequest, SignResponse,
};
use crate::{PromptCache, http};

/// The largest request, in bytes.
pub(crate) const MAX_REQUEST_BYTES: usize = 64 * 1024 * 1024;

/// The prompt cache on the wire: the gRPC service and its JSON mirror.
///
/// Each request needs its [`cache_types::Caller`] among its extensions; one without is refused.
#[derive(Clone)]
pub struct Service(PromptCache);

impl Service {
    /// The services of a cache.
    pub fn new(cache: PromptCache) -> Self {
        Self(cache)
    }

    /// The routes of both protocols, to be merged with those of other services.
    pub fn router(&self) -> Router {
        let grpc = PromptCacheServer::new(self.clone()).max_decoding_message_size(MAX_REQUEST_BYTES);
        let cache = self.0.clone();
        let name = <PromptCacheServer<Self> as tonic::server::NamedService>::NAME;
        Router::new()
            .route_service(&format!("/{name}/{{*rest}}"), grpc)
            .route("/v1/prompt/lookup", post(http::lookup))
            .route("/v1/prompt/prefix", post(http::prefix))
            .route("/v1/prompt/record", post(http::record))
            .route("/v1/prompt/report", post(http::report))
            .route("/v1/prompt/explain", get(http::explain_key).post(http::explain))
            .route("/v1/prompt/attest", post(http::attest))
            .route("/v1/prompt/sign", post(http::sign))
            .route("/v1/prompt/savings", post(http::savings))
            .route("/v1/prompt/producers", post(http::producers))
            .route("/v1/prompt/invalidate", post(http::invalidate))
            .with_state(cache)
    }
}

#[async_trait]
impl prompt_cache_server::PromptCache for Service {
    async fn lookup(&self, request: Request<LookupRequest>) -> Result<Response<LookupResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.lookup(&caller, request.get_ref()).await?))
    }

    async fn longest_prefix(
        &self,
        request: Request<LongestPrefixRequest>,
    ) -> Result<Response<LongestPrefixResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.longest_prefix(&caller, request.get_ref()).await?))
    }

    async fn record(&self, request: Request<RecordRequest>) -> Result<Response<RecordResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.record(&caller, request.into_inner()).await?))
    }

    async fn report(&self, request: Request<ReportRequest>) -> Result<Response<ReportResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.report(&caller, request.get_ref()).await?))
    }

    async fn explain(&self, request: Request<LookupRequest>) -> Result<Response<ExplainResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.explain(&caller, request.get_ref()).await?))
    }

    async fn attest(&self, request: Request<AttestRequest>) -> Result<Response<AttestResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.attest(&caller, request.get_ref()).await?))
    }

    async fn sign(&self, request: Request<SignRequest>) -> Result<Response<SignResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.sign(&caller, request.get_ref()).await?))
    }

    async fn savings(&self, request: Request<SavingsRequest>) -> Result<Response<Savings>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.savings(&caller, request.get_ref())?))
    }

    async fn producers(&self, request: Request<ProducersRequest>) -> Result<Response<ProducersResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.producers(&caller, request.get_ref()).await?))
    }

    async fn invalidate(&self, request: Request<InvalidateRequest>) -> Result<Response<InvalidateResponse>, Status> {
        let caller = caller(request.extensions())?;
        Ok(Response::new(self.0.0.invalidate(&caller, request.get_ref()).await?))
    }
}
