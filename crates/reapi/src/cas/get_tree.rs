use std::sync::Arc;

use futures::{Stream, stream};
use prost::Message;
use tonic::Status;

use super::page_token;
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::directories::{Directory, Visit, Walk};
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::proto::re;
use crate::status;
use crate::wire::GetTreeResponse;

/// What a message takes beside its directories: the page token and tags.
const MESSAGE_OVERHEAD_BYTES: usize = 1024;

/// The directories of one message at most, so that the first of a large tree are sent soon.
const MAX_PER_MESSAGE: usize = 1000;

/// The tree below a root, breadth first, the root first, each distinct directory once. Spec.
pub(super) async fn get_tree(
    core: Arc<Core>,
    request: re::GetTreeRequest,
) -> Result<impl Stream<Item = Result<GetTreeResponse, Status>> + Send, Status> {
    convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let root = reader.required(request.root_digest.as_ref(), "root_digest")?;
    // Each message is a page; the stream is the page that the token names and all that follow it.
    let page_size = match usize::try_from(request.page_size) {
        Ok(0) => MAX_PER_MESSAGE,
        Ok(page_size) => page_size.min(MAX_PER_MESSAGE),
        Err(_) => return Err(status::invalid("page_size is negative")),
    };
    let skip = match request.page_token.as_str() {
        "" => 0,
        token => page_token::read(&root, token).ok_or_else(|| status::invalid("page_token is none of this tree"))?,
    };
    let mut walk = Walk::new(root);
    let first = match walk.next(&core).await? {
        Some(Visit::Directory(directory)) if re::Directory::decode(directory.encoded.clone()).is_ok() => directory,
        Some(Visit::Directory(_) | Visit::Broken) => return Err(status::invalid(format!("{root} is not a Directory"))),
        Some(Visit::Missing) | None => return Err(status::not_found(&root)),
    };
    let mut pages = Pages { core, root, walk, next: Some(first), sent: 0, page_size };
    for _ in 0..skip {
        // A token tells nobody to wait for more than the tree has.
        pages.advance().await?.ok_or_else(|| status::invalid("page_token is past the end of this tree"))?;
    }
    Ok(stream::try_unfold(Some(pages), |pages| async {
        let Some(mut pages) = pages else { return Ok(None) };
        let response = pages.message().await?;
        let more = !response.next_page_token.is_empty();
        Ok(Some((response, more.then_some(pages))))
    }))
}

/// A walk on its way out.
struct Pages {
    core: Arc<Core>,
    root: cache_types::Digest,
    walk: Walk,
    next: Option<Directory>,
    /// The directories given out since the start of the walk.
    sent: usize,
    /// The directories of one message at most.
    page_size: usize,
}

impl Pages {
    /// The directory at hand, and the next one that is here after it: what is missing or broken is left out.
    async fn advance(&mut self) -> Result<Option<Directory>, Status> {
        let Some(directory) = self.next.take() else {
            return Ok(None);
        };
        self.sent += 1;
        while let Some(visit) = self.walk.next(&self.core).await? {
            if let Visit::Directory(next) = visit {
                self.next = Some(next);
                break;
            }
        }
        Ok(Some(directory))
    }

    async fn message(&mut self) -> Result<GetTreeResponse, Status> {
        let mut response = GetTreeResponse::default();
        let mut files = Vec::new();
        let mut room = MAX_OUTBOUND_BYTES - MESSAGE_OVERHEAD_BYTES;
        while let Some(next) = &self.next {
            let len = next.encoded.len() + 6;
            if len > room || response.directories.len() == self.page_size {
                break;
            }
            room -= len;
            if let Some(directory) = self.advance().await? {
                files.extend(directory.files);
                response.directories.push(directory.encoded);
            }
        }
        // The files live longer by this call; which of them are missing is not asked here. Spec: R-100.
        self.core.missing(&files).await.map_err(status::from_store)?;
        if self.next.is_some() {
            response.next_page_token = page_token::make(&self.root, self.sent);
        }
        Ok(response)
    }
}

#[cfg(test)]
mod tests;
