use std::sync::Arc;
use std::task::{Context, Poll};

use futures::future::{BoxFuture, Either, FutureExt};
use http::Request;
use parking_lot::RwLock;
use tower::{Layer, Service};

use super::{Identified, Identity};
use crate::transport::Peer;

/// Puts the caller among the extensions of each request. Nothing else may. Clones share what is trusted, which can be
/// replaced while requests come.
#[derive(Clone)]
pub(crate) struct Identify {
    identity: Arc<RwLock<Arc<Identity>>>,
}

impl Identify {
    pub(crate) fn new(identity: Identity) -> Self {
        Self { identity: Arc::new(RwLock::new(Arc::new(identity))) }
    }

    /// What is trusted now.
    pub(crate) fn now(&self) -> Arc<Identity> {
        self.identity.read().clone()
    }

    /// Trusts this from the next request on.
    pub(crate) fn replace(&self, identity: Identity) {
        *self.identity.write() = Arc::new(identity);
    }
}

impl<S> Layer<S> for Identify {
    type Service = Identifying<S>;

    fn layer(&self, inner: S) -> Identifying<S> {
        Identifying { inner, identify: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Identifying<S> {
    inner: S,
    identify: Identify,
}

impl<S, B> Service<Request<B>> for Identifying<S>
where
    S: Service<Request<B>, Future: Send + 'static> + Clone + Send + 'static,
    B: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, BoxFuture<'static, Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let identity = self.identify.now();
        match identity.identify(request.headers(), request.extensions().get::<Peer>()) {
            Identified::Now(caller) => {
                request.extensions_mut().insert(caller);
                Either::Left(self.inner.call(request))
            }
            Identified::Later(check) => {
                let fresh = self.inner.clone();
                let mut ready = std::mem::replace(&mut self.inner, fresh);
                let answer = async move {
                    request.extensions_mut().insert(check.await);
                    ready.call(request).await
                };
                Either::Right(answer.boxed())
            }
        }
    }
}
