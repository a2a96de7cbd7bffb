//! The ContentAddressableStorage service.

mod batch_read;
mod batch_update;
mod chunks;
mod find_missing;
mod get_tree;
mod page_token;

use std::sync::Arc;

use cache_types::Role;
use futures::StreamExt;
use futures::stream::BoxStream;
use tonic::{Request, Response, Status, Streaming};

use crate::core::Core;
use crate::proto::re;
use crate::wire::GetTreeResponse;
use crate::wire::raw::content_addressable_storage_server::ContentAddressableStorage;
use crate::{access, status};

pub(crate) use batch_read::batch_read;
pub(crate) use batch_update::batch_update;
pub(crate) use find_missing::missing_of;

/// The ContentAddressableStorage service.
pub(crate) struct Cas(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl ContentAddressableStorage for Cas {
    async fn find_missing_blobs(
        &self,
        request: Request<re::FindMissingBlobsRequest>,
    ) -> Result<Response<re::FindMissingBlobsResponse>, Status> {
        access::check_named(request.extensions(), Role::Read, &request.get_ref().instance_name)?;
        find_missing::find_missing(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn batch_update_blobs(
        &self,
        request: Request<re::BatchUpdateBlobsRequest>,
    ) -> Result<Response<re::BatchUpdateBlobsResponse>, Status> {
        access::check_named(request.extensions(), Role::CasWrite, &request.get_ref().instance_name)?;
        batch_update(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn batch_read_blobs(
        &self,
        request: Request<re::BatchReadBlobsRequest>,
    ) -> Result<Response<re::BatchReadBlobsResponse>, Status> {
        access::check_named(request.extensions(), Role::Read, &request.get_ref().instance_name)?;
        batch_read::batch_read(&self.0, request.into_inner()).await.map(Response::new)
    }

    type GetTreeStream = BoxStream<'static, Result<GetTreeResponse, Status>>;

    async fn get_tree(&self, request: Request<re::GetTreeRequest>) -> Result<Response<Self::GetTreeStream>, Status> {
        access::check_named(request.extensions(), Role::Read, &request.get_ref().instance_name)?;
        let pages = get_tree::get_tree(self.0.clone(), request.into_inner()).await?;
        Ok(Response::new(pages.boxed()))
    }

    async fn split_blob(
        &self,
        request: Request<re::SplitBlobRequest>,
    ) -> Result<Response<re::SplitBlobResponse>, Status> {
        access::check_named(request.extensions(), Role::Read, &request.get_ref().instance_name)?;
        chunks::split_blob(&self.0, request.into_inner()).await.map(Response::new)
    }

    async fn splice_blob(
        &self,
        request: Request<re::SpliceBlobRequest>,
    ) -> Result<Response<re::SpliceBlobResponse>, Status> {
        access::check_named(request.extensions(), Role::CasWrite, &request.get_ref().instance_name)?;
        chunks::splice_blob(&self.0, request.into_inner()).await.map(Response::new)
    }

    type GetChunkMappingStream = BoxStream<'static, Result<re::GetChunkMappingResponse, Status>>;

    async fn get_chunk_mapping(
        &self,
        request: Request<re::GetChunkMappingRequest>,
    ) -> Result<Response<Self::GetChunkMappingStream>, Status> {
        access::check_named(request.extensions(), Role::Read, &request.get_ref().instance_name)?;
        let messages = chunks::get_chunk_mapping(&self.0, request.into_inner()).await?;
        Ok(Response::new(messages.boxed()))
    }

    async fn register_chunk_mapping(
        &self,
        request: Request<Streaming<re::RegisterChunkMappingRequest>>,
    ) -> Result<Response<re::RegisterChunkMappingResponse>, Status> {
        let caller = access::caller(request.extensions()).map_err(status::denied)?.clone();
        chunks::register_chunk_mapping(&self.0, &caller, request.into_inner().boxed()).await.map(Response::new)
    }
}
