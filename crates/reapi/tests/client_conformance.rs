//! The suite that every store passes, passed by the client against a live server over a memory store.

mod common;

use common::{remote_memory, serve_memory};
use reapi::client::{Compression, RemoteStore, Settings};
use store::Verifying;

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_a_store() {
    let (_, remote) = remote_memory(Settings::default()).await;
    store::conformance::blob_store(&remote, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_is_a_store_over_zstd() {
    let settings = Settings { compression: Compression::ZstdWhenOffered, ..Settings::default() };
    let (_, remote) = remote_memory(settings).await;
    store::conformance::blob_store(&remote, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_verified_is_a_store() {
    let (_, address) = serve_memory().await;
    let remote = RemoteStore::connect(&address, Settings::default()).await.expect("a live server");
    store::conformance::blob_store(&Verifying::new(remote), 3).await;
}
