//! One call of each RPC, and what its answer must be.

use std::sync::Arc;

use anyhow::{bail, ensure};
use bytes::Bytes;
use reapi::proto::bytestream::byte_stream_client::ByteStreamClient;
use reapi::proto::bytestream::{ReadRequest, WriteRequest};
use reapi::proto::re;
use reapi::proto::re::action_cache_client::ActionCacheClient;
use reapi::proto::re::capabilities_client::CapabilitiesClient;
use reapi::proto::re::content_addressable_storage_client::ContentAddressableStorageClient;
use tonic::transport::Channel;

use crate::data::Blob;

const MAX_MESSAGE_BYTES: usize = 64 * 1024 * 1024;
/// Data in one message of an upload.
const PIECE_BYTES: usize = 256 * 1024;

/// The stubs of one connection.
#[derive(Clone)]
pub struct Clients {
    capabilities: CapabilitiesClient<Channel>,
    action_cache: ActionCacheClient<Channel>,
    cas: ContentAddressableStorageClient<Channel>,
    byte_stream: ByteStreamClient<Channel>,
}

impl Clients {
    pub fn new(channel: Channel) -> Self {
        Self {
            capabilities: CapabilitiesClient::new(channel.clone()),
            action_cache: ActionCacheClient::new(channel.clone()),
            cas: ContentAddressableStorageClient::new(channel.clone()).max_decoding_message_size(MAX_MESSAGE_BYTES),
            byte_stream: ByteStreamClient::new(channel).max_decoding_message_size(MAX_MESSAGE_BYTES),
        }
    }
}

/// A call, its data ready to send.
#[derive(Clone)]
pub enum Call {
    Capabilities,
    GetResult(re::Digest, Arc<re::ActionResult>),
    UpdateResult(re::Digest, Arc<re::ActionResult>),
    /// What is asked, and those of it that are not there.
    FindMissing(Arc<Vec<re::Digest>>, Arc<Vec<re::Digest>>),
    BatchRead(Arc<Vec<Blob>>),
    BatchUpdate(Arc<Vec<Blob>>),
    Read(Blob),
    Write(Blob),
}

/// An answer, as it came.
enum Answer {
    Capabilities(Box<re::ServerCapabilities>),
    Result(Box<re::ActionResult>),
    Missing(Vec<re::Digest>),
    Blobs(Vec<re::batch_read_blobs_response::Response>),
    Updates(Vec<re::batch_update_blobs_response::Response>),
    Pieces(Vec<Bytes>),
    Committed(i64),
}

impl Call {
    /// Sends it and looks at the answer as far as costs nothing: no error, the right counts and lengths.
    pub async fn run(self, clients: &mut Clients) -> anyhow::Result<()> {
        let answer = self.send(clients).await?;
        ensure!(self.is_plausible(&answer), "{} got a wrong answer", self.name());
        Ok(())
    }

    /// Sends it and compares all of the answer; what was written is read back and compared.
    pub async fn check(&self, clients: &mut Clients) -> anyhow::Result<()> {
        let answer = self.send(clients).await?;
        ensure!(self.is_plausible(&answer) && self.is_right(&answer), "{} got a wrong answer", self.name());
        let read_back = match self {
            Self::UpdateResult(action, result) => Self::GetResult(action.clone(), result.clone()),
            Self::BatchUpdate(blobs) => Self::BatchRead(blobs.clone()),
            Self::Write(blob) => Self::Read(blob.clone()),
            _ => return Ok(()),
        };
        let answer = read_back.send(clients).await?;
        ensure!(read_back.is_plausible(&answer) && read_back.is_right(&answer), "{} reads back wrong", self.name());
        Ok(())
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Capabilities => "GetCapabilities",
            Self::GetResult(..) => "GetActionResult",
            Self::UpdateResult(..) => "UpdateActionResult",
            Self::FindMissing(..) => "FindMissingBlobs",
            Self::BatchRead(..) => "BatchReadBlobs",
            Self::BatchUpdate(..) => "BatchUpdateBlobs",
            Self::Read(..) => "Read",
            Self::Write(..) => "Write",
        }
    }

    /// Bytes of blobs that it moves.
    pub fn payload_bytes(&self) -> u64 {
        match self {
            Self::BatchRead(blobs) | Self::BatchUpdate(blobs) => blobs.iter().map(|blob| blob.data.len() as u64).sum(),
            Self::Read(blob) | Self::Write(blob) => blob.data.len() as u64,
            _ => 0,
        }
    }

    async fn send(&self, clients: &mut Clients) -> anyhow::Result<Answer> {
        Ok(match self {
            Self::Capabilities => {
                let request = re::GetCapabilitiesRequest::default();
                Answer::Capabilities(Box::new(clients.capabilities.get_capabilities(request).await?.into_inner()))
            }
            Self::GetResult(action, _) => {
                let request = re::GetActionResultRequest { action_digest: Some(action.clone()), ..Default::default() };
                Answer::Result(Box::new(clients.action_cache.get_action_result(request).await?.into_inner()))
            }
            Self::UpdateResult(action, result) => {
                let request = re::UpdateActionResultRequest {
                    action_digest: Some(action.clone()),
                    action_result: Some(re::ActionResult::clone(result)),
                    ..Default::default()
                };
                Answer::Result(Box::new(clients.action_cache.update_action_result(request).await?.into_inner()))
            }
            Self::FindMissing(asked, _) => {
                let request = re::FindMissingBlobsRequest { blob_digests: asked.to_vec(), ..Default::default() };
                Answer::Missing(clients.cas.find_missing_blobs(request).await?.into_inner().missing_blob_digests)
            }
            Self::BatchRead(blobs) => {
                let digests = blobs.iter().map(|blob| blob.digest.clone()).collect();
                let request = re::BatchReadBlobsRequest { digests, ..Default::default() };
                Answer::Blobs(clients.cas.batch_read_blobs(request).await?.into_inner().responses)
            }
            Self::BatchUpdate(blobs) => {
                let request = re::BatchUpdateBlobsRequest {
                    requests: blobs.iter().map(update_request).collect(),
                    ..Default::default()
                };
                Answer::Updates(clients.cas.batch_update_blobs(request).await?.into_inner().responses)
            }
            Self::Read(blob) => Answer::Pieces(read(clients, blob).await?),
            Self::Write(blob) => {
                let messages = futures::stream::iter(write_messages(blob));
                Answer::Committed(clients.byte_stream.write(messages).await?.into_inner().committed_size)
            }
        })
    }

    /// Whether counts and lengths are right.
    fn is_plausible(&self, answer: &Answer) -> bool {
        match (self, answer) {
            (Self::Capabilities, Answer::Capabilities(answer)) => answer.cache_capabilities.is_some(),
            (Self::GetResult(_, result) | Self::UpdateResult(_, result), Answer::Result(answer)) => {
                answer.output_files.len() == result.output_files.len()
            }
            (Self::FindMissing(_, missing), Answer::Missing(answer)) => answer.len() == missing.len(),
            (Self::BatchRead(blobs), Answer::Blobs(answer)) => {
                answer.len() == blobs.len()
                    && answer.iter().zip(blobs.iter()).all(|(answer, blob)| answer.data.len() == blob.data.len())
            }
            (Self::BatchUpdate(blobs), Answer::Updates(answer)) => {
                answer.len() == blobs.len()
                    && answer.iter().all(|answer| answer.status.as_ref().is_none_or(|status| status.code == 0))
            }
            (Self::Read(blob), Answer::Pieces(pieces)) => {
                pieces.iter().map(Bytes::len).sum::<usize>() == blob.data.len()
            }
            (Self::Write(blob), Answer::Committed(size)) => *size == blob.digest.size_bytes,
            _ => false,
        }
    }

    /// Whether the content is right, counts and lengths being so.
    fn is_right(&self, answer: &Answer) -> bool {
        match (self, answer) {
            (Self::GetResult(_, result) | Self::UpdateResult(_, result), Answer::Result(answer)) => {
                answer.output_files == result.output_files
            }
            (Self::FindMissing(_, missing), Answer::Missing(answer)) => {
                let sorted = |digests: &[re::Digest]| {
                    let mut hashes: Vec<String> = digests.iter().map(|digest| digest.hash.clone()).collect();
                    hashes.sort();
                    hashes
                };
                sorted(answer) == sorted(missing)
            }
            (Self::BatchRead(blobs), Answer::Blobs(answer)) => {
                answer.iter().zip(blobs.iter()).all(|(answer, blob)| answer.data == blob.data)
            }
            (Self::Read(blob), Answer::Pieces(pieces)) => pieces.concat() == blob.data,
            _ => true,
        }
    }
}

async fn read(clients: &mut Clients, blob: &Blob) -> anyhow::Result<Vec<Bytes>> {
    let resource_name = format!("blobs/{}/{}", blob.digest.hash, blob.digest.size_bytes);
    let mut stream =
        clients.byte_stream.read(ReadRequest { resource_name, read_offset: 0, read_limit: 0 }).await?.into_inner();
    let mut pieces = Vec::new();
    while let Some(message) = stream.message().await? {
        pieces.push(message.data);
    }
    if pieces.is_empty() {
        bail!("no data");
    }
    Ok(pieces)
}

fn update_request(blob: &Blob) -> re::batch_update_blobs_request::Request {
    re::batch_update_blobs_request::Request {
        digest: Some(blob.digest.clone()),
        data: blob.data.clone(),
        compressor: 0,
    }
}

/// The messages of an upload: the name in the first, the end in the last.
fn write_messages(blob: &Blob) -> impl Iterator<Item = WriteRequest> + Send + 'static {
    let mut name = format!("uploads/{}/blobs/{}/{}", blob.digest.hash, blob.digest.hash, blob.digest.size_bytes);
    let mut left = blob.data.clone();
    let mut write_offset = 0;
    let mut done = false;
    std::iter::from_fn(move || {
        if done {
            return None;
        }
        let data = left.split_to(left.len().min(PIECE_BYTES));
        done = left.is_empty();
        let offset = write_offset;
        write_offset += i64::try_from(data.len()).unwrap_or(i64::MAX);
        Some(WriteRequest { resource_name: std::mem::take(&mut name), write_offset: offset, finish_write: done, data })
    })
}
