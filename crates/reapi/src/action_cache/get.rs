use bytes::Bytes;
use cache_types::DigestFunction;
use prost::Message;
use store::RecordKey;
use tonic::Status;

use super::completeness::{self, Completeness};
use super::inline;
use super::known::Known;
use super::stored::{ActionName, Found};
use crate::convert::{self, DigestReader};
use crate::core::Core;
use crate::observer::{Miss, Outcome};
use crate::proto::re;
use crate::request_metadata::Requester;
use crate::validate::Named;
use crate::{status, validate};

/// The result of an action, when all that it stands for is here. Spec.
pub(crate) async fn get(
    core: &Core,
    requester: &Requester,
    request: re::GetActionResultRequest,
) -> Result<Bytes, Status> {
    let instance = convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let action = reader.required(request.action_digest.as_ref(), "action_digest")?;
    let name = ActionName::of(instance, &action);
    let found = match look_up(core, &name, &request).await? {
        Ok(hit) => Ok(hit),
        Err(miss) => far(core, &name, miss).await?.map(|(result, encoded)| Hit::Decoded(Box::new(result), encoded)),
    };
    let outcome = found.as_ref().map_or_else(|miss| Outcome::Miss(*miss), |_| Outcome::Hit);
    core.observer.actions().count(requester.asker(&name.instance), outcome);
    match found {
        Ok(Hit::AsStored(encoded)) => Ok(encoded),
        Ok(Hit::Decoded(result, encoded)) => inline::inline(core, &request, *result, encoded).await,
        Err(_miss) => Err(Status::not_found(format!("no result of action {action} is here"))),
    }
}

/// A result that is complete.
enum Hit {
    /// Nothing has to be put into it.
    AsStored(Bytes),
    Decoded(Box<re::ActionResult>, Bytes),
}

async fn look_up(
    core: &Core,
    name: &ActionName,
    request: &re::GetActionResultRequest,
) -> Result<Result<Hit, Miss>, Status> {
    let key = name.key();
    let Some(record) = core.records.get(&key).await.map_err(status::from_store)? else {
        return Ok(Err(core.observer.absence(&key)));
    };
    let wants_streams = request.inline_stdout || request.inline_stderr;
    if let Some(known) = core.known.get(&key.key, &record)
        && request.inline_output_files.is_empty()
        && !(wants_streams && known.has_streams)
    {
        // The size is in the record, which another size of the action may ask for as well.
        if name.result(record) == Found::OtherAction {
            return Ok(Err(Miss::OtherSize));
        }
        return Ok(match completeness::presence(core, &known.blobs).await? {
            Completeness::Complete => Ok(Hit::AsStored(known.encoded)),
            Completeness::Incomplete | Completeness::Malformed => Err(Miss::Incomplete),
        });
    }
    Ok(judge(core, name, key, record).await?.map(|(result, encoded)| Hit::Decoded(Box::new(result), encoded)))
}

/// The result under a name, decoded and as it is stored, when all that it stands for is here, or why it cannot be given;
/// what is malformed is dropped. A far server is asked when none is near.
pub(crate) async fn find(core: &Core, name: &ActionName) -> Result<Result<(re::ActionResult, Bytes), Miss>, Status> {
    match find_near(core, name).await? {
        Ok(found) => Ok(Ok(found)),
        Err(miss) => far(core, name, miss).await,
    }
}

/// The result from the far server, if there is one and it has it.
async fn far(core: &Core, name: &ActionName, miss: Miss) -> Result<Result<(re::ActionResult, Bytes), Miss>, Status> {
    match &core.upstream {
        Some(upstream) => Ok(upstream.fetch(core, name).await?.ok_or(miss)),
        None => Ok(Err(miss)),
    }
}

async fn find_near(core: &Core, name: &ActionName) -> Result<Result<(re::ActionResult, Bytes), Miss>, Status> {
    let key = name.key();
    let Some(record) = core.records.get(&key).await.map_err(status::from_store)? else {
        return Ok(Err(core.observer.absence(&key)));
    };
    judge(core, name, key, record).await
}

/// Decodes and checks a record, and remembers what it found.
async fn judge(
    core: &Core,
    name: &ActionName,
    key: RecordKey,
    record: Bytes,
) -> Result<Result<(re::ActionResult, Bytes), Miss>, Status> {
    let encoded = match name.result(record.clone()) {
        Found::Result(encoded) => Some(encoded),
        Found::OtherAction => return Ok(Err(Miss::OtherSize)),
        Found::Malformed => None,
    };
    let function = name.hash.function();
    if let Some((named, result, encoded)) = encoded.and_then(|encoded| decode(encoded, function)) {
        match completeness::check(core, named, function).await? {
            (Completeness::Complete, blobs) => {
                let has_streams = result.stdout_digest.is_some() || result.stderr_digest.is_some();
                let known = Known { record, encoded: encoded.clone(), blobs: blobs.into(), has_streams };
                core.known.insert(key.key, known);
                return Ok(Ok((result, encoded)));
            }
            (Completeness::Incomplete, _) => return Ok(Err(Miss::Incomplete)),
            (Completeness::Malformed, _) => {}
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
    Ok(completeness::check(core, named, function).await?.0 == Completeness::Complete)
}

/// An encoded result, when it is one; with what it names.
pub(crate) fn decode(encoded: Bytes, function: DigestFunction) -> Option<(Named, re::ActionResult, Bytes)> {
    let result = re::ActionResult::decode(encoded.clone()).ok()?;
    let named = validate::check(&result, &mut DigestReader::of(function)).ok()?;
    Some((named, result, encoded))
}
