//! Who may do what. Each call asks here, with the [`Caller`] that travels with the request as an extension; a request
//! without one is refused.

use std::task::{Context, Poll};

use axum::response::IntoResponse;
use cache_types::{Caller, Denied, InstanceName, Role};
use futures::future::{Either, Ready, ready};
use http::{Extensions, Request, Response};
use tonic::Status;
use tower::{Layer, Service};

use crate::http::Refusal;
use crate::{convert, status};

/// What everyone may ask, whatever they may do: whether the server is well. Spec: R-180.
const OPEN: [&str; 4] = ["grpc.health.v1.Health/", "status", "healthz", "readyz"];

/// What belongs to no instance and shows what is served.
const REFLECTION: &str = "grpc.reflection.";

/// The caller of a request.
///
/// # Errors
/// [`Denied`] when nobody said who it is.
pub fn caller(extensions: &Extensions) -> Result<&Caller, Denied> {
    extensions.get::<Caller>().ok_or(Denied::NoCredential)
}

/// Refuses a request whose caller does not hold the role in this instance.
///
/// # Errors
/// [`Denied`].
pub fn check(extensions: &Extensions, role: Role, instance: &InstanceName) -> Result<(), Denied> {
    caller(extensions)?.check(role, instance)
}

/// The answer over HTTP to a request that was refused.
pub fn refusal(denied: Denied) -> axum::response::Response {
    Refusal::Denied(denied).into_response()
}

/// As [`check`], for an instance as messages carry it.
pub(crate) fn check_named(extensions: &Extensions, role: Role, instance_name: &str) -> Result<(), Status> {
    let caller = caller(extensions).map_err(status::denied)?;
    caller.check(role, &convert::instance(instance_name)?).map_err(status::denied)
}

/// Refuses, before anything of the body is read, who may do nothing here. What the services check comes on top.
#[derive(Clone)]
pub(crate) struct Gate<F>(pub(crate) F);

impl<S, F: Clone> Layer<S> for Gate<F> {
    type Service = Gated<S, F>;

    fn layer(&self, inner: S) -> Gated<S, F> {
        Gated { inner, refuse: self.0.clone() }
    }
}

#[derive(Clone)]
pub(crate) struct Gated<S, F> {
    inner: S,
    refuse: F,
}

impl<S, F, B, R> Service<Request<B>> for Gated<S, F>
where
    S: Service<Request<B>, Response = Response<R>>,
    F: Fn(&Request<B>, Denied) -> Response<R>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Either<S::Future, Ready<Result<S::Response, S::Error>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        match admit(request.uri().path(), request.extensions()) {
            Ok(()) => Either::Left(self.inner.call(request)),
            Err(denied) => Either::Right(ready(Ok((self.refuse)(&request, denied)))),
        }
    }
}

fn admit(path: &str, extensions: &Extensions) -> Result<(), Denied> {
    let path = path.trim_matches('/');
    let is_open = |open: &&str| path == *open || open.ends_with('/') && path.starts_with(open);
    match caller(extensions) {
        _ if OPEN.iter().any(is_open) => Ok(()),
        Ok(caller) if path.starts_with(REFLECTION) || caller.may_nothing() => caller.check_anywhere(Role::Read),
        caller => caller.map(|_| ()),
    }
}

#[cfg(test)]
mod tests {
    use cache_types::Grant;
    use tonic::Code;

    use super::*;

    fn with(caller: Option<Caller>) -> Extensions {
        let mut extensions = Extensions::new();
        if let Some(caller) = caller {
            extensions.insert(caller);
        }
        extensions
    }

    #[test]
    fn a_request_without_a_caller_may_ask_for_health_alone() {
        let nobody = with(None);
        let refused = check_named(&nobody, Role::Read, "").expect_err("nobody");
        assert_eq!(refused.code(), Code::Unauthenticated);
        for open in ["/status", "//healthz", "/readyz", "/grpc.health.v1.Health/Check"] {
            assert_eq!(admit(open, &nobody), Ok(()), "{open}");
        }
        for closed in ["/", "/statuses", "/cas/x", "/a/status", "/grpc.health.v1.HealthX/Check", "/grpc.reflection.v1"]
        {
            assert_eq!(admit(closed, &nobody), Err(Denied::NoCredential), "{closed}");
        }
    }

    #[test]
    fn who_may_nothing_stops_at_the_gate_and_who_may_something_at_the_service() {
        let rejected = with(Some(Caller::rejected("unknown")));
        assert_eq!(admit("/cas/x", &rejected), Err(Denied::BadCredential("unknown")));
        assert_eq!(admit("/status", &rejected), Ok(()));
        let prefix = InstanceName::parse("team").expect("a name");
        let grant = Grant { prefix, roles: [Role::Read].into_iter().collect() };
        let reader = with(Some(Caller::known("r", "", vec![grant])));
        assert_eq!(admit("/cas/x", &reader), Ok(()));
        assert_eq!(admit("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", &reader), Ok(()));
        assert!(check_named(&reader, Role::Read, "team/x").is_ok());
        let refused = |role, name| check_named(&reader, role, name).expect_err("refused").code();
        assert_eq!(refused(Role::Read, "other"), Code::PermissionDenied);
        assert_eq!(refused(Role::CasWrite, "team"), Code::PermissionDenied);
        assert_eq!(refused(Role::Read, "team/blobs"), Code::InvalidArgument);
    }
}
