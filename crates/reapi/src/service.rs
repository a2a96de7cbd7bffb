use std::sync::Arc;

use axum::body::Body;
use axum::extract::Request;
use http::HeaderMap;
use store::{BlobStore, InMemory, RecordStore, SizeLookup};
use tokio::sync::watch;
use tonic::service::Routes;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_server::HealthServer;
use tonic_reflection::server::Builder as Reflection;
use tower::util::MapResponseLayer;
use tracing::Span;

use crate::access::Gate;
use crate::action_cache::ActionCache;
use crate::bounded::Bounded;
use crate::bytestream::ByteStream;
use crate::capabilities::Capabilities;
use crate::cas::Cas;
use crate::core::Core;
use crate::cut::Cut;
use crate::direct::Direct;
use crate::health::Health;
use crate::http::{Http, refuse};
use crate::inbound::Inbound;
use crate::observer::{Observer, Observing};
use crate::oversize;
use crate::proto;
use crate::proto::bytestream::byte_stream_server::ByteStreamServer;
use crate::proto::re::capabilities_server::CapabilitiesServer;
use crate::request_metadata::RequestSpans;
use crate::wire::raw::action_cache_server::ActionCacheServer;
use crate::wire::raw::content_addressable_storage_server::ContentAddressableStorageServer;
use crate::{Settings, Upstream};

/// The services of a cache over one store: capabilities, CAS, ByteStream, action cache, health and reflection.
///
/// Execution is not among them, so its calls are UNIMPLEMENTED.
#[derive(Clone)]
pub struct Service {
    core: Arc<Core>,
    http: Option<Arc<Http>>,
    pages: axum::Router,
    spans: RequestSpans,
    others: Vec<Others>,
    health: Arc<watch::Sender<ServingStatus>>,
    cut: Cut,
}

/// Services of another crate on the same listeners.
#[derive(Clone)]
pub struct Others {
    /// Their routes, without a fallback.
    pub router: axum::Router,
    /// Their encoded descriptors, for reflection.
    pub descriptors: &'static [u8],
}

/// A place for an upload, once there is one.
type UploadPlace = futures::future::BoxFuture<'static, Result<Box<dyn Send + Sync>, store::StoreError>>;

impl Service {
    /// The services over a store.
    pub fn new(blobs: Arc<dyn BlobStore>, records: Arc<dyn RecordStore>, settings: Settings) -> Self {
        Self::over(blobs, None, records, settings)
    }

    fn over(
        blobs: Arc<dyn BlobStore>,
        upstream: Option<Arc<Upstream>>,
        records: Arc<dyn RecordStore>,
        settings: Settings,
    ) -> Self {
        let blobs = Arc::new(Bounded::new(blobs, &settings.limits));
        Self {
            core: Arc::new(Core { upstream, ..Core::new(blobs, records, settings) }),
            http: None,
            pages: axum::Router::new(),
            spans: RequestSpans::default(),
            others: Vec::new(),
            health: Arc::new(watch::Sender::new(ServingStatus::Serving)),
            cut: Cut::default(),
        }
    }

    /// Answers batches from what the store has in memory, where it is there.
    ///
    /// # Panics
    /// When routes were made already.
    pub fn with_memory(mut self, in_memory: Arc<dyn InMemory>) -> Self {
        Arc::get_mut(&mut self.core).expect("called before the routes are made").in_memory = Some(in_memory);
        self
    }

    /// The services over a store and the far server behind it.
    pub fn with_upstream(upstream: Arc<Upstream>, records: Arc<dyn RecordStore>, settings: Settings) -> Self {
        Self::over(upstream.blobs(), Some(upstream), records, settings)
    }

    /// Offers the HTTP caches too, on the same listeners, which have to accept HTTP/1.1 then.
    pub fn with_http(mut self, lookup: Arc<dyn SizeLookup>) -> Self {
        self.http = Some(Arc::new(Http::new(self.core.clone(), lookup)));
        self
    }

    /// Answers these paths too, ahead of the HTTP caches. May be called again with others.
    pub fn with_pages(mut self, pages: axum::Router) -> Self {
        self.pages = self.pages.merge(pages);
        self
    }

    /// Hands each request's span and headers to `follow`, which may make it part of its caller's trace.
    pub fn with_followed_spans(mut self, follow: impl Fn(&Span, &HeaderMap) + Send + Sync + 'static) -> Self {
        self.spans = RequestSpans::following(follow);
        self
    }

    /// Tells whether [`Service::drain`] was called.
    pub fn draining(&self) -> impl Fn() -> bool + Clone + Send + Sync + use<> {
        let health = self.health.subscribe();
        move || *health.borrow() != ServingStatus::Serving
    }

    /// Serves other services too, behind the same gate and observer.
    pub fn with_services(mut self, others: Others) -> Self {
        self.others.push(others);
        self
    }

    /// Takes a place among the uploads of all services, given back when it is dropped: for other layers, whose uploads count
    /// among these.
    pub fn upload_places(&self) -> impl Fn() -> UploadPlace + Send + Sync + 'static {
        let uploads = self.core.uploads.clone();
        move || {
            let uploads = uploads.clone();
            Box::pin(async move { Ok(Box::new(uploads.take(1).await?) as Box<dyn Send + Sync>) })
        }
    }

    /// What the services count.
    pub fn observer(&self) -> &Arc<Observer> {
        &self.core.observer
    }

    /// All services, ready to be served on any number of listeners. Each request needs its [`cache_types::Caller`] among
    /// its extensions.
    pub fn routes(&self) -> Direct {
        let core = &self.core;
        // `Inbound` refuses what is too large.
        let cas = ContentAddressableStorageServer::new(Cas(core.clone()));
        let bytestream = ByteStreamServer::new(ByteStream(core.clone()));
        let action_cache = ActionCacheServer::new(ActionCache(core.clone()));
        let routes = Routes::new(CapabilitiesServer::new(Capabilities(core.clone())))
            .add_service(cas.max_decoding_message_size(usize::MAX))
            .add_service(bytestream.max_decoding_message_size(usize::MAX))
            .add_service(action_cache.max_decoding_message_size(usize::MAX))
            .add_service(HealthServer::new(Health::new(self.health.subscribe())));
        let mut router = self.with_reflection(routes).into_axum_router().merge(self.pages.clone());
        for others in &self.others {
            router = router.merge(others.router.clone());
        }
        if let Some(http) = &self.http {
            let http = http.clone();
            router = router.fallback(|request: Request| async move { http.serve(request).await });
        }
        let router = router
            .layer(MapResponseLayer::new(oversize::as_resource_exhausted))
            .layer(Inbound::new(core.messages.clone(), core.settings.limits.clone(), self.cut.clone()))
            .layer(self.spans.clone());
        let router = router.layer(Gate(refuse::<Body>)).layer(Observing(core.observer.clone()));
        Direct::new(core.clone(), Routes::from(router).prepare())
    }

    /// Tells everyone who asks health that this server is about to stop. Calls are still answered. Spec: R-180.
    pub fn drain(&self) {
        self.health.send_replace(ServingStatus::NotServing);
    }

    /// Reads no request any further: who is still sending one is told to send it again. Answers go on.
    pub fn cut(&self) {
        self.cut.now();
    }

    fn reflection<'a>(&self) -> Reflection<'a> {
        let own = Reflection::configure()
            .register_encoded_file_descriptor_set(proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        let register =
            |all: Reflection<'a>, others: &Others| all.register_encoded_file_descriptor_set(others.descriptors);
        self.others.iter().fold(own, register)
    }

    /// Adds both versions of reflection. Spec: R-181.
    fn with_reflection(&self, routes: Routes) -> Routes {
        const BUILT_IN: &str = "the descriptors are compiled in";
        routes
            .add_service(self.reflection().build_v1().expect(BUILT_IN))
            .add_service(self.reflection().build_v1alpha().expect(BUILT_IN))
    }
}

#[cfg(test)]
mod tests;
