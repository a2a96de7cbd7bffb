use std::task::{Context, Poll};

use cache_types::Caller;
use http::Request;
use tower::{Layer, Service};

/// Puts the caller among the extensions of each request. Nothing else may.
#[derive(Clone)]
pub(crate) struct Identify {
    caller: Caller,
}

impl Identify {
    /// For a server without authentication: everyone may do everything.
    pub(crate) fn local() -> Self {
        Self { caller: Caller::local() }
    }
}

impl<S> Layer<S> for Identify {
    type Service = Identified<S>;

    fn layer(&self, inner: S) -> Identified<S> {
        Identified { inner, identify: self.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Identified<S> {
    inner: S,
    identify: Identify,
}

impl<S: Service<Request<B>>, B> Service<Request<B>> for Identified<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        request.extensions_mut().insert(self.identify.caller.clone());
        self.inner.call(request)
    }
}
