//! A live server over a memory store, on loopback.
#![allow(dead_code)] // each test program uses its own part of this

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Extension;
use axum::middleware::AddExtension;
use cache_types::Caller;
use http::{Request, Response};
use reapi::client::{Address, RemoteStore, Settings};
use store::MemoryStore;
use tonic::body::Body;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tower::{Layer, Service};

/// Serves until the runtime ends; where.
pub async fn serve<S>(services: S) -> Address
where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible, Future: Send> + Clone + Send + 'static,
{
    let incoming = TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a free port");
    let port = incoming.local_addr().expect("a bound socket").port();
    tokio::spawn(Server::builder().serve_with_incoming(services, incoming.with_nodelay(Some(true))));
    Address::Tcp { host: "127.0.0.1".to_owned(), port }
}

/// The services for callers who may do everything.
pub fn open_to_all(service: &reapi::Service) -> AddExtension<reapi::Direct, Caller> {
    Extension(Caller::local()).layer(service.routes())
}

/// The services over a new memory store.
pub async fn serve_memory() -> (Arc<MemoryStore>, Address) {
    let memory = Arc::new(MemoryStore::default());
    let service = reapi::Service::new(memory.clone(), memory.clone(), reapi::Settings::default());
    (memory, serve(open_to_all(&service)).await)
}

/// A client to a server over a new memory store.
pub async fn remote_memory(settings: Settings) -> (Arc<MemoryStore>, RemoteStore) {
    let (memory, address) = serve_memory().await;
    (memory, RemoteStore::connect(&address, settings).await.expect("a live server"))
}
