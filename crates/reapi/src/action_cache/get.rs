use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::completeness::{self, Completeness};
use super::{inline, key};
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::proto::re;
use crate::{status, validate};

/// The result of an action, when all that it stands for is here. Spec.
pub(super) async fn get(core: &Core, request: re::GetActionResultRequest) -> Result<Bytes, Status> {
    let instance = convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let action = reader.required(request.action_digest.as_ref(), "action_digest")?;
    let absent = || Status::not_found(format!("no result of action {action} is here"));
    let key = key(&instance, &action);
    let encoded = core.records.get(&key).await.map_err(status::from_store)?.ok_or_else(absent)?;

    let decoded = re::ActionResult::decode(encoded.clone()).ok();
    let named = decoded.and_then(|result| Some((validate::check(&result, &mut reader).ok()?, result)));
    let (completeness, result) = match named {
        Some((named, result)) => (completeness::check(core, named, action.function()).await?, result),
        None => (Completeness::Malformed, re::ActionResult::default()),
    };
    match completeness {
        Completeness::Complete => inline::inline(core, &request, result, encoded).await,
        Completeness::Incomplete => Err(absent()),
        Completeness::Malformed => {
            tracing::debug!(%action, "a malformed result is dropped");
            core.records.remove(&key).await.map_err(status::from_store)?;
            Err(absent())
        }
    }
}
