use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use cache_types::{Compressor, Digest};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use store::{BlobBody, BlobStore, BodyError, StoreError};
use tonic::{Code, Status};

use crate::proto::bytestream::WriteRequest;
use crate::zstd_stream::Decompressor;
use crate::{ZstdLimits, status};

/// How many bytes come in before it is asked again whether another upload has finished first. Spec: R-073.
const CHECK_EVERY_BYTES: u64 = 8 * 1024 * 1024;

/// What is left of an upload and still read to its end when the blob turns out to be here. Spec: R-073.
pub(super) const SMALL_REST_BYTES: u64 = 1024 * 1024;

/// How long a client may take to close its side after `finish_write`; one that never does is taken to be done.
const CLOSE_GRACE: Duration = Duration::from_secs(1);

/// The messages of one upload, none of which may be long in coming. Spec: R-077.
pub(super) struct Messages {
    stream: BoxStream<'static, Result<WriteRequest, Status>>,
    no_progress: Duration,
}

impl Messages {
    pub(super) fn new(stream: BoxStream<'static, Result<WriteRequest, Status>>, no_progress: Duration) -> Self {
        Self { stream, no_progress }
    }

    pub(super) async fn next(&mut self) -> Result<Option<WriteRequest>, Status> {
        let next = tokio::time::timeout(self.no_progress, self.stream.next()).await;
        let message = next.map_err(|_| status::no_progress(self.no_progress))?;
        message.transpose().map_err(|error| status::broken_stream(&error))
    }

    /// Checks that nothing follows the last message.
    async fn expect_end(&mut self) -> Result<(), Status> {
        match tokio::time::timeout(CLOSE_GRACE, self.stream.next()).await {
            Ok(Some(Ok(_))) => Err(status::invalid("a message follows the one with finish_write")),
            Ok(Some(Err(error))) => Err(status::broken_stream(&error)),
            Ok(None) | Err(_) => Ok(()),
        }
    }
}

/// What became of an upload, as its stream saw it.
#[derive(Default)]
pub(super) struct Outcome {
    /// The bytes received, in the form they came in.
    received: AtomicU64,
    complete: AtomicBool,
    early: AtomicBool,
    refusal: OnceLock<Status>,
}

impl Outcome {
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Whether the upload was read to its end and found in order.
    pub(super) fn is_complete(&self) -> bool {
        self.complete.load(Ordering::Relaxed)
    }

    /// Whether it was stopped because another upload of the blob had finished.
    pub(super) fn is_early(&self) -> bool {
        self.early.load(Ordering::Relaxed)
    }

    /// Why the stream was refused, where it was.
    pub(super) fn refusal(&self) -> Option<Status> {
        self.refusal.get().cloned()
    }
}

/// One upload: checks each message and gives the bytes of the blob. Holds one message and one decoded piece.
pub(super) struct Upload {
    blobs: Arc<dyn BlobStore>,
    messages: Messages,
    first: Option<WriteRequest>,
    name: String,
    digest: Digest,
    decompressor: Option<Box<Decompressor>>,
    /// The bytes of the blob so far.
    produced: u64,
    /// The bytes that came since it was last asked whether the blob is here.
    unchecked: u64,
    finished: bool,
    outcome: Arc<Outcome>,
}

impl Upload {
    /// Takes over a stream whose first message has been read and names this blob.
    pub(super) fn new(
        blobs: Arc<dyn BlobStore>,
        (first, messages): (WriteRequest, Messages),
        digest: Digest,
        compressor: Compressor,
        zstd: ZstdLimits,
    ) -> Result<Self, Status> {
        let decompressor = match compressor {
            Compressor::Identity => None,
            Compressor::Zstd => {
                let decompressor = Decompressor::new(digest.size_bytes(), zstd);
                Some(Box::new(decompressor.map_err(|error| status::bad_zstd(&error))?))
            }
        };
        Ok(Self {
            blobs,
            messages,
            name: first.resource_name.clone(),
            first: Some(first),
            digest,
            decompressor,
            produced: 0,
            unchecked: 0,
            finished: false,
            outcome: Arc::default(),
        })
    }

    /// What becomes of it, known once the body has ended.
    pub(super) fn outcome(&self) -> Arc<Outcome> {
        self.outcome.clone()
    }

    /// The bytes of the blob. The body fails when the client breaks a rule, so that nothing is stored then.
    pub(super) fn into_body(self) -> BlobBody {
        BlobBody::from_stream(stream::try_unfold(self, |mut upload| async move {
            match upload.next_piece().await {
                Ok(piece) => Ok(piece.map(|piece| (piece, upload))),
                Err(status) => Err(upload.refuse(status)),
            }
        }))
    }

    /// Keeps the exact status beside the error that the store passes through.
    fn refuse(&self, status: Status) -> StoreError {
        let error = match status.code() {
            Code::InvalidArgument => BodyError::Invalid(status.message().to_owned()),
            _ => BodyError::Interrupted(Box::new(status.clone())),
        };
        // The first refusal ends the stream, so there is no second.
        self.outcome.refusal.get_or_init(|| status);
        StoreError::Body(error)
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, Status> {
        loop {
            if let Some(piece) = self.decoded()? {
                return Ok(Some(piece));
            }
            if self.finished {
                self.messages.expect_end().await?;
                self.check_whole()?;
                self.outcome.complete.store(true, Ordering::Relaxed);
                return Ok(None);
            }
            self.stop_if_here().await?;
            let message = match self.first.take() {
                Some(first) => first,
                None => self
                    .messages
                    .next()
                    .await?
                    .ok_or_else(|| status::invalid("the stream ended before finish_write"))?,
            };
            if let Some(piece) = self.accept(message)? {
                return Ok(Some(piece));
            }
        }
    }

    fn decoded(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(decompressor) = &mut self.decompressor else {
            return Ok(None);
        };
        let piece = decompressor.next_piece().map_err(|error| status::bad_zstd(&error))?;
        self.produced = decompressor.produced();
        Ok(piece)
    }

    /// Checks a message against those before it; the bytes in it when they are the blob's own. Spec: R-070.
    fn accept(&mut self, message: WriteRequest) -> Result<Option<Bytes>, Status> {
        if !message.resource_name.is_empty() && message.resource_name != self.name {
            return Err(status::invalid("resource_name changed within the stream"));
        }
        let received = self.outcome.received();
        if u64::try_from(message.write_offset) != Ok(received) {
            let offset = message.write_offset;
            return Err(status::invalid(format!("write_offset is {offset} after {received} bytes")));
        }
        let len = message.data.len() as u64;
        self.outcome.received.store(received + len, Ordering::Relaxed);
        self.unchecked += len;
        self.finished = message.finish_write;
        if let Some(decompressor) = &mut self.decompressor {
            decompressor.push(message.data);
            return Ok(None);
        }
        self.produced += len;
        if self.produced > self.digest.size_bytes() {
            return Err(status::invalid(format!("more bytes than {} has", self.digest)));
        }
        Ok((len > 0).then_some(message.data))
    }

    fn check_whole(&self) -> Result<(), Status> {
        if let Some(decompressor) = &self.decompressor {
            decompressor.finish().map_err(|error| status::bad_zstd(&error))?;
        }
        if self.produced != self.digest.size_bytes() {
            return Err(status::invalid(format!("the upload of {} ended after {} bytes", self.digest, self.produced)));
        }
        Ok(())
    }

    /// Ends a long upload as soon as another one of the same blob has finished.
    async fn stop_if_here(&mut self) -> Result<(), Status> {
        let rest = self.digest.size_bytes().saturating_sub(self.produced);
        if self.unchecked < CHECK_EVERY_BYTES || rest <= SMALL_REST_BYTES {
            return Ok(());
        }
        self.unchecked = 0;
        let missing = self.blobs.find_missing(&[self.digest]).await.map_err(status::from_store)?;
        if missing.is_empty() {
            self.outcome.early.store(true, Ordering::Relaxed);
            return Err(Status::aborted("the blob is here already"));
        }
        Ok(())
    }
}
