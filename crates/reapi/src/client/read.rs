use bytes::Bytes;
use cache_types::{ByteRange, Compressor, Digest, ReadResource};
use futures::StreamExt;
use store::{BlobBody, StoreError};
use tonic::{Code, Status, Streaming};

use super::retry::{Backoff, within};
use super::status::store_error;
use super::zstd::Decoder;
use super::{RemoteStore, batch, presence};
use crate::proto::bytestream::{ReadRequest, ReadResponse};

/// The bytes of `range`; `None` when the server lacks the blob.
pub(super) async fn read(
    remote: &RemoteStore,
    digest: &Digest,
    range: ByteRange,
) -> Result<Option<BlobBody>, StoreError> {
    let span = range.within(digest.size_bytes()).map_err(|source| StoreError::Range { digest: *digest, source })?;
    let result = if span.is_empty() {
        nothing(remote, digest).await
    } else if batch::fits(remote, digest) {
        match batch::read(remote, digest).await {
            // The span lies within the blob, whose length was checked and fits a `usize`.
            Ok(data) => Ok(Some(data.slice(span.start as usize..span.end as usize).into())),
            Err(status) if status.code() == Code::Unimplemented => stream(remote, digest, span).await,
            Err(status) => Err(status),
        }
    } else {
        stream(remote, digest, span).await
    };
    match result {
        Err(status) if status.code() == Code::NotFound => Ok(None),
        result => result.map_err(|status| store_error(status, Some(digest))),
    }
}

/// An empty body, when the blob is there.
async fn nothing(remote: &RemoteStore, digest: &Digest) -> Result<Option<BlobBody>, Status> {
    let missing = presence::find_missing(remote, &[*digest]).await?;
    Ok(missing.is_empty().then(|| Bytes::new().into()))
}

async fn stream(remote: &RemoteStore, digest: &Digest, span: std::ops::Range<u64>) -> Result<Option<BlobBody>, Status> {
    // A compressed read takes no limit: one that ends early goes plain. Spec: R-086.
    let to_the_end = span.end == digest.size_bytes();
    let compressor = if remote.streams_zstd() && to_the_end { Compressor::Zstd } else { Compressor::Identity };
    let backoff = Backoff::new(remote.settings.attempts);
    let mut reading = Reading {
        remote: remote.clone(),
        digest: *digest,
        next: span.start,
        end: span.end,
        compressor,
        backoff,
        pieces: None,
    };
    // A miss shows only now, and it must not become a body.
    let first = reading.next_piece().await?;
    let rest = futures::stream::try_unfold(reading, |mut reading| async move {
        match reading.next_piece().await {
            Ok(piece) => Ok(piece.map(|piece| (piece, reading))),
            Err(status) => Err(lost_midway(status, &reading.digest)),
        }
    });
    Ok(Some(BlobBody::from_stream(futures::stream::iter(first.map(Ok)).chain(rest))))
}

/// After the first byte a blob that went away is no miss any more.
fn lost_midway(status: Status, digest: &Digest) -> StoreError {
    if status.code() == Code::NotFound {
        return store_error(Status::unavailable(format!("{digest} was evicted while it was read")), Some(digest));
    }
    store_error(status, Some(digest))
}

/// A read in progress: it goes on from the byte reached when its stream breaks.
struct Reading {
    remote: RemoteStore,
    digest: Digest,
    next: u64,
    end: u64,
    compressor: Compressor,
    backoff: Backoff,
    pieces: Option<Pieces>,
}

impl Reading {
    /// The next piece, never empty; `None` when all is read.
    async fn next_piece(&mut self) -> Result<Option<Bytes>, Status> {
        while self.next < self.end {
            match self.try_piece().await {
                Ok(piece) => {
                    self.backoff.reset();
                    self.next += piece.len() as u64;
                    if self.next > self.end {
                        return Err(too_long(&self.digest));
                    }
                    if !piece.is_empty() {
                        return Ok(Some(piece));
                    }
                }
                Err(status) => {
                    self.pieces = None;
                    if !self.backoff.wait(&status).await {
                        return Err(status);
                    }
                }
            }
        }
        self.end_stream().await?;
        Ok(None)
    }

    async fn try_piece(&mut self) -> Result<Bytes, Status> {
        if self.pieces.is_none() {
            self.pieces = Some(self.open().await?);
        }
        let limit = self.remote.settings.no_progress;
        let pieces = self.pieces.as_mut().ok_or_else(|| Status::internal("no stream"))?;
        let piece = within(limit, pieces.next()).await?;
        piece.ok_or_else(|| Status::unavailable(format!("the stream ended {} bytes early", self.end - self.next)))
    }

    async fn open(&self) -> Result<Pieces, Status> {
        let resource = ReadResource {
            instance: self.remote.settings.instance.clone(),
            digest: self.digest,
            compressor: self.compressor,
        };
        let to_the_end = self.end == self.digest.size_bytes();
        let limit = if to_the_end { 0 } else { self.end - self.next };
        let out_of_range = |_| Status::out_of_range("past the largest offset of the protocol");
        let request = ReadRequest {
            resource_name: resource.to_string(),
            read_offset: i64::try_from(self.next).map_err(out_of_range)?,
            read_limit: i64::try_from(limit).map_err(out_of_range)?,
        };
        let mut client = self.remote.byte_stream();
        let answer = within(self.remote.settings.no_progress, client.read(request)).await?;
        let decoder = match self.compressor {
            Compressor::Identity => None,
            Compressor::Zstd => Some(Decoder::new().map_err(broken_zstd)?),
        };
        Ok(Pieces { stream: answer.into_inner(), decoder })
    }

    /// Hears the server out after the last byte: more bytes, or word of damage, are errors.
    async fn end_stream(&mut self) -> Result<(), Status> {
        let Some(mut pieces) = self.pieces.take() else {
            return Ok(());
        };
        loop {
            match within(self.remote.settings.no_progress, pieces.next()).await {
                Ok(Some(piece)) if piece.is_empty() => {}
                Ok(Some(_more)) => return Err(too_long(&self.digest)),
                Err(status) if status.code() == Code::DataLoss => return Err(status),
                // All bytes are here: a connection that breaks now takes nothing away.
                Ok(None) | Err(_) => return Ok(()),
            }
        }
    }
}

fn too_long(digest: &Digest) -> Status {
    Status::internal(format!("the server sent more bytes than {digest} has"))
}

fn broken_zstd(error: std::io::Error) -> Status {
    Status::internal(format!("the server sent broken zstd: {error}"))
}

/// One stream of plain pieces.
struct Pieces {
    stream: Streaming<ReadResponse>,
    decoder: Option<Decoder>,
}

impl Pieces {
    async fn next(&mut self) -> Result<Option<Bytes>, Status> {
        let Some(decoder) = &mut self.decoder else {
            return Ok(self.stream.message().await?.map(|message| message.data));
        };
        loop {
            if let Some(piece) = decoder.next_piece().map_err(broken_zstd)? {
                return Ok(Some(piece));
            }
            match self.stream.message().await? {
                Some(message) => decoder.feed(message.data),
                None => return Ok(None),
            }
        }
    }
}
