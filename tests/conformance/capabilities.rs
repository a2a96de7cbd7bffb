//! What the server says of itself. Spec: reapi §3.

use crate::case::{Case, Compressor, Context, case};
use crate::harness::re;

pub fn cases() -> Vec<Case> {
    vec![
        case("r_020_capabilities_are_answered_whatever_the_instance_holds", r_020),
        case("r_021_the_versions_overlap_those_of_every_client", r_021),
        case("r_022_cache_capabilities_are_what_clients_rely_on", r_022),
        case("r_107_no_rep_max_cdc_is_advertised", r_107),
    ]
}

async fn capabilities(context: &Context, instance: &str) -> re::ServerCapabilities {
    let request = re::GetCapabilitiesRequest { instance_name: instance.to_owned() };
    context.client.capabilities().get_capabilities(request).await.expect("GetCapabilities").into_inner()
}

async fn r_020(context: Context) {
    let empty = capabilities(&context, "").await;
    context.stored(10).await;
    for instance in ["", "never/seen/before"] {
        assert_eq!(capabilities(&context, instance).await, empty);
    }
}

async fn r_021(context: Context) {
    let answer = capabilities(&context, "").await;
    let version = |version: Option<bazel_remote_apis::build::bazel::semver::SemVer>| {
        let version = version.expect("a version");
        (version.major, version.minor, version.patch)
    };
    assert_eq!(version(answer.low_api_version), (2, 0, 0), "Bazel 4 refuses a server whose lowest version is above");
    assert_eq!(version(answer.deprecated_api_version), (2, 0, 0));
    // Both pairs of chunk calls are there; `chunks` asks them.
    assert_eq!(version(answer.high_api_version), (2, 13, 0));
    assert!(answer.execution_capabilities.is_none(), "nothing is executed here");
}

async fn r_022(context: Context) {
    let cache = capabilities(&context, "").await.cache_capabilities.expect("cache capabilities");
    assert!(!cache.digest_functions.contains(&0));
    assert!(cache.action_cache_update_capabilities.expect("set").update_enabled);
    let priorities = cache.cache_priority_capabilities.expect("set").priorities;
    assert!(priorities.iter().any(|range| range.min_priority <= 0 && range.max_priority >= 0), "{priorities:?}");
    assert_eq!(cache.max_batch_total_size_bytes, 4_000_000);
    let allowed = i32::from(re::symlink_absolute_path_strategy::Value::Allowed);
    assert_eq!(cache.symlink_absolute_path_strategy, allowed);
    let zstd = i32::from(Compressor::Zstd);
    assert!(cache.supported_compressors.contains(&zstd));
    assert!(cache.supported_batch_update_compressors.contains(&zstd));
    assert!(cache.max_cas_blob_size_bytes >= 0);
    assert!(cache.split_blob_support && cache.splice_blob_support);
    let chunking = cache.fast_cdc_2020_params.expect("set");
    assert_eq!((chunking.avg_chunk_size_bytes, chunking.seed), (524_288, 0));
}

async fn r_107(context: Context) {
    let cache = capabilities(&context, "").await.cache_capabilities.expect("cache capabilities");
    assert!(cache.rep_max_cdc_params.is_none());
    assert!(cache.fast_cdc_2020_params.is_some());
}
