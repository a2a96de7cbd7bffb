use std::collections::HashSet;

use bytes::{Bytes, BytesMut};
use prost::Message;
use tonic::Status;

use crate::convert::DigestReader;
use crate::core::Core;
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::proto::re;

/// The bytes inlined into one answer at most. Spec: R-121.
const MAX_INLINE_BYTES: usize = 2 * 1024 * 1024;

/// What one inlined field takes beside its bytes: its own tag and length, and the growth of the length around it.
const FIELD_OVERHEAD_BYTES: usize = 16;

/// The field of `stdout_raw`.
const STDOUT_RAW: u32 = 5;

/// The field of `stderr_raw`.
const STDERR_RAW: u32 = 7;

/// Puts what was asked for into the answer, as far as it fits: stdout, stderr, then files. Spec: R-121.
pub(super) async fn inline(
    core: &Core,
    request: &re::GetActionResultRequest,
    mut result: re::ActionResult,
    encoded: Bytes,
) -> Result<Bytes, Status> {
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    reader.required(request.action_digest.as_ref(), "action_digest")?;
    let left = MAX_OUTBOUND_BYTES.saturating_sub(encoded.len() + FIELD_OVERHEAD_BYTES);
    let mut inliner = Inliner { core, reader, room: left.min(MAX_INLINE_BYTES) };
    let stdout = inliner.fetch(result.stdout_digest.as_ref().filter(|_| request.inline_stdout)).await?;
    let stderr = inliner.fetch(result.stderr_digest.as_ref().filter(|_| request.inline_stderr)).await?;
    let wanted: HashSet<&str> = request.inline_output_files.iter().map(String::as_str).collect();
    let mut has_files = false;
    for file in result.output_files.iter_mut().filter(|file| wanted.contains(file.path.as_str())) {
        file.contents = inliner.fetch(file.digest.as_ref()).await?;
        has_files |= !file.contents.is_empty();
    }
    if has_files {
        (result.stdout_raw, result.stderr_raw) = (stdout, stderr);
        return Ok(result.encode_to_vec().into());
    }
    Ok(append(encoded, &stdout, &stderr))
}

/// Adds the two fields to an encoded result, whose other bytes stay as they are. Spec: R-137.
fn append(encoded: Bytes, stdout: &Bytes, stderr: &Bytes) -> Bytes {
    if stdout.is_empty() && stderr.is_empty() {
        return encoded;
    }
    let mut all = BytesMut::from(&encoded[..]);
    for (tag, data) in [(STDOUT_RAW, stdout), (STDERR_RAW, stderr)] {
        if !data.is_empty() {
            prost::encoding::bytes::encode(tag, data, &mut all);
        }
    }
    all.freeze()
}

struct Inliner<'a> {
    core: &'a Core,
    reader: DigestReader,
    /// The bytes that may still be inlined.
    room: usize,
}

impl Inliner<'_> {
    /// The blob when it fits; nothing otherwise, since inlining is a hint.
    async fn fetch(&mut self, digest: Option<&re::Digest>) -> Result<Bytes, Status> {
        let Some(Ok(digest)) = digest.map(|digest| self.reader.read(digest)) else {
            return Ok(Bytes::new());
        };
        let limit = self.room.saturating_sub(FIELD_OVERHEAD_BYTES);
        let data = self.core.whole(&digest, limit).await?.unwrap_or_default();
        if !data.is_empty() {
            self.room = limit.saturating_sub(data.len());
        }
        Ok(data)
    }
}
