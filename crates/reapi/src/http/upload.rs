use std::io;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use cache_types::{Digest, DigestFunction, Hasher};
use futures::{StreamExt, stream};
use http::header;
use http::request::Parts;
use store::{BlobBody, BodyError, StoreError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::Http;
use super::refusal::Refusal;
use super::room::Share;
use crate::core::Core;
use crate::status;

/// What of a body whose digest is not known yet is held in memory; the rest goes through a file without a name.
const HELD_BYTES: usize = 1024 * 1024;

/// The bytes read from that file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// A body on its way in, checked as far as the headers tell.
pub(super) struct Incoming {
    /// Its length, where the client says it.
    pub(super) size_bytes: Option<u64>,
    /// The bytes, none of which may be long in coming. Spec: R-077.
    pub(super) body: BlobBody,
}

impl Incoming {
    /// Takes over the body of a request. Spec: H-21.
    pub(super) fn new(core: &Core, head: &Parts, body: Body) -> Result<Self, Refusal> {
        let encoding = head.headers.get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| !encoding.as_bytes().eq_ignore_ascii_case(b"identity")) {
            return Err(Refusal::Encoding);
        }
        let size_bytes = body.size_hint().exact();
        check_size(core, size_bytes.unwrap_or(0))?;
        let state = (body.into_data_stream(), core.settings.no_progress);
        let pieces = stream::try_unfold(state, |(mut stream, limit)| async move {
            let next = tokio::time::timeout(limit, stream.next()).await;
            let next = next.map_err(|_| interrupted(status::no_progress(limit)))?;
            let piece = next.transpose().map_err(interrupted)?;
            Ok(piece.map(|piece| (piece, (stream, limit))))
        });
        Ok(Self { size_bytes, body: BlobBody::from_stream(pieces) })
    }

    /// Takes in the whole of it and finds its digest.
    pub(super) async fn spool(mut self, http: &Http, function: DigestFunction) -> Result<Spooled, Refusal> {
        // GITSHA1 alone needs the size first, and no hash in a URL stands for it.
        let mut hasher = Hasher::new(function, 0);
        let mut size_bytes = 0;
        let mut held = BytesMut::new();
        let mut file = None;
        let mut share = http.room.share();
        while let Some(piece) = self.body.next().await.transpose()? {
            size_bytes += piece.len() as u64;
            check_size(&http.core, size_bytes)?;
            hasher.update(&piece);
            held.extend_from_slice(&piece);
            if held.len() >= HELD_BYTES {
                share.grow(held.len() as u64)?;
                let file = match &mut file {
                    Some(file) => file,
                    none => none.insert(nameless(&http.core).await?),
                };
                file.write_all(&held).await.map_err(failed)?;
                held.clear();
            }
        }
        let digest = Digest::new(hasher.finish(), size_bytes).map_err(|error| status::bad_digest(&error))?;
        let Some(mut file) = file else {
            return Ok(Spooled { digest, body: held.freeze().into() });
        };
        share.grow(held.len() as u64)?;
        file.write_all(&held).await.map_err(failed)?;
        file.rewind().await.map_err(failed)?;
        Ok(Spooled { digest, body: from_file(file, share) })
    }

    /// Reads it to its end and checks that it is this blob, which is here already. Spec: H-08.
    pub(super) async fn verify(mut self, digest: &Digest) -> Result<(), Refusal> {
        let mut hasher = Hasher::new(digest.function(), digest.size_bytes());
        while let Some(piece) = self.body.next().await.transpose()? {
            hasher.update(&piece);
        }
        let found = hasher.finish();
        if found != *digest.hash() {
            return Err(Refusal::Malformed(format!("the bytes are those of {found}, not of {digest}")));
        }
        Ok(())
    }
}

/// A body that was read to its end.
pub(super) struct Spooled {
    pub(super) digest: Digest,
    pub(super) body: BlobBody,
}

fn check_size(core: &Core, size_bytes: u64) -> Result<(), Refusal> {
    if core.settings.is_too_large(size_bytes) {
        return Err(Refusal::TooLarge(core.settings.max_blob_size_bytes));
    }
    Ok(())
}

fn interrupted(cause: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> StoreError {
    StoreError::Body(BodyError::Interrupted(cause.into()))
}

/// What a failure of the file is to the client.
fn failed(error: io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => StoreError::Full {
            needed_bytes: HELD_BYTES as u64,
            reason: "the file system of the folder for uploads is full".to_owned(),
        },
        _ => StoreError::Internal { level: "the folder for uploads", source: error.into() },
    }
}

async fn nameless(core: &Core) -> Result<File, StoreError> {
    let folder = core.settings.uploads.clone();
    let made = tokio::task::spawn_blocking(move || tempfile::tempfile_in(folder)).await;
    let file = made.map_err(|error| failed(io::Error::other(error)))?;
    Ok(File::from_std(file.map_err(failed)?))
}

/// The bytes of the file, whose share of the room lasts as long.
fn from_file(file: File, share: Share) -> BlobBody {
    BlobBody::from_stream(stream::try_unfold((file, share), |(mut file, share)| async move {
        let mut piece = BytesMut::with_capacity(PIECE_BYTES);
        let count = file.read_buf(&mut piece).await.map_err(failed)?;
        let piece: Bytes = piece.freeze();
        Ok((count > 0).then_some((piece, (file, share))))
    }))
}
