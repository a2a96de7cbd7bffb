use std::collections::BTreeMap;

use bytes::Bytes;
use cache_types::Digest;
use reapi::action::{ActionSpec, Outcome};
use reapi::client::RemoteStore;
use serde::{Deserialize, Serialize};
use store::StoreError;

use crate::file_digests::FUNCTION;

/// The most runs that are kept for one command, the newest first.
const MAX_RUNS: usize = 16;

/// Runs of one command that are on record, each with what it read.
///
/// A compiler says what it read only after it ran, so its inputs are found in two steps: the command leads to this list,
/// and the first run whose inputs are the same now leads to a result. Kept as the result of an action of its own.
/// Spec: tokio-benchmark, "How a rustc call becomes an action".
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) runs: Vec<Run>,
}

/// What one run read, and the action that it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    /// Files by mapped path, with their digests.
    pub(crate) files: BTreeMap<String, String>,
    /// Variables with the values that were seen, mapped.
    pub(crate) variables: BTreeMap<String, Option<String>>,
    /// The folders of the machine that are written in the outputs, by name: elsewhere the run is of no use.
    pub(crate) holds: BTreeMap<String, String>,
    /// The action, as [`Digest`] writes itself.
    pub(crate) action: String,
}

impl Manifest {
    /// The list for a command's key; empty when none is known.
    pub(crate) async fn get(server: &RemoteStore, key: &str) -> Result<Self, StoreError> {
        let outcome = server.outcome(&name(key)).await?;
        Ok(outcome.and_then(|outcome| serde_json::from_slice(&outcome.stdout).ok()).unwrap_or_default())
    }

    /// Puts a run first. Two that do so at once leave one of the two.
    pub(crate) async fn add(server: &RemoteStore, key: &str, run: Run) -> Result<(), StoreError> {
        let mut manifest = Self::get(server, key).await?;
        manifest.runs.retain(|known| known.action != run.action);
        manifest.runs.insert(0, run);
        manifest.runs.truncate(MAX_RUNS);
        let stdout = Bytes::from(serde_json::to_vec(&manifest).unwrap_or_default());
        server.put_outcome(&name(key), &Outcome { stdout, ..Outcome::default() }).await
    }
}

/// The action whose result a manifest is.
fn name(key: &str) -> Digest {
    let arguments = vec!["twofold-manifest".to_owned(), key.to_owned()];
    ActionSpec { arguments, ..ActionSpec::default() }.encode(FUNCTION).digest
}
