use bytes::Bytes;
use cache_types::DigestFunction;
use prost::Message;
use tonic::Status;

use super::completeness::{self, Completeness};
use super::inline;
use super::stored::{ActionName, Found};
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::proto::re;
use crate::validate::Named;
use crate::{status, validate};

/// The result of an action, when all that it stands for is here. Spec.
pub(super) async fn get(core: &Core, request: re::GetActionResultRequest) -> Result<Bytes, Status> {
    let instance = convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let action = reader.required(request.action_digest.as_ref(), "action_digest")?;
    let found = find(core, &ActionName::of(instance, &action)).await?;
    let (result, encoded) = found.ok_or_else(|| Status::not_found(format!("no result of action {action} is here")))?;
    inline::inline(core, &request, result, encoded).await
}

/// The result under a name, decoded and as it is stored, when all that it stands for is here; what is malformed is
/// dropped.
pub(crate) async fn find(core: &Core, name: &ActionName) -> Result<Option<(re::ActionResult, Bytes)>, Status> {
    let key = name.key();
    let Some(record) = core.records.get(&key).await.map_err(status::from_store)? else {
        return Ok(None);
    };
    let encoded = match name.result(record) {
        Found::Result(encoded) => Some(encoded),
        Found::OtherAction => return Ok(None),
        Found::Malformed => None,
    };
    let function = name.hash.function();
    if let Some((named, result, encoded)) = encoded.and_then(|encoded| decode(encoded, function)) {
        match completeness::check(core, named, function).await? {
            Completeness::Complete => return Ok(Some((result, encoded))),
            Completeness::Incomplete => return Ok(None),
            Completeness::Malformed => {}
        }
    }
    tracing::debug!(action = %name.hash, "a malformed result is dropped");
    core.records.remove(&key).await.map_err(status::from_store)?;
    Ok(None)
}

fn decode(encoded: Bytes, function: DigestFunction) -> Option<(Named, re::ActionResult, Bytes)> {
    let result = re::ActionResult::decode(encoded.clone()).ok()?;
    let named = validate::check(&result, &mut DigestReader::of(function)).ok()?;
    Some((named, result, encoded))
}
