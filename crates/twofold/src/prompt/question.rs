use std::path::{Path, PathBuf};

use prompt_cache::proto::LookupRequest;

use super::state;
use super::wire::InvocationArgs;
use crate::remote::RemoteArgs;

/// What is asked of a cache: an invocation, as a call or as a task, and how sure a result has to be.
#[derive(clap::Args)]
pub struct QuestionArgs {
    #[command(flatten)]
    invocation: InvocationArgs,

    /// Ask for the task, the first user turn in its repository, rather than for the call
    #[arg(long, requires = "repo")]
    task: bool,

    /// Evidence that a hit needs: any, built, tested, signed [default: built for a task, any for a call]
    #[arg(long, value_name = "POLICY", default_value = "", hide_default_value = true)]
    policy: String,

    /// Folder whose files the result has to fit
    #[arg(long, value_name = "DIR")]
    pub tree: Option<PathBuf>,

    #[command(flatten)]
    pub remote: RemoteArgs,
}

impl QuestionArgs {
    /// The question of the wire.
    pub fn request(&self) -> anyhow::Result<LookupRequest> {
        Ok(LookupRequest {
            invocation: Some(self.invocation.read()?),
            task: self.task,
            policy: self.policy.clone(),
            ..LookupRequest::default()
        })
    }

    /// Adds what a folder says of the places that the answer depends on; whether there is something to ask again.
    pub fn add_states(
        &self,
        request: &mut LookupRequest,
        folder: Option<&Path>,
        needs: &[String],
    ) -> anyhow::Result<bool> {
        let (Some(folder), false) = (folder, needs.is_empty()) else { return Ok(false) };
        request.tree = state::of(folder, needs, self.remote.digest_function())?;
        Ok(true)
    }
}
