//! Results under `mask-paths@1`: kept with placeholders, given back with the caller's own paths. Spec: prompt-key §4.

use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use prompt_key::{Json, Masks, Rule, json};
use store::StoreError;

use crate::asked::Asked;
use crate::cache::Inner;
use crate::conditions::reason;
use crate::proto::{Reason, Result as PromptResult};
use crate::record::MAX_RESPONSE_BYTES;
use crate::refusal::Refusal;

/// Written files that are searched for paths, each and all together.
const MAX_SEARCHED_BYTES: u64 = 64 * 1024 * 1024;

/// Whether what is recorded holds placeholders for paths.
pub(crate) fn are_masked(asked: &Asked) -> bool {
    asked.profile.rules().contains(&Rule::MaskPaths)
}

/// The response with placeholders, as canonical JSON, or why it cannot be kept so.
fn masked(masks: &Masks, response: &[u8]) -> Result<(Bytes, Vec<String>), String> {
    let whole = json::parse(response).map_err(|error| format!("the response is no strict JSON: {error}"))?;
    let masked = masks.mask_all(&whole).ok_or_else(|| {
        format!("{}: the response holds a path that is not a word of its own, or a placeholder", Rule::MaskPaths)
    })?;
    let names = masks.names_in(&masked).into_iter().map(str::to_owned).collect();
    Ok((masked.canonical().into(), names))
}

impl Inner {
    /// What is kept of a response and of which paths it holds the placeholders; or why it is not kept.
    pub(crate) async fn without_paths(
        &self,
        masks: &Masks,
        response: &[u8],
        result: &PromptResult,
    ) -> Result<Result<(Bytes, Vec<String>), String>, Refusal> {
        // These are handed back by their digests, as they are.
        if !result.raw_sse.is_empty()
            || result.calls.iter().any(|call| !call.input.is_empty() || !call.result.is_empty())
        {
            return Ok(Err(format!("{}: a raw stream and the texts of tool calls are not kept", Rule::MaskPaths)));
        }
        let mut room = MAX_SEARCHED_BYTES;
        for op in &result.changes {
            let is_path = masks.is_in(&op.source);
            let is_inside = match op.after.parse::<Digest>() {
                Ok(digest) if digest.size_bytes() <= room => {
                    room -= digest.size_bytes();
                    self.says_path(masks, &digest).await?
                }
                Ok(_) => true,
                Err(_) => false,
            };
            if is_path || is_inside {
                return Ok(Err(format!("{}: {} may hold a path of this machine", Rule::MaskPaths, op.path)));
            }
        }
        Ok(masked(masks, response))
    }

    async fn says_path(&self, masks: &Masks, digest: &Digest) -> Result<bool, StoreError> {
        let most = usize::try_from(MAX_SEARCHED_BYTES).unwrap_or(usize::MAX);
        // A blob that is not here is found missing later.
        let Some(body) = self.blobs.read(digest, ByteRange::ALL).await? else { return Ok(false) };
        let bytes = body.collect(most).await?.unwrap_or_default();
        Ok(masks.is_in(&String::from_utf8_lossy(&bytes)))
    }

    /// The response with the caller's paths; empty where the blob is the response. Or why it cannot be given back.
    pub(crate) async fn with_paths(
        &self,
        asked: &Asked,
        placeholders: &[String],
        result: &PromptResult,
    ) -> Result<Result<Bytes, Reason>, Refusal> {
        if !are_masked(asked) {
            return Ok(Ok(Bytes::new()));
        }
        let masks = &asked.options.masks;
        if let Some(name) = placeholders.iter().find(|name| masks.names().all(|known| known != name.as_str())) {
            return Ok(Err(reason("paths", format!("the response needs the path of {name}: give its mask"))));
        }
        let Some(stored) = self.stored(result).await? else {
            return Ok(Err(reason("blobs_gone", "the response is gone")));
        };
        match masks.unmask_all(&stored) {
            Some(whole) => Ok(Ok(whole.canonical().into())),
            None => Ok(Err(reason("paths", "the response holds a path of this machine that was not put there"))),
        }
    }

    async fn stored(&self, result: &PromptResult) -> Result<Option<Json>, Refusal> {
        let Ok(digest) = result.response.parse::<Digest>() else { return Ok(None) };
        match self.blobs.read(&digest, ByteRange::ALL).await {
            Ok(Some(body)) => {
                let bytes = body.collect(MAX_RESPONSE_BYTES).await?;
                Ok(bytes.and_then(|bytes| json::parse(&bytes).ok()))
            }
            Ok(None) | Err(StoreError::Damaged(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
