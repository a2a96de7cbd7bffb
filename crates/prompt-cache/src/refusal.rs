use cache_types::Denied;
use http::StatusCode;
use store::StoreError;
use tonic::{Code, Status};

/// Why a call has no answer. The one table from faults to status codes of both protocols.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refusal {
    /// The request is not well formed.
    #[error("{0}")]
    Invalid(String),
    /// Blobs that a result names are not here.
    #[error("store these blobs first: {}", .0.join(", "))]
    MissingBlobs(Vec<String>),
    /// The caller may not.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The store failed.
    #[error("the store failed")]
    Store(#[from] StoreError),
}

impl Refusal {
    pub(crate) fn invalid(why: impl std::fmt::Display) -> Self {
        Self::Invalid(why.to_string())
    }

    fn code(&self) -> (Code, StatusCode) {
        match self {
            Self::Invalid(_) => (Code::InvalidArgument, StatusCode::BAD_REQUEST),
            Self::MissingBlobs(_) => (Code::FailedPrecondition, StatusCode::CONFLICT),
            Self::Denied(Denied::Role { .. }) => (Code::PermissionDenied, StatusCode::FORBIDDEN),
            Self::Denied(_) => (Code::Unauthenticated, StatusCode::UNAUTHORIZED),
            Self::Store(StoreError::Full { .. }) => (Code::ResourceExhausted, StatusCode::INSUFFICIENT_STORAGE),
            Self::Store(StoreError::Unavailable { .. } | StoreError::LeftOut { .. }) => {
                (Code::Unavailable, StatusCode::SERVICE_UNAVAILABLE)
            }
            Self::Store(_) => (Code::Internal, StatusCode::INTERNAL_SERVER_ERROR),
        }
    }

    /// The status code over HTTP.
    pub(crate) fn http(&self) -> StatusCode {
        self.code().1
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        if let Refusal::Store(error) = &refusal {
            tracing::warn!(error = error as &dyn std::error::Error, "the store failed under the prompt cache");
        }
        Self::new(refusal.code().0, refusal.to_string())
    }
}
