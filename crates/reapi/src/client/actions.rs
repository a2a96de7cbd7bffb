use bytes::Bytes;
use cache_types::{Digest, InstanceName};
use http::uri::PathAndQuery;
use prost::Message;
use store::StoreError;
use tonic::client::Grpc;
use tonic::{Code, Request, Response, Status};

use super::status::store_error;
use super::{MAX_ANSWER_BYTES, RemoteStore, wire, wire_function};
use crate::proto::re;
use crate::wire::{EncodedCodec, UpdateActionResultRequest};

/// Action results pass as the bytes they are, so that a field of a newer protocol version survives. Spec: R-137.
impl RemoteStore {
    /// The encoded result of an action; `None` when the server has none.
    ///
    /// The instance is one of its own, beside that of [`super::Settings`], under which blobs are asked for.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server does not answer, [`StoreError::Internal`] when it refuses.
    pub async fn action_result(&self, instance: &InstanceName, action: &Digest) -> Result<Option<Bytes>, StoreError> {
        let request = re::GetActionResultRequest {
            instance_name: instance.to_string(),
            action_digest: Some(wire(action)),
            digest_function: wire_function(action.function()),
            ..Default::default()
        };
        match self.call(|| self.ask("GetActionResult", request.clone())).await {
            Ok(encoded) => Ok(Some(encoded)),
            Err(status) if status.code() == Code::NotFound => Ok(None),
            Err(status) => Err(store_error(status, None)),
        }
    }

    /// Stores the encoded result of an action. What it names should be there before.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server does not answer, [`StoreError::Internal`] when it refuses.
    pub async fn update_action_result(
        &self,
        instance: &InstanceName,
        action: &Digest,
        encoded: Bytes,
    ) -> Result<(), StoreError> {
        let request = UpdateActionResultRequest {
            instance_name: instance.to_string(),
            action_digest: Some(wire(action)),
            action_result: Some(encoded),
            results_cache_policy: None,
            digest_function: wire_function(action.function()),
        };
        let sent = self.call(|| self.ask("UpdateActionResult", request.clone())).await;
        sent.map(|_stored| ()).map_err(|status| store_error(status, None))
    }

    async fn ask<M: Message + Send + Sync + 'static>(
        &self,
        method: &str,
        request: M,
    ) -> Result<Response<Bytes>, Status> {
        let path = format!("/build.bazel.remote.execution.v2.ActionCache/{method}");
        let path = PathAndQuery::try_from(path).expect("a path of letters and dots");
        let mut grpc = Grpc::new(self.transport()).max_decoding_message_size(MAX_ANSWER_BYTES);
        grpc.ready().await.map_err(|error| Status::from_error(error.into()))?;
        grpc.unary(Request::new(request), path, EncodedCodec::<M>::default()).await
    }
}
