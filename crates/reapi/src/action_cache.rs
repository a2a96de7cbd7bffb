//! The ActionCache service. Spec: reapi §10.

pub(crate) mod completeness;
mod get;
mod inline;
mod known;
mod stored;
mod update;

use std::sync::Arc;

use bytes::Bytes;
use cache_types::Role;
use tonic::{Request, Response, Status};

use crate::access;
use crate::core::Core;
use crate::proto::re::GetActionResultRequest;
use crate::request_metadata::Requester;
use crate::wire::{UpdateActionResultRequest, raw};
use crate::writer;

pub(crate) use get::{decode, find, get, is_complete};
pub(crate) use known::KnownResults;
pub(crate) use stored::{ActionName, Found, parse_key, provenance};
pub(crate) use update::{put, remove, update};

/// The ActionCache service. Results pass as the bytes they are stored as.
pub(crate) struct ActionCache(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl raw::action_cache_server::ActionCache for ActionCache {
    async fn get_action_result(&self, request: Request<GetActionResultRequest>) -> Result<Response<Bytes>, Status> {
        access::check_named(request.extensions(), Role::Read, &request.get_ref().instance_name)?;
        let requester = Requester::of(request.metadata().as_ref());
        get::get(&self.0, &requester, request.into_inner()).await.map(Response::new)
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<Bytes>, Status> {
        access::check_named(request.extensions(), Role::AcWrite, &request.get_ref().instance_name)?;
        let (_, extensions, request) = request.into_parts();
        update(&self.0, request, writer::of(&extensions)).await.map(Response::new)
    }
}

#[cfg(test)]
mod tests;
