use std::io;

use axum::body::{Body, HttpBody};
use bytes::{Bytes, BytesMut};
use cache_types::{Digest, DigestFunction, Hash, Hasher};
use futures::{StreamExt, stream};
use http::request::Parts;
use store::{BlobBody, BodyError, StoreError};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::Http;
use super::packed::{self, Coding};
use super::refusal::Refusal;
use super::room::Share;
use crate::core::Core;
use crate::status;

/// What of a body whose digest is not known yet is held in memory; the rest goes through a file without a name.
pub(super) const HELD_BYTES: usize = 256 * 1024;

/// The bytes read from that file at once.
const PIECE_BYTES: usize = 256 * 1024;

/// What a packed body may hold that does not say how long it is. Spec: R-076.
const MAX_UNDECLARED_BYTES: u64 = 64 * 1024 * 1024;

/// A body on its way in, checked as far as the headers tell.
pub(super) struct Incoming {
    /// The length of its bytes, where the client says it.
    pub(super) size_bytes: Option<u64>,
    /// The bytes, none of which may be long in coming. Spec: R-077.
    pub(super) body: BlobBody,
    /// The most bytes that are taken.
    limit_bytes: u64,
}

impl Incoming {
    /// Takes over the body of a request that travels as it is.
    pub(super) fn new(core: &Core, head: &Parts, body: Body) -> Result<Self, Refusal> {
        match Coding::of(&head.headers)? {
            Coding::Identity => Self::plain(core, body),
            Coding::Zstd => Err(Refusal::Encoding),
        }
    }

    /// Takes over the body of a request, packed or not. Spec: H-21.
    pub(super) fn unpacking(core: &Core, head: &Parts, body: Body) -> Result<Self, Refusal> {
        let incoming = Self::plain(core, body)?;
        if Coding::of(&head.headers)? == Coding::Identity {
            return Ok(incoming);
        }
        let size_bytes = packed::declared_size(&head.headers)?;
        check_size(size_bytes.unwrap_or(0), incoming.limit_bytes)?;
        let limit_bytes = incoming.limit_bytes.min(size_bytes.unwrap_or(MAX_UNDECLARED_BYTES));
        // Where no size is declared, the count of what came tells first that there is too much.
        let body =
            packed::unpacked(incoming.body, size_bytes.unwrap_or(limit_bytes.saturating_mul(2)), core.limits().zstd)?;
        Ok(Self { size_bytes, body, limit_bytes })
    }

    fn plain(core: &Core, body: Body) -> Result<Self, Refusal> {
        let size_bytes = body.size_hint().exact();
        let limits = core.limits();
        let limit_bytes = match limits.blob_bytes {
            0 => i64::MAX.unsigned_abs(),
            limit => limit,
        };
        check_size(size_bytes.unwrap_or(0), limit_bytes)?;
        let (uploads, no_progress) = (core.uploads.clone(), limits.no_progress);
        let pieces = stream::try_unfold((body.into_data_stream(), None), move |(mut stream, place)| {
            let uploads = uploads.clone();
            async move {
                let place = match place {
                    Some(place) => place,
                    None => uploads.take(1).await?,
                };
                let next = tokio::time::timeout(no_progress, stream.next()).await;
                let next = next.map_err(|_| interrupted(status::no_progress(no_progress)))?;
                let piece = next.transpose().map_err(interrupted)?;
                Ok(piece.map(|piece| (piece, (stream, Some(place)))))
            }
        });
        Ok(Self { size_bytes, body: BlobBody::from_stream(pieces), limit_bytes })
    }

    /// Takes in the whole of it and finds its hash by each of the functions.
    pub(super) async fn spool(mut self, http: &Http, functions: &[DigestFunction]) -> Result<Spooled, Refusal> {
        // GITSHA1 alone needs the size first: without it, its hash fits nothing.
        let sized = |function: &DigestFunction| Hasher::new(*function, self.size_bytes.unwrap_or(0));
        let mut hashers: Vec<Hasher> = functions.iter().map(sized).collect();
        let mut size_bytes = 0;
        let mut held = BytesMut::new();
        let mut file = None;
        let mut share = http.room.share();
        if let Some(announced) = self.size_bytes.filter(|bytes| *bytes >= HELD_BYTES as u64) {
            share.cover(announced)?;
        }
        while let Some(piece) = self.body.next().await.transpose()? {
            size_bytes += piece.len() as u64;
            check_size(size_bytes, self.limit_bytes)?;
            hashers.iter_mut().for_each(|hasher| hasher.update(&piece));
            held.extend_from_slice(&piece);
            if held.len() >= HELD_BYTES {
                share.cover(size_bytes)?;
                let file = match &mut file {
                    Some(file) => file,
                    none => none.insert(nameless(&http.core).await?),
                };
                file.write_all(&held).await.map_err(failed)?;
                held.clear();
            }
        }
        let hashes = hashers.into_iter().map(Hasher::finish).collect();
        let Some(mut file) = file else {
            return Ok(Spooled { hashes, size_bytes, body: held.freeze().into() });
        };
        share.cover(size_bytes)?;
        file.write_all(&held).await.map_err(failed)?;
        file.rewind().await.map_err(failed)?;
        Ok(Spooled { hashes, size_bytes, body: from_file(file, share) })
    }

    /// Takes in the whole of it and finds its digest by SHA-256.
    pub(super) async fn spool_sha256(self, http: &Http) -> Result<(Digest, BlobBody), Refusal> {
        let spooled = self.spool(http, &[DigestFunction::Sha256]).await?;
        let hash = spooled.hashes.into_iter().next().unwrap_or_else(|| DigestFunction::Sha256.empty_hash());
        Ok((Digest::new(hash, spooled.size_bytes).map_err(|error| status::bad_digest(&error))?, spooled.body))
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
    /// Its hash by each of the functions that were asked for.
    pub(super) hashes: Vec<Hash>,
    pub(super) size_bytes: u64,
    pub(super) body: BlobBody,
}

fn check_size(size_bytes: u64, limit_bytes: u64) -> Result<(), Refusal> {
    if size_bytes > limit_bytes {
        return Err(Refusal::TooLarge(limit_bytes));
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
