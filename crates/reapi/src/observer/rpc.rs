/// The methods that are counted each by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names are those of the protocol")]
pub enum Rpc {
    GetCapabilities,
    FindMissingBlobs,
    BatchUpdateBlobs,
    BatchReadBlobs,
    GetTree,
    SplitBlob,
    SpliceBlob,
    GetChunkMapping,
    RegisterChunkMapping,
    Read,
    Write,
    QueryWriteStatus,
    GetActionResult,
    UpdateActionResult,
    HealthCheck,
    HealthWatch,
    /// Any call of the prompt cache.
    Prompt,
    /// Reflection, and what is not served here.
    Other,
}

impl Rpc {
    /// All of them.
    pub const ALL: [Self; 18] = [
        Self::GetCapabilities,
        Self::FindMissingBlobs,
        Self::BatchUpdateBlobs,
        Self::BatchReadBlobs,
        Self::GetTree,
        Self::SplitBlob,
        Self::SpliceBlob,
        Self::GetChunkMapping,
        Self::RegisterChunkMapping,
        Self::Read,
        Self::Write,
        Self::QueryWriteStatus,
        Self::GetActionResult,
        Self::UpdateActionResult,
        Self::HealthCheck,
        Self::HealthWatch,
        Self::Prompt,
        Self::Other,
    ];

    /// So many of them, the first ones, are methods of the services of builds.
    const BUILD: usize = Self::HealthCheck as usize;

    /// The method that a path of HTTP/2 names.
    pub fn of_path(path: &str) -> Self {
        let Some((service, method)) = path.strip_prefix('/').and_then(|path| path.split_once('/')) else {
            return Self::Other;
        };
        match service {
            "grpc.health.v1.Health" => match method {
                "Check" => Self::HealthCheck,
                "Watch" => Self::HealthWatch,
                _ => Self::Other,
            },
            "twofold.prompt.v1.PromptCache" => Self::Prompt,
            "build.bazel.remote.execution.v2.ContentAddressableStorage"
            | "build.bazel.remote.execution.v2.ActionCache"
            | "build.bazel.remote.execution.v2.Capabilities"
            | "google.bytestream.ByteStream" => {
                Self::ALL.into_iter().take(Self::BUILD).find(|rpc| rpc.name() == method).unwrap_or(Self::Other)
            }
            _ => Self::Other,
        }
    }

    /// Its name as a label.
    pub fn name(self) -> &'static str {
        match self {
            Self::GetCapabilities => "GetCapabilities",
            Self::FindMissingBlobs => "FindMissingBlobs",
            Self::BatchUpdateBlobs => "BatchUpdateBlobs",
            Self::BatchReadBlobs => "BatchReadBlobs",
            Self::GetTree => "GetTree",
            Self::SplitBlob => "SplitBlob",
            Self::SpliceBlob => "SpliceBlob",
            Self::GetChunkMapping => "GetChunkMapping",
            Self::RegisterChunkMapping => "RegisterChunkMapping",
            Self::Read => "Read",
            Self::Write => "Write",
            Self::QueryWriteStatus => "QueryWriteStatus",
            Self::GetActionResult => "GetActionResult",
            Self::UpdateActionResult => "UpdateActionResult",
            Self::HealthCheck => "Check",
            Self::HealthWatch => "Watch",
            Self::Prompt => "Prompt",
            Self::Other => "other",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_methods_and_any_other_path_is_other() {
        for (path, rpc) in [
            ("/build.bazel.remote.execution.v2.ActionCache/GetActionResult", Rpc::GetActionResult),
            ("/google.bytestream.ByteStream/Write", Rpc::Write),
            ("/grpc.health.v1.Health/Check", Rpc::HealthCheck),
            ("/build.bazel.remote.execution.v2.Execution/Execute", Rpc::Other),
            ("/google.bytestream.ByteStream/Nothing", Rpc::Other),
            ("/google.bytestream.ByteStream/Prompt", Rpc::Other),
            ("/x.Y/GetActionResult", Rpc::Other),
            ("", Rpc::Other),
        ] {
            assert_eq!(Rpc::of_path(path), rpc, "{path}");
        }
        for (index, rpc) in Rpc::ALL.into_iter().enumerate() {
            assert_eq!(rpc as usize, index);
        }
    }
}
