use std::time::{Duration, SystemTime};

use bytes::Bytes;
use cache_types::{ByteRange, Digest};
use prost_types::Timestamp;
use store::{BlobStore, StoreError};
use tonic::{Code, Status};

use super::{RemoteStore, parse, status, wire, wire_function};
use crate::action::{Outcome, OutputFile};
use crate::proto::re;
use crate::proto::re::action_cache_client::ActionCacheClient;

/// Output up to this size travels inside the result; longer output is a blob of its own.
const INLINE_BYTES: usize = 64 * 1024;
/// The most output of one stream that is read back.
const MAX_OUTPUT_BYTES: usize = 256 * 1024 * 1024;

impl RemoteStore {
    /// The result of an action with all of its output; `None` when the server has none, or not all that it names.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`] when the server cannot be asked.
    pub async fn outcome(&self, action: &Digest) -> Result<Option<Outcome>, StoreError> {
        let request = re::GetActionResultRequest {
            instance_name: self.instance(),
            action_digest: Some(wire(action)),
            inline_stdout: true,
            inline_stderr: true,
            digest_function: wire_function(action.function()),
            ..Default::default()
        };
        let answer = self
            .call(|| {
                let (mut client, request) = (self.action_cache(), request.clone());
                async move { client.get_action_result(request).await }
            })
            .await;
        let result = match answer {
            Ok(result) => result,
            Err(status) if status.code() == Code::NotFound => return Ok(None),
            Err(status) => return Err(status::store_error(status, None)),
        };
        let function = action.function();
        let digest = |wire: Option<&re::Digest>| {
            let wire = wire.ok_or_else(|| Status::internal("the server sent an output file without a digest"))?;
            parse(function, wire)
        };
        let files = result.output_files.iter().map(|file| {
            Ok(OutputFile {
                path: file.path.clone(),
                digest: digest(file.digest.as_ref())?,
                executable: file.is_executable,
            })
        });
        let files: Result<Vec<OutputFile>, Status> = files.collect();
        let files = files.map_err(|status| status::store_error(status, None))?;
        let stdout = self.output(action, result.stdout_raw, result.stdout_digest.as_ref()).await?;
        let stderr = self.output(action, result.stderr_raw, result.stderr_digest.as_ref()).await?;
        let (Some(stdout), Some(stderr)) = (stdout, stderr) else {
            return Ok(None);
        };
        let ran = result.execution_metadata.as_ref().and_then(ran);
        Ok(Some(Outcome { files, exit_code: result.exit_code, stdout, stderr, ran }))
    }

    /// Stores the result of an action. The files that it names are to be there already.
    ///
    /// # Errors
    /// Those of [`BlobStore::write`]; [`StoreError::Unavailable`] when the server cannot be asked.
    pub async fn put_outcome(&self, action: &Digest, outcome: &Outcome) -> Result<(), StoreError> {
        let files = outcome.files.iter().map(|file| re::OutputFile {
            path: file.path.clone(),
            digest: Some(wire(&file.digest)),
            is_executable: file.executable,
            ..Default::default()
        });
        let (stdout_raw, stdout_digest) = self.put_output(action, &outcome.stdout).await?;
        let (stderr_raw, stderr_digest) = self.put_output(action, &outcome.stderr).await?;
        let result = re::ActionResult {
            output_files: files.collect(),
            exit_code: outcome.exit_code,
            stdout_raw,
            stdout_digest,
            stderr_raw,
            stderr_digest,
            execution_metadata: Some(metadata(outcome.ran)),
            ..Default::default()
        };
        let request = re::UpdateActionResultRequest {
            instance_name: self.instance(),
            action_digest: Some(wire(action)),
            action_result: Some(result),
            digest_function: wire_function(action.function()),
            ..Default::default()
        };
        self.call(|| {
            let (mut client, request) = (self.action_cache(), request.clone());
            async move { client.update_action_result(request).await }
        })
        .await
        .map(|_stored| ())
        .map_err(|status| status::store_error(status, None))
    }

    async fn output(
        &self,
        action: &Digest,
        raw: Bytes,
        digest: Option<&re::Digest>,
    ) -> Result<Option<Bytes>, StoreError> {
        let Some(digest) = digest.filter(|_| raw.is_empty()) else {
            return Ok(Some(raw));
        };
        let digest = parse(action.function(), digest).map_err(|status| status::store_error(status, None))?;
        match self.read(&digest, ByteRange::ALL).await? {
            Some(body) => body.collect(MAX_OUTPUT_BYTES).await,
            None => Ok(None),
        }
    }

    async fn put_output(&self, action: &Digest, output: &Bytes) -> Result<(Bytes, Option<re::Digest>), StoreError> {
        if output.len() <= INLINE_BYTES {
            return Ok((output.clone(), None));
        }
        let digest = Digest::of(action.function(), output);
        self.write(digest, output.clone().into()).await?;
        Ok((Bytes::new(), Some(wire(&digest))))
    }

    fn action_cache(&self) -> ActionCacheClient<super::Transport> {
        ActionCacheClient::new(self.transport()).max_decoding_message_size(super::MAX_ANSWER_BYTES)
    }
}

fn metadata(ran: Option<(SystemTime, Duration)>) -> re::ExecutedActionMetadata {
    let (start, end) = match ran {
        Some((start, took)) => (Some(Timestamp::from(start)), Some(Timestamp::from(start + took))),
        None => (None, None),
    };
    re::ExecutedActionMetadata {
        worker: "twofold".to_owned(),
        execution_start_timestamp: start,
        execution_completed_timestamp: end,
        ..Default::default()
    }
}

fn ran(metadata: &re::ExecutedActionMetadata) -> Option<(SystemTime, Duration)> {
    let start = SystemTime::try_from(metadata.execution_start_timestamp?).ok()?;
    let end = SystemTime::try_from(metadata.execution_completed_timestamp?).ok()?;
    Some((start, end.duration_since(start).ok()?))
}
