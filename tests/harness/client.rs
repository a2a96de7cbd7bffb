use bazel_remote_apis::google::bytestream::byte_stream_client::ByteStreamClient;
use bazel_remote_apis::google::bytestream::{ReadRequest, WriteRequest};
use futures::{Stream, StreamExt};
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::re::action_cache_client::ActionCacheClient;
use super::re::capabilities_client::CapabilitiesClient;
use super::re::content_addressable_storage_client::ContentAddressableStorageClient;
use super::re::digest_function::Value as Function;
use super::re::{self, batch_read_blobs_response, batch_update_blobs_request, batch_update_blobs_response};
use super::server::Listener;
use super::{Blob, bytestream};

/// The bytes in one WriteRequest, as Bazel sends them.
const PIECE_BYTES: usize = 16 * 1024;

/// One connection to a server, and the instance and digest function that its short forms use.
///
/// The stubs have tonic's ordinary limit of 4 MiB for what they receive.
#[derive(Clone)]
pub struct Client {
    channel: Channel,
    instance: String,
    function: Function,
}

impl Client {
    /// A connection that opens at the first call.
    pub fn connect(listener: &Listener) -> Self {
        let channel = match listener {
            Listener::Tcp(address) => {
                Endpoint::from_shared(format!("http://{address}")).expect("an address").connect_lazy()
            }
            Listener::Unix(path) => {
                Endpoint::from_shared(format!("unix:{}", path.display())).expect("a path").connect_lazy()
            }
        };
        Self { channel, instance: String::new(), function: Function::Unknown }
    }

    /// The same connection with another instance name.
    pub fn instance(&self, name: &str) -> Self {
        Self { instance: name.to_owned(), ..self.clone() }
    }

    /// The same connection with `digest_function` set in every message and, where it belongs, in resource names.
    pub fn function(&self, function: Function) -> Self {
        Self { function, ..self.clone() }
    }

    /// The connection itself, for stubs that this type has none of.
    pub fn channel(&self) -> Channel {
        self.channel.clone()
    }

    /// The stub of the CAS.
    pub fn cas(&self) -> ContentAddressableStorageClient<Channel> {
        ContentAddressableStorageClient::new(self.channel())
    }

    /// The stub of the byte stream.
    pub fn byte_stream(&self) -> ByteStreamClient<Channel> {
        ByteStreamClient::new(self.channel())
    }

    /// The stub of the action cache.
    pub fn action_cache(&self) -> ActionCacheClient<Channel> {
        ActionCacheClient::new(self.channel())
    }

    /// The stub of the capabilities.
    pub fn capabilities(&self) -> CapabilitiesClient<Channel> {
        CapabilitiesClient::new(self.channel())
    }

    /// The digests among these that the server lacks, as it answered.
    pub async fn find_missing(&self, digests: &[re::Digest]) -> Result<Vec<re::Digest>, Status> {
        let request = re::FindMissingBlobsRequest {
            instance_name: self.instance.clone(),
            blob_digests: digests.to_vec(),
            digest_function: self.function.into(),
        };
        Ok(self.cas().find_missing_blobs(request).await?.into_inner().missing_blob_digests)
    }

    /// Whether FindMissingBlobs says that the blob is there.
    pub async fn has(&self, digest: &re::Digest) -> bool {
        self.find_missing(std::slice::from_ref(digest)).await.expect("FindMissingBlobs").is_empty()
    }

    /// Uploads by ByteStream Write in pieces of 16 KiB; the committed size.
    pub async fn write(&self, blob: &Blob) -> Result<i64, Status> {
        self.write_named(&self.write_name(&blob.digest), &blob.data).await
    }

    /// As [`Client::write`], travelling as zstd.
    pub async fn write_zstd(&self, blob: &Blob) -> Result<i64, Status> {
        let compressed = zstd::encode_all(blob.data.as_slice(), 3).expect("zstd in memory");
        self.write_named(&self.write_zstd_name(&blob.digest), &compressed).await
    }

    /// Sends `data` under a resource name in pieces of 16 KiB; the committed size.
    pub async fn write_named(&self, name: &str, data: &[u8]) -> Result<i64, Status> {
        self.write_messages(pieces(name, data, PIECE_BYTES)).await
    }

    /// Sends the messages as they are; the committed size.
    pub async fn write_messages(&self, messages: Vec<WriteRequest>) -> Result<i64, Status> {
        self.write_stream(futures::stream::iter(messages)).await
    }

    /// As [`Client::write_messages`], with messages that come when they come.
    pub async fn write_stream(
        &self,
        messages: impl Stream<Item = WriteRequest> + Send + 'static,
    ) -> Result<i64, Status> {
        Ok(self.byte_stream().write(messages).await?.into_inner().committed_size)
    }

    /// Downloads a whole blob by ByteStream Read.
    pub async fn read(&self, digest: &re::Digest) -> Result<Vec<u8>, Status> {
        self.read_named(&self.read_name(digest), 0, 0).await
    }

    /// As [`Client::read`], travelling as zstd; the data unpacked.
    pub async fn read_zstd(&self, digest: &re::Digest) -> Result<Vec<u8>, Status> {
        let compressed = self.read_named(&self.read_zstd_name(digest), 0, 0).await?;
        Ok(zstd::decode_all(compressed.as_slice()).expect("a zstd stream"))
    }

    /// What ByteStream Read sends for a resource name.
    pub async fn read_named(&self, name: &str, offset: i64, limit: i64) -> Result<Vec<u8>, Status> {
        Ok(self.read_pieces(name, offset, limit).await?.concat())
    }

    /// As [`Client::read_named`], a message each.
    pub async fn read_pieces(&self, name: &str, offset: i64, limit: i64) -> Result<Vec<Vec<u8>>, Status> {
        let request = ReadRequest { resource_name: name.to_owned(), read_offset: offset, read_limit: limit };
        let mut stream = self.byte_stream().read(request).await?.into_inner();
        let mut pieces = Vec::new();
        while let Some(piece) = stream.next().await {
            pieces.push(piece?.data);
        }
        Ok(pieces)
    }

    /// QueryWriteStatus of a resource name.
    pub async fn write_status(&self, name: &str) -> Result<bytestream::QueryWriteStatusResponse, Status> {
        let request = bytestream::QueryWriteStatusRequest { resource_name: name.to_owned() };
        Ok(self.byte_stream().query_write_status(request).await?.into_inner())
    }

    /// BatchUpdateBlobs of whole blobs, not compressed; the answer as it came.
    pub async fn batch_update(&self, blobs: &[Blob]) -> Result<Vec<batch_update_blobs_response::Response>, Status> {
        let requests = blobs
            .iter()
            .map(|blob| batch_update_blobs_request::Request {
                digest: Some(blob.digest.clone()),
                data: blob.data.clone(),
                compressor: 0,
            })
            .collect();
        self.batch_update_requests(requests).await
    }

    /// BatchUpdateBlobs of the given items.
    pub async fn batch_update_requests(
        &self,
        requests: Vec<batch_update_blobs_request::Request>,
    ) -> Result<Vec<batch_update_blobs_response::Response>, Status> {
        let request = re::BatchUpdateBlobsRequest {
            instance_name: self.instance.clone(),
            requests,
            digest_function: self.function.into(),
        };
        Ok(self.cas().batch_update_blobs(request).await?.into_inner().responses)
    }

    /// BatchReadBlobs; `compressors` are those that the client says it accepts.
    pub async fn batch_read(
        &self,
        digests: &[re::Digest],
        compressors: &[re::compressor::Value],
    ) -> Result<Vec<batch_read_blobs_response::Response>, Status> {
        let request = re::BatchReadBlobsRequest {
            instance_name: self.instance.clone(),
            digests: digests.to_vec(),
            acceptable_compressors: compressors.iter().map(|compressor| i32::from(*compressor)).collect(),
            digest_function: self.function.into(),
        };
        Ok(self.cas().batch_read_blobs(request).await?.into_inner().responses)
    }

    /// GetActionResult that asks for nothing inline.
    pub async fn action_result(&self, action: &re::Digest) -> Result<re::ActionResult, Status> {
        let request = re::GetActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action.clone()),
            digest_function: self.function.into(),
            ..Default::default()
        };
        Ok(self.action_cache().get_action_result(request).await?.into_inner())
    }

    /// UpdateActionResult; the answer.
    pub async fn update_action_result(
        &self,
        action: &re::Digest,
        result: re::ActionResult,
    ) -> Result<re::ActionResult, Status> {
        let request = re::UpdateActionResultRequest {
            instance_name: self.instance.clone(),
            action_digest: Some(action.clone()),
            action_result: Some(result),
            digest_function: self.function.into(),
            ..Default::default()
        };
        Ok(self.action_cache().update_action_result(request).await?.into_inner())
    }

    /// The resource name of a plain read.
    pub fn read_name(&self, digest: &re::Digest) -> String {
        format!("{}blobs/{}", self.prefix(), self.suffix(digest))
    }

    /// The resource name of a read that travels as zstd.
    pub fn read_zstd_name(&self, digest: &re::Digest) -> String {
        format!("{}compressed-blobs/zstd/{}", self.prefix(), self.suffix(digest))
    }

    /// The resource name of a plain write.
    pub fn write_name(&self, digest: &re::Digest) -> String {
        format!("{}uploads/8f1bb3e2-58ad-4c14-a5d1-0d0fe4d3d7c0/blobs/{}", self.prefix(), self.suffix(digest))
    }

    /// The resource name of a write that travels as zstd.
    pub fn write_zstd_name(&self, digest: &re::Digest) -> String {
        let uuid = "2b7c1d5e-0f3a-4d8e-9a59-6b2f5f0a9c11";
        format!("{}uploads/{uuid}/compressed-blobs/zstd/{}", self.prefix(), self.suffix(digest))
    }

    fn prefix(&self) -> String {
        match self.instance.as_str() {
            "" => String::new(),
            name => format!("{name}/"),
        }
    }

    fn suffix(&self, digest: &re::Digest) -> String {
        let function = match self.function {
            Function::Sha256tree => "sha256tree/",
            Function::Blake3 => "blake3/",
            Function::Gitsha1 => "gitsha1/",
            _ => "",
        };
        format!("{function}{}/{}", digest.hash, digest.size_bytes)
    }
}

/// The messages of one upload: the name in the first, `finish_write` in the last.
pub fn pieces(name: &str, data: &[u8], piece_bytes: usize) -> Vec<WriteRequest> {
    let mut messages: Vec<WriteRequest> = data
        .chunks(piece_bytes)
        .scan(0, |offset, piece| {
            let write_offset = *offset;
            *offset += i64::try_from(piece.len()).expect("a length that memory holds");
            Some(WriteRequest { write_offset, data: piece.to_vec(), ..Default::default() })
        })
        .collect();
    if messages.is_empty() {
        messages.push(WriteRequest::default());
    }
    messages.first_mut().expect("at least one").resource_name = name.to_owned();
    messages.last_mut().expect("at least one").finish_write = true;
    messages
}
