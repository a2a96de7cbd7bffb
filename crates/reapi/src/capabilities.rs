use std::sync::Arc;

use cache_types::{DigestFunction, Role};
use store::AVG_CHUNK_BYTES;
use tonic::{Request, Response, Status};

use crate::core::Core;
use crate::limits::MAX_BATCH_BYTES;
use crate::proto::build::bazel::semver::SemVer;
use crate::proto::re::{self, capabilities_server};
use crate::{access, convert, status};

/// The Capabilities service. Spec.
pub(crate) struct Capabilities(pub(crate) Arc<Core>);

#[tonic::async_trait]
impl capabilities_server::Capabilities for Capabilities {
    async fn get_capabilities(
        &self,
        request: Request<re::GetCapabilitiesRequest>,
    ) -> Result<Response<re::ServerCapabilities>, Status> {
        let caller = access::caller(request.extensions()).map_err(status::denied)?;
        let instance = convert::instance(&request.get_ref().instance_name)?;
        caller.check(Role::Read, &instance).map_err(status::denied)?;
        // Spec: R-135.
        let update_enabled = caller.may(Role::AcWrite, &instance);
        Ok(Response::new(re::ServerCapabilities {
            cache_capabilities: Some(cache(&self.0.settings, re::ActionCacheUpdateCapabilities { update_enabled })),
            execution_capabilities: None,
            deprecated_api_version: Some(version(0)),
            low_api_version: Some(version(0)),
            high_api_version: Some(version(13)),
        }))
    }
}

fn version(minor: i32) -> SemVer {
    SemVer { major: 2, minor, ..Default::default() }
}

fn cache(settings: &crate::Settings, updates: re::ActionCacheUpdateCapabilities) -> re::CacheCapabilities {
    let zstd = vec![re::compressor::Value::Zstd as i32];
    let priorities = re::priority_capabilities::PriorityRange {
        min_priority: *settings.priorities.start(),
        max_priority: *settings.priorities.end(),
    };
    re::CacheCapabilities {
        digest_functions: DigestFunction::ALL.into_iter().map(|function| i32::from(function.number())).collect(),
        action_cache_update_capabilities: Some(updates),
        cache_priority_capabilities: Some(re::PriorityCapabilities { priorities: vec![priorities] }),
        max_batch_total_size_bytes: MAX_BATCH_BYTES as i64,
        symlink_absolute_path_strategy: re::symlink_absolute_path_strategy::Value::Allowed as i32,
        supported_compressors: zstd.clone(),
        supported_batch_update_compressors: zstd,
        max_cas_blob_size_bytes: i64::try_from(settings.limits.now().blob_bytes).unwrap_or(i64::MAX),
        split_blob_support: true,
        splice_blob_support: true,
        fast_cdc_2020_params: Some(re::FastCdc2020Params { avg_chunk_size_bytes: AVG_CHUNK_BYTES as u64, seed: 0 }),
        rep_max_cdc_params: None,
    }
}
