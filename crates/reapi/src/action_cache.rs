//! The ActionCache service. Spec: reapi §10.

mod completeness;
mod get;
mod inline;
mod update;

use std::sync::Arc;

use bytes::{BufMut, Bytes, BytesMut};
use cache_types::{Digest, InstanceName};
use store::{RecordKey, RecordKind};
use tonic::{Request, Response, Status};

use crate::core::Core;
use crate::proto::re::GetActionResultRequest;
use crate::wire::{UpdateActionResultRequest, raw};

/// The ActionCache service. Results pass as the bytes they are stored as.
pub(crate) struct ActionCache(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl raw::action_cache_server::ActionCache for ActionCache {
    async fn get_action_result(&self, request: Request<GetActionResultRequest>) -> Result<Response<Bytes>, Status> {
        get::get(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn update_action_result(
        &self,
        request: Request<UpdateActionResultRequest>,
    ) -> Result<Response<Bytes>, Status> {
        update::update(&self.0, request.into_inner()).await.map(Response::new)
    }
}

/// The key of an action result: function, hash and size of the action, then the instance. Spec: R-017.
fn key(instance: &InstanceName, action: &Digest) -> RecordKey {
    // The function's number tells the length of the hash, so no two keys are written alike.
    let mut key = BytesMut::new();
    key.put_u8(action.function().number());
    key.put_slice(action.hash().as_bytes());
    key.put_u64(action.size_bytes());
    key.put_slice(instance.as_str().as_bytes());
    RecordKey { kind: RecordKind::ActionResult, key: key.freeze() }
}

#[cfg(test)]
mod tests;
