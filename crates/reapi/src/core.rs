use std::sync::Arc;

use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use store::{BlobStore, InMemory, RecordStore, StoreError};
use tonic::Status;

use crate::action_cache::KnownResults;
use crate::budget::Budget;
use crate::observer::Observer;
use crate::{Limits, Settings, Upstream, status};

/// What all services share.
pub(crate) struct Core {
    pub(crate) blobs: Arc<dyn BlobStore>,
    pub(crate) records: Arc<dyn RecordStore>,
    pub(crate) settings: Settings,
    pub(crate) observer: Arc<Observer>,
    /// The far server, which `blobs` has behind it then.
    pub(crate) upstream: Option<Arc<Upstream>>,
    pub(crate) known: KnownResults,
    /// The memory for messages.
    pub(crate) messages: Budget,
    /// The places for uploads.
    pub(crate) uploads: Budget,
    /// What this server's store has in memory, where it can say.
    pub(crate) in_memory: Option<Arc<dyn InMemory>>,
}

impl Core {
    pub(crate) fn new(blobs: Arc<dyn BlobStore>, records: Arc<dyn RecordStore>, settings: Settings) -> Self {
        let limits = &settings.limits;
        Self {
            messages: Budget::memory("the memory for messages", limits, |limits| limits.memory.messages_bytes),
            uploads: Budget::uploads(limits),
            blobs,
            records,
            settings,
            observer: Arc::default(),
            upstream: None,
            known: KnownResults::default(),
            in_memory: None,
        }
    }

    /// What peers may use now.
    pub(crate) fn limits(&self) -> Arc<Limits> {
        self.settings.limits.now()
    }

    /// The store of this server alone: whether an upload has bytes to bring is not for a far server to say.
    pub(crate) fn near(&self) -> &Arc<dyn BlobStore> {
        self.upstream.as_ref().map_or(&self.blobs, |upstream| upstream.near_blobs())
    }

    /// Whether the blob is here; keeps it for the lease time if so.
    pub(crate) async fn has(&self, digest: &Digest) -> Result<bool, Status> {
        Ok(self.missing(&[*digest]).await.map_err(status::from_store)?.is_empty())
    }

    /// Which of the blobs cannot be read now. A far server that does not say whether it has a blob counts as one that
    /// lacks it, so this is no answer to who asks what to upload.
    pub(crate) async fn missing(&self, digests: &[Digest]) -> Result<Vec<Digest>, StoreError> {
        match self.blobs.find_missing(digests).await {
            Err(StoreError::Unavailable { .. } | StoreError::LeftOut { .. }) if self.upstream.is_some() => {
                self.near().find_missing(digests).await
            }
            answer => answer,
        }
    }

    /// A whole blob of at most `limit_bytes` in memory; `None` when it is not here, larger, or damaged.
    pub(crate) async fn whole(&self, digest: &Digest, limit_bytes: usize) -> Result<Option<Bytes>, Status> {
        if digest.size_bytes() > limit_bytes as u64 {
            return Ok(None);
        }
        let read = async {
            match self.blobs.read(digest, ByteRange::ALL).await? {
                Some(body) => body.collect(limit_bytes).await,
                None => Ok(None),
            }
        };
        match read.await {
            Ok(bytes) => Ok(bytes),
            // Nothing has been sent yet, so damage is a miss. Spec: R-089.
            Err(StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(status::from_store(error)),
        }
    }

    /// Refuses a blob above the limit. Spec: R-071.
    pub(crate) fn check_size(&self, digest: &Digest) -> Result<(), Status> {
        let limits = self.limits();
        if limits.is_too_large(digest.size_bytes()) {
            let limit = limits.blob_bytes;
            return Err(status::invalid(format!("blob {digest} is over the limit of {limit} bytes")));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
