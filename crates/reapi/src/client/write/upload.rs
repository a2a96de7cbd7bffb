use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use bytes::Bytes;
use cache_types::{Compressor, Digest, WriteResource};
use futures::{Stream, StreamExt};
use store::{BodyError, StoreError};
use tokio::sync::mpsc;
use tonic::Status;

use crate::client::RemoteStore;
use crate::client::retry::no_progress;
use crate::client::status::store_error;
use crate::client::zstd::Encoder;
use crate::proto::bytestream::{WriteRequest, WriteResponse};
use store::BlobBody;

/// The most data in one message; servers read up to 4 MiB.
const MESSAGE_BYTES: usize = 512 * 1024;

/// Why one upload failed.
pub(super) enum Failed {
    /// The body did; sending again does not help.
    Body(StoreError),
    /// The call did.
    Call(Status),
}

impl Failed {
    pub(super) fn into_store_error(self, digest: &Digest) -> StoreError {
        match self {
            Self::Body(error) => error,
            Self::Call(status) => store_error(status, Some(digest)),
        }
    }
}

/// Sends `body` under `resource`, until the server has it or says that it had it before.
pub(super) async fn upload(remote: &RemoteStore, resource: &WriteResource, body: BlobBody) -> Result<(), Failed> {
    let progress = Arc::new(Progress::default());
    let (failed, mut failures) = mpsc::channel(1);
    let encoder = match resource.blob.compressor {
        Compressor::Identity => None,
        Compressor::Zstd => Some(Encoder::new().map_err(|error| Failed::Call(Status::from_error(error.into())))?),
    };
    let sending = Sending {
        resource_name: resource.to_string(),
        digest: resource.blob.digest,
        body,
        encoder,
        ready: Bytes::new(),
        plain_bytes: 0,
        state: State::Open,
        progress: progress.clone(),
        failed,
    };
    let mut client = remote.byte_stream();
    let call = client.write(sending.into_messages());
    tokio::pin!(call);
    let limit = remote.settings.no_progress;
    let mut seen = 0;
    loop {
        tokio::select! {
            biased;
            Some(error) = failures.recv() => return Err(Failed::Body(error)),
            answer = &mut call => {
                return match answer {
                    Ok(answer) => check_committed(resource, answer.get_ref(), &progress),
                    Err(status) if status.code() == tonic::Code::AlreadyExists => Ok(()),
                    Err(status) => Err(Failed::Call(status)),
                };
            }
            () = tokio::time::sleep(limit) => {
                let moved = progress.messages.load(Ordering::Relaxed);
                if moved == seen && !progress.waits_for_body.load(Ordering::Relaxed) {
                    return Err(Failed::Call(no_progress(limit)));
                }
                seen = moved;
            }
        }
    }
}

/// What an upload has done so far, as seen from outside its stream.
#[derive(Default)]
struct Progress {
    messages: AtomicU64,
    sent_bytes: AtomicI64,
    /// The next message waits for the body: the server is not to blame.
    waits_for_body: AtomicBool,
}

/// The committed size must tell of the whole blob; for a compressed upload three forms are about. Spec: R-072.
fn check_committed(resource: &WriteResource, answer: &WriteResponse, progress: &Progress) -> Result<(), Failed> {
    let size = resource.blob.digest.size_i64();
    let committed = answer.committed_size;
    let fits = match resource.blob.compressor {
        Compressor::Identity => committed == size,
        Compressor::Zstd => [-1, size, progress.sent_bytes.load(Ordering::Relaxed)].contains(&committed),
    };
    if fits {
        return Ok(());
    }
    let text = format!("the server says it has {committed} bytes of {}", resource.blob.digest);
    Err(Failed::Call(Status::unavailable(text)))
}

enum State {
    Open,
    /// The body has ended; what is ready is the last message.
    Ending,
    Done,
}

/// The client's side of one Write stream.
struct Sending {
    /// Sent with the first message, empty afterwards.
    resource_name: String,
    digest: Digest,
    body: BlobBody,
    encoder: Option<Encoder>,
    /// Bytes as they go on the wire.
    ready: Bytes,
    plain_bytes: u64,
    state: State,
    progress: Arc<Progress>,
    failed: mpsc::Sender<StoreError>,
}

impl Sending {
    fn into_messages(self) -> impl Stream<Item = WriteRequest> + Send + 'static {
        futures::stream::unfold(self, |mut sending| async move {
            match sending.next_message().await {
                Ok(message) => message.map(|message| (message, sending)),
                Err(error) => {
                    // The receiver drops the call, and this stream with it. The channel holds one error; there is one.
                    let _sent = sending.failed.try_send(error).is_ok();
                    std::future::pending().await
                }
            }
        })
    }

    async fn next_message(&mut self) -> Result<Option<WriteRequest>, StoreError> {
        while self.ready.is_empty() && matches!(self.state, State::Open) {
            self.progress.waits_for_body.store(true, Ordering::Relaxed);
            let piece = self.body.next().await.transpose();
            self.progress.waits_for_body.store(false, Ordering::Relaxed);
            match piece? {
                Some(piece) => self.take(piece)?,
                None => self.end()?,
            }
        }
        if matches!(self.state, State::Done) {
            return Ok(None);
        }
        let data = self.ready.split_to(self.ready.len().min(MESSAGE_BYTES));
        let finish_write = matches!(self.state, State::Ending) && self.ready.is_empty();
        if finish_write {
            self.state = State::Done;
        }
        self.progress.messages.fetch_add(1, Ordering::Relaxed);
        let len = i64::try_from(data.len()).unwrap_or(i64::MAX);
        let write_offset = self.progress.sent_bytes.fetch_add(len, Ordering::Relaxed);
        Ok(Some(WriteRequest {
            resource_name: std::mem::take(&mut self.resource_name),
            write_offset,
            finish_write,
            data,
        }))
    }

    fn take(&mut self, piece: Bytes) -> Result<(), StoreError> {
        self.plain_bytes += piece.len() as u64;
        if self.plain_bytes > self.digest.size_bytes() {
            return Err(StoreError::Mismatch { expected: self.digest, found: "more bytes".to_owned() });
        }
        self.ready = match &mut self.encoder {
            None => piece,
            Some(encoder) => encoder.push(&piece).map_err(compression_failed)?,
        };
        Ok(())
    }

    fn end(&mut self) -> Result<(), StoreError> {
        if self.plain_bytes < self.digest.size_bytes() {
            let found = format!("{} bytes", self.plain_bytes);
            return Err(StoreError::Mismatch { expected: self.digest, found });
        }
        if let Some(encoder) = &mut self.encoder {
            self.ready = encoder.finish().map_err(compression_failed)?;
        }
        self.state = State::Ending;
        Ok(())
    }
}

fn compression_failed(error: std::io::Error) -> StoreError {
    StoreError::Body(BodyError::Interrupted(error.into()))
}
