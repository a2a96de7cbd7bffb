use bytes::Bytes;
use cache_types::DigestFunction;
use prost::Message;
use tonic::Status;

use super::completeness::{self, Completeness};
use super::inline;
use super::stored::{ActionName, Found};
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::observer::{Miss, Outcome};
use crate::proto::re;
use crate::request_metadata::Requester;
use crate::validate::Named;
use crate::{status, validate};

/// The result of an action, when all that it stands for is here. Spec.
pub(super) async fn get(
    core: &Core,
    requester: &Requester,
    request: re::GetActionResultRequest,
) -> Result<Bytes, Status> {
    let instance = convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let action = reader.required(request.action_digest.as_ref(), "action_digest")?;
    let name = ActionName::of(instance, &action);
    let found = find(core, &name).await?;
    let outcome = found.as_ref().map_or_else(|miss| Outcome::Miss(*miss), |_| Outcome::Hit);
    core.observer.actions().count(requester.asker(&name.instance), outcome);
    let found = found.map_err(|_miss| Status::not_found(format!("no result of action {action} is here")));
    let (result, encoded) = found?;
    inline::inline(core, &request, result, encoded).await
}

/// The result under a name, decoded and as it is stored, when all that it stands for is here, or why it cannot be given;
/// what is malformed is dropped. A far server is asked when none is near.
pub(crate) async fn find(core: &Core, name: &ActionName) -> Result<Result<(re::ActionResult, Bytes), Miss>, Status> {
    match (find_near(core, name).await?, &core.upstream) {
        (Err(miss), Some(upstream)) => Ok(upstream.fetch(core, name).await?.ok_or(miss)),
        (found, _) => Ok(found),
    }
}

async fn find_near(core: &Core, name: &ActionName) -> Result<Result<(re::ActionResult, Bytes), Miss>, Status> {
    let key = name.key();
    let Some(record) = core.records.get(&key).await.map_err(status::from_store)? else {
        return Ok(Err(core.observer.absence(&key)));
    };
    let encoded = match name.result(record) {
        Found::Result(encoded) => Some(encoded),
        Found::OtherAction => return Ok(Err(Miss::OtherSize)),
        Found::Malformed => None,
    };
    let function = name.hash.function();
    if let Some((named, result, encoded)) = encoded.and_then(|encoded| decode(encoded, function)) {
        match completeness::check(core, named, function).await? {
            Completeness::Complete => return Ok(Ok((result, encoded))),
            Completeness::Incomplete => return Ok(Err(Miss::Incomplete)),
            Completeness::Malformed => {}
        }
    }
    tracing::debug!(action = %name.hash, "a malformed result is dropped");
    core.records.remove(&key).await.map_err(status::from_store)?;
    Ok(Err(Miss::Malformed))
}

/// Whether all that an encoded result names is here, its digests read as those of the name's function.
pub(crate) async fn is_complete(core: &Core, name: &ActionName, encoded: &Bytes) -> Result<bool, Status> {
    let function = name.hash.function();
    let Some((named, ..)) = decode(encoded.clone(), function) else {
        return Ok(false);
    };
    Ok(completeness::check(core, named, function).await? == Completeness::Complete)
}

/// An encoded result, when it is one; with what it names.
pub(crate) fn decode(encoded: Bytes, function: DigestFunction) -> Option<(Named, re::ActionResult, Bytes)> {
    let result = re::ActionResult::decode(encoded.clone()).ok()?;
    let named = validate::check(&result, &mut DigestReader::of(function)).ok()?;
    Some((named, result, encoded))
}
