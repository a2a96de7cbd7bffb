mod upload;

use std::future::Future;

use bytes::Bytes;
use cache_types::{Compressor, Digest, ReadResource, WriteResource};
use store::{BlobBody, StoreError};
use tonic::{Code, Status};

use super::retry::{Backoff, random, within};
use super::status::store_error;
use super::{RemoteStore, batch};
use crate::proto::bytestream::QueryWriteStatusRequest;
use upload::{Failed, upload};

/// Uploads `body`. What is in memory whole is sent again when the connection breaks; a stream cannot be.
pub(super) async fn write(remote: &RemoteStore, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
    check_size(remote, &digest)?;
    if digest.size_bytes() == 0 || batch::fits(remote, &digest) {
        return write_small(remote, digest, body).await;
    }
    match body.whole().cloned() {
        Some(data) => write_from(remote, digest, || std::future::ready(Ok(data.clone().into()))).await,
        None => write_once(remote, &digest, body).await.map_err(|failed| failed.into_store_error(&digest)),
    }
}

impl RemoteStore {
    /// Uploads a blob whose bytes can be had again: `open` is called once for each attempt.
    ///
    /// # Errors
    /// As [`store::BlobStore::write`], and those of `open`.
    pub async fn write_from<F, Fut>(&self, digest: Digest, open: F) -> Result<(), StoreError>
    where
        F: Fn() -> Fut,
        Fut: Future<Output = Result<BlobBody, StoreError>>,
    {
        check_size(self, &digest)?;
        if digest.size_bytes() == 0 || batch::fits(self, &digest) {
            return write_small(self, digest, open().await?).await;
        }
        write_from(self, digest, open).await
    }
}

fn check_size(remote: &RemoteStore, digest: &Digest) -> Result<(), StoreError> {
    match remote.capabilities.max_blob_bytes {
        Some(max) if digest.size_bytes() > max => Err(StoreError::Full {
            needed_bytes: digest.size_bytes(),
            reason: format!("the server takes blobs of at most {max} bytes"),
        }),
        _ => Ok(()),
    }
}

async fn write_from<F, Fut>(remote: &RemoteStore, digest: Digest, open: F) -> Result<(), StoreError>
where
    F: Fn() -> Fut,
    Fut: Future<Output = Result<BlobBody, StoreError>>,
{
    let mut backoff = Backoff::new(remote.settings.attempts);
    loop {
        match write_once(remote, &digest, open().await?).await {
            Ok(()) => return Ok(()),
            Err(Failed::Body(error)) => return Err(error),
            Err(Failed::Call(status)) if !backoff.wait(&status).await => {
                return Err(store_error(status, Some(&digest)));
            }
            Err(Failed::Call(_retried)) => {}
        }
    }
}

async fn write_small(remote: &RemoteStore, digest: Digest, body: BlobBody) -> Result<(), StoreError> {
    let data = gather(&digest, body).await?;
    if digest.is_empty() {
        return Ok(());
    }
    match batch::update(remote, &digest, &data).await {
        Ok(()) => Ok(()),
        Err(status) if matches!(status.code(), Code::Unimplemented) => {
            write_from(remote, digest, || std::future::ready(Ok(data.clone().into()))).await
        }
        Err(status) if status.code() == Code::AlreadyExists => Ok(()),
        Err(status) => Err(store_error(status, Some(&digest))),
    }
}

/// The whole of a small body, its length checked.
async fn gather(digest: &Digest, body: BlobBody) -> Result<Bytes, StoreError> {
    let size = usize::try_from(digest.size_bytes()).unwrap_or(usize::MAX);
    let found = match body.collect(size).await? {
        Some(data) if data.len() == size => return Ok(data),
        Some(data) => format!("{} bytes", data.len()),
        None => "more bytes".to_owned(),
    };
    Err(StoreError::Mismatch { expected: *digest, found })
}

/// One attempt at a ByteStream upload; a break after the server had it all is a success. Spec: R-081.
async fn write_once(remote: &RemoteStore, digest: &Digest, body: BlobBody) -> Result<(), Failed> {
    let compressor = if remote.streams_zstd() { Compressor::Zstd } else { Compressor::Identity };
    let blob = ReadResource { instance: remote.settings.instance.clone(), digest: *digest, compressor };
    let resource = WriteResource { uuid: uuid().into(), blob };
    match upload(remote, &resource, body).await {
        Err(Failed::Call(status)) if asks_status(&status) && is_complete(remote, &resource).await => Ok(()),
        result => result,
    }
}

/// Whether the server may have the blob all the same.
fn asks_status(status: &Status) -> bool {
    !matches!(
        status.code(),
        Code::InvalidArgument | Code::PermissionDenied | Code::Unauthenticated | Code::ResourceExhausted
    )
}

async fn is_complete(remote: &RemoteStore, resource: &WriteResource) -> bool {
    let mut client = remote.byte_stream();
    let request = QueryWriteStatusRequest { resource_name: resource.to_string() };
    let answer = within(remote.settings.no_progress, client.query_write_status(request)).await;
    answer.is_ok_and(|answer| answer.get_ref().complete)
}

/// A name for one upload, in the form of a version 4 UUID.
fn uuid() -> String {
    let (high, low) = (random(), random());
    format!(
        "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
        high >> 32,
        (high >> 16) & 0xffff,
        high & 0xfff,
        0x8000 | (low >> 48) & 0x3fff,
        low & 0xffff_ffff_ffff
    )
}
