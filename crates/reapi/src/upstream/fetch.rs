use bytes::Bytes;
use cache_types::Digest;
use store::StoreError;
use tonic::Status;

use super::{Upstream, far_instance};
use crate::action_cache::completeness::{self, Completeness};
use crate::action_cache::{self, ActionName};
use crate::core::Core;
use crate::proto::re;

/// Who is named as the writer of what came from the far server.
const WRITER: &str = "upstream";

impl Upstream {
    /// The far server's result of an action, kept near, when all that it stands for is on either level. Whatever the far
    /// server does wrong is a miss.
    ///
    /// `core` is that of both levels.
    pub(crate) async fn fetch(
        &self,
        core: &Core,
        name: &ActionName,
    ) -> Result<Option<(re::ActionResult, Bytes)>, Status> {
        let Some(encoded) = self.ask(name).await else {
            return Ok(None);
        };
        let function = name.hash.function();
        let Some((named, _, encoded)) = action_cache::decode(encoded, function) else {
            tracing::debug!(action = %name.hash, "the far server's result is malformed");
            return Ok(None);
        };
        if completeness::check(core, named, function).await?.0 != Completeness::Complete {
            return Ok(None);
        }
        // Near alone: it came from the far server.
        match action_cache::put(&self.near, name, encoded, WRITER).await {
            Ok(stored) => Ok(action_cache::decode(stored, function).map(|(_, result, stored)| (result, stored))),
            Err(status) => {
                tracing::debug!(action = %name.hash, %status, "the far server's result is not kept");
                Ok(None)
            }
        }
    }

    async fn ask(&self, name: &ActionName) -> Option<Bytes> {
        // The URLs of the HTTP caches leave the size out, and the API cannot do without.
        let action = Digest::new(name.hash, name.size_bytes?).ok()?;
        let instance = far_instance(self.sender.instance(), &name.instance)?;
        match self.sender.far().action_result(&instance, &action).await {
            Ok(encoded) => encoded,
            Err(StoreError::LeftOut { .. }) => None,
            Err(error) => {
                tracing::debug!(%action, %error, "the far server gives no result");
                None
            }
        }
    }
}
