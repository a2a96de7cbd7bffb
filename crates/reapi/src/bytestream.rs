//! The ByteStream service. Spec: reapi §7.

mod pieces;
mod read;
mod resource;
mod upload;
mod write;

use std::sync::Arc;

use cache_types::Role;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::Core;
use crate::proto::bytestream::{
    QueryWriteStatusRequest, QueryWriteStatusResponse, ReadRequest, ReadResponse, WriteRequest, WriteResponse,
    byte_stream_server,
};
use crate::{access, status};

pub(crate) use read::{compressed, data};

/// The ByteStream service.
pub(crate) struct ByteStream(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl byte_stream_server::ByteStream for ByteStream {
    type ReadStream = BoxStream<'static, Result<ReadResponse, Status>>;

    async fn read(&self, request: Request<ReadRequest>) -> Result<Response<Self::ReadStream>, Status> {
        let caller = access::caller(request.extensions()).map_err(status::denied)?;
        read::read(&self.0, caller, request.get_ref()).await.map(Response::new)
    }

    async fn write(&self, request: Request<Streaming<WriteRequest>>) -> Result<Response<WriteResponse>, Status> {
        let caller = access::caller(request.extensions()).map_err(status::denied)?.clone();
        let committed_size = write::write(&self.0, &caller, request.into_inner().boxed()).await?;
        Ok(Response::new(WriteResponse { committed_size }))
    }

    /// An upload is never resumed: what is not stored whole counts as nothing. Spec.
    async fn query_write_status(
        &self,
        request: Request<QueryWriteStatusRequest>,
    ) -> Result<Response<QueryWriteStatusResponse>, Status> {
        let resource = resource::write(&self.0.settings, &request.get_ref().resource_name)?;
        access::check(request.extensions(), Role::Read, &resource.blob.instance).map_err(status::denied)?;
        let digest = resource.blob.digest;
        let complete = self.0.has(&digest).await?;
        let committed_size = if complete { digest.size_i64() } else { 0 };
        Ok(Response::new(QueryWriteStatusResponse { committed_size, complete }))
    }
}
