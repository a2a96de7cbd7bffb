//! The one table from faults to gRPC status. Spec: reapi §11.

use std::time::Duration;

use cache_types::{Denied, Digest, DigestError, InstanceNameError, RangeError, ResourceNameError};
use prost::Message;
use store::{BodyError, StoreError};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt, pb};

use crate::chunk_list::ChunkListError;
use crate::convert::Invalid;
use crate::validate::ActionResultError;
use crate::zstd_stream::ZstdError;

/// When to ask again after a passing fault. Spec: R-150.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The most missing blobs named in the details of one status, which travel in a header.
const MAX_NAMED_MISSING: usize = 16;

/// The status of a request that breaks a rule.
pub(crate) fn invalid(message: impl Into<String>) -> Status {
    Status::invalid_argument(message)
}

/// The status of a range that lies outside the blob. Spec: R-085.
pub(crate) fn out_of_range(error: RangeError) -> Status {
    match error {
        RangeError::Offset => Status::out_of_range(error.to_string()),
        RangeError::Limit => Status::invalid_argument(error.to_string()),
    }
}

/// The status of a call whose caller may not make it.
pub(crate) fn denied(denied: Denied) -> Status {
    match denied {
        Denied::NoCredential | Denied::BadCredential(_) => Status::unauthenticated(denied.to_string()),
        Denied::Role { .. } => Status::permission_denied(denied.to_string()),
    }
}

/// The status of a blob that is not here.
pub(crate) fn not_found(digest: &Digest) -> Status {
    Status::not_found(format!("blob {digest} is not here"))
}

/// A status that names missing blobs in its details. Spec: R-151.
pub(crate) fn missing(code: Code, message: &str, digests: &[Digest]) -> Status {
    let mut details = ErrorDetails::new();
    for digest in digests.iter().take(MAX_NAMED_MISSING) {
        details.add_precondition_failure_violation("MISSING", format!("blobs/{digest}"), "not in the CAS");
    }
    Status::with_error_details(code, message, details)
}

/// The status of a client's stream that stood still for too long. Spec: R-077.
pub(crate) fn no_progress(limit: Duration) -> Status {
    Status::deadline_exceeded(format!("no message for {} seconds", limit.as_secs_f32()))
}

/// The status of what comes in too late.
pub(crate) fn stopping() -> Status {
    retriable(Code::Unavailable, "the server is stopping; ask again, or another")
}

/// The status of a peer for whose message there is no memory now.
pub(crate) fn busy(error: &StoreError) -> Status {
    retriable(Code::ResourceExhausted, error.to_string())
}

/// The status of a client's stream that broke. Never CANCELLED or UNKNOWN, which clients retry blindly. Spec.
pub(crate) fn broken_stream(status: &Status) -> Status {
    match status.code() {
        Code::OutOfRange => Status::resource_exhausted(status.message()),
        Code::ResourceExhausted | Code::Unavailable => status.clone(),
        Code::Internal | Code::InvalidArgument => Status::invalid_argument(status.message()),
        _ => retriable(Code::Unavailable, "the client's stream was interrupted"),
    }
}

/// A status that tells the client to ask again. Spec: R-150.
fn retriable(code: Code, message: impl Into<String>) -> Status {
    Status::with_error_details(code, message, ErrorDetails::with_retry_info(Some(RETRY_AFTER)))
}

/// What a store's error is to a client. Logs those that are the server's own.
pub(crate) fn from_store(error: StoreError) -> Status {
    match &error {
        StoreError::Mismatch { .. } => Status::invalid_argument(error.to_string()),
        StoreError::MissingChunk(chunk) => missing(Code::NotFound, &error.to_string(), &[*chunk]),
        StoreError::Range { source, .. } => out_of_range(*source),
        StoreError::Body(BodyError::Invalid(reason)) => Status::invalid_argument(reason.clone()),
        StoreError::Body(BodyError::Interrupted(_)) => retriable(Code::Unavailable, error.to_string()),
        StoreError::Full { .. } => {
            tracing::warn!(error = %error, "no room");
            retriable(Code::ResourceExhausted, error.to_string())
        }
        StoreError::Damaged(_) => {
            tracing::error!(error = %error, "damage was found on the way out");
            Status::data_loss(error.to_string())
        }
        StoreError::Unavailable { source, .. } => {
            tracing::warn!(error = %error, cause = %source, "a level is unavailable");
            retriable(Code::Unavailable, error.to_string())
        }
        // Whoever left it out has logged that once.
        StoreError::LeftOut { .. } => retriable(Code::Unavailable, error.to_string()),
        StoreError::Internal { source, .. } => {
            tracing::error!(error = %error, cause = %source, "a level failed");
            Status::internal(error.to_string())
        }
    }
}

/// A status as an item of a batch carries it.
pub(crate) fn to_item(status: &Status) -> pb::Status {
    // The details hold the whole status where there are any.
    pb::Status::decode(status.details()).ok().filter(|item| item.code != 0).unwrap_or_else(|| pb::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}

impl From<Invalid> for Status {
    fn from(error: Invalid) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The status of a malformed digest.
pub(crate) fn bad_digest(error: &DigestError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status of a malformed instance name. Spec: R-015.
pub(crate) fn bad_instance(error: InstanceNameError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status of a malformed resource name. Spec: R-060.
pub(crate) fn bad_resource(error: &ResourceNameError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status of a compressed stream that cannot be decoded. Spec: R-071.
pub(crate) fn bad_zstd(error: &ZstdError) -> Status {
    match error {
        ZstdError::Context(_) => Status::internal(error.to_string()),
        _ => Status::invalid_argument(error.to_string()),
    }
}

/// The status of a list of chunks that breaks a rule. Spec: R-104.
pub(crate) fn bad_chunk_list(error: &ChunkListError) -> Status {
    Status::invalid_argument(error.to_string())
}

/// The status of an action result that breaks a rule. Spec: R-130.
pub(crate) fn bad_action_result(error: &ActionResultError) -> Status {
    Status::invalid_argument(error.to_string())
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn passing_faults_say_when_to_ask_again() {
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        let full = from_store(StoreError::Full { needed_bytes: 1, reason: "disk".to_owned() });
        let away = from_store(StoreError::Unavailable { level: "far", source: "gone".into() });
        for (status, code) in [(full, Code::ResourceExhausted), (away, Code::Unavailable)] {
            assert_eq!(status.code(), code);
            assert!(status.get_details_retry_info().is_some_and(|info| info.retry_delay.is_some()));
            assert_eq!(to_item(&status).code, i32::from(code));
        }
        let lost = from_store(StoreError::MissingChunk(digest));
        let violations = lost.get_details_precondition_failure().expect("details").violations;
        assert_eq!(violations[0].subject, format!("blobs/{digest}"));
        assert_eq!(from_store(StoreError::Damaged(digest)).code(), Code::DataLoss);
        assert_eq!(to_item(&not_found(&digest)).code, i32::from(Code::NotFound));
    }

    #[test]
    fn a_broken_stream_is_never_cancelled_or_unknown() {
        for code in (0..17).map(Code::from_i32) {
            let mapped = broken_stream(&Status::new(code, "x")).code();
            assert!(!matches!(mapped, Code::Cancelled | Code::Unknown | Code::Ok), "{code:?}");
        }
    }
}
