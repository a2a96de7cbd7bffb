use cache_types::{Digest, RangeError};
use store::StoreError;
use tonic::{Code, Status};

/// The name of this level in errors.
pub(super) const LEVEL: &str = "the remote cache";

/// The one table from a server's status to a store's error; NOT_FOUND is a miss and handled before.
pub(super) fn store_error(status: Status, digest: Option<&Digest>) -> StoreError {
    match (status.code(), digest) {
        (Code::InvalidArgument, Some(digest)) => {
            StoreError::Mismatch { expected: *digest, found: status.message().to_owned() }
        }
        (Code::OutOfRange, Some(digest)) => StoreError::Range { digest: *digest, source: RangeError::Offset },
        (Code::ResourceExhausted, digest) => {
            StoreError::Full { needed_bytes: digest.map_or(0, Digest::size_bytes), reason: status.message().to_owned() }
        }
        (Code::DataLoss, Some(digest)) => StoreError::Damaged(*digest),
        (Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled | Code::Unknown, _) => {
            StoreError::Unavailable { level: LEVEL, source: status.into() }
        }
        _ => StoreError::Internal { level: LEVEL, source: status.into() },
    }
}

#[cfg(test)]
mod tests {
    use cache_types::DigestFunction;

    use super::*;

    #[test]
    fn each_code_has_its_error() {
        let digest = Digest::of(DigestFunction::Sha256, b"x");
        let error = |code| store_error(Status::new(code, "why"), Some(&digest));
        assert!(matches!(error(Code::InvalidArgument), StoreError::Mismatch { .. }));
        assert!(matches!(error(Code::OutOfRange), StoreError::Range { .. }));
        assert!(matches!(error(Code::ResourceExhausted), StoreError::Full { needed_bytes: 1, .. }));
        assert!(matches!(error(Code::DataLoss), StoreError::Damaged(_)));
        assert!(matches!(error(Code::Unavailable), StoreError::Unavailable { .. }));
        assert!(matches!(error(Code::PermissionDenied), StoreError::Internal { .. }));
        assert!(matches!(store_error(Status::invalid_argument(""), None), StoreError::Internal { .. }));
    }
}
