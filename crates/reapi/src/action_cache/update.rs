use bytes::{Bytes, BytesMut};
use cache_types::{Digest, DigestFunction};
use prost::Message;
use store::Provenance;
use tonic::{Code, Status};

use super::{ActionName, completeness};
use crate::convert::{self, DigestReader, Invalid};
use crate::core::Core;
use crate::limits::MAX_OUTBOUND_BYTES;
use crate::proto::re;
use crate::wire::UpdateActionResultRequest;
use crate::{status, validate, wire};

/// The worker of results that name none. Spec: R-122.
const WORKER: &str = "remote-cache";

/// The field of `execution_metadata`.
const EXECUTION_METADATA: u32 = 9;

/// The largest action that is looked into, in bytes.
const MAX_ACTION_BYTES: usize = 1024 * 1024;

/// Stores the result of an action; gives it as stored. Spec.
pub(crate) async fn update(core: &Core, request: UpdateActionResultRequest, writer: &str) -> Result<Bytes, Status> {
    let instance = convert::instance(&request.instance_name)?;
    let mut reader = DigestReader::new(&core.settings, request.digest_function)?;
    let action = reader.required(request.action_digest.as_ref(), "action_digest")?;
    check_priority(core, request.results_cache_policy.as_ref())?;
    let sent = request.action_result.ok_or(Invalid::Absent("action_result"))?;
    put(core, &ActionName::of(instance, &action), sent, writer).await
}

/// Stores an encoded result under a name whose parts were checked, and who wrote it; gives it as stored.
pub(crate) async fn put(core: &Core, name: &ActionName, sent: Bytes, writer: &str) -> Result<Bytes, Status> {
    if sent.len() >= MAX_OUTBOUND_BYTES {
        return Err(status::invalid("an action result is below 4 MiB"));
    }
    wire::check_entries(&sent)?;
    let function = name.hash.function();
    let mut reader = DigestReader::of(function);
    let decoded = re::ActionResult::decode(sent.clone()).map_err(validate::ActionResultError::Malformed);
    let mut result = decoded.map_err(|error| status::bad_action_result(&error))?;
    validate::check(&result, &mut reader).map_err(|error| status::bad_action_result(&error))?;
    if core.settings.require_action_in_cas {
        check_action(core, name).await?;
    }

    let moved = move_inlined(core, &mut result, function).await?;
    let stored = encode(result.clone(), sent, moved);
    if stored.len() >= MAX_OUTBOUND_BYTES {
        return Err(status::invalid("an action result is below 4 MiB"));
    }
    // What it names is asked for first, so that no blob of it goes before the record. What is not here is no fault:
    // each read of the record checks. Spec: R-132.
    let named = validate::check(&result, &mut reader).map_err(|error| status::bad_action_result(&error))?;
    completeness::check(core, named, function).await?;
    core.records.put(name.key(), name.record(&stored, &Provenance::now(writer))).await.map_err(status::from_store)?;
    if let Some(upstream) = &core.upstream {
        upstream.pass_on(name).await.map_err(status::from_store)?;
    }
    Ok(stored)
}

/// Drops the result of an action, if there is one.
pub(crate) async fn remove(core: &Core, name: &ActionName) -> Result<(), Status> {
    // A question is cheaper than a write that changes nothing.
    let key = name.key();
    if core.records.get(&key).await.map_err(status::from_store)?.is_none() {
        return Ok(());
    }
    core.records.remove(&key).await.map_err(status::from_store)
}

/// Refuses a priority that is not advertised. Spec: R-136.
fn check_priority(core: &Core, policy: Option<&re::ResultsCachePolicy>) -> Result<(), Status> {
    let priority = policy.map_or(0, |policy| policy.priority);
    let range = &core.settings.priorities;
    if priority == 0 || range.contains(&priority) {
        return Ok(());
    }
    Err(status::invalid(format!("priority {priority} is not in {} to {}", range.start(), range.end())))
}

/// Refuses a result whose action or command is not in the CAS. Spec: R-131.
async fn check_action(core: &Core, name: &ActionName) -> Result<(), Status> {
    let action = name.size_bytes.and_then(|size_bytes| Digest::new(name.hash, size_bytes).ok());
    let action = &action.ok_or_else(|| Status::failed_precondition("the action is not in the CAS"))?;
    let absent = |what: &str, digest: &Digest| status::missing(Code::FailedPrecondition, what, &[*digest]);
    let encoded = core.whole(action, MAX_ACTION_BYTES).await?;
    let encoded = encoded.ok_or_else(|| absent("the action is not in the CAS", action))?;
    let decoded = re::Action::decode(encoded).ok().and_then(|action| action.command_digest);
    let command = decoded.ok_or_else(|| Status::failed_precondition(format!("{action} is not an Action")))?;
    let command = DigestReader::of(action.function()).required(Some(&command), "command_digest")?;
    if core.has(&command).await? {
        return Ok(());
    }
    Err(absent("the command is not in the CAS", &command))
}

/// Moves inlined bytes into the CAS; whether there were any. Spec: R-133.
async fn move_inlined(core: &Core, result: &mut re::ActionResult, function: DigestFunction) -> Result<bool, Status> {
    let streams =
        [(&mut result.stdout_raw, &mut result.stdout_digest), (&mut result.stderr_raw, &mut result.stderr_digest)];
    let files = result.output_files.iter_mut().map(|file| (&mut file.contents, &mut file.digest));
    let mut moved = false;
    for (raw, digest) in streams.into_iter().chain(files).filter(|(raw, _)| !raw.is_empty()) {
        let data = std::mem::take(raw);
        let found = Digest::of(function, &data);
        let wire = convert::to_wire(&found);
        if digest.as_ref().is_some_and(|given| *given != wire) {
            return Err(status::invalid(format!("inlined bytes of {found} do not fit the digest beside them")));
        }
        core.check_size(&found)?;
        core.blobs.write(found, data.into()).await.map_err(status::from_store)?;
        *digest = Some(wire);
        moved = true;
    }
    Ok(moved)
}

/// The bytes to store: those sent wherever nothing had to be taken out, so that unknown fields stay. Spec.
fn encode(mut result: re::ActionResult, sent: Bytes, moved: bool) -> Bytes {
    let filled = result.execution_metadata.is_none();
    let metadata = result
        .execution_metadata
        .get_or_insert_with(|| re::ExecutedActionMetadata { worker: WORKER.to_owned(), ..Default::default() });
    if !moved {
        // A copy: the bytes sent would keep the whole request in memory.
        let mut stored = BytesMut::from(&sent[..]);
        if filled {
            prost::encoding::message::encode(EXECUTION_METADATA, metadata, &mut stored);
        }
        return stored.freeze();
    }
    result.encode_to_vec().into()
}
