use cache_types::{Caller, Denied, Role};
use http::Method;
use http::request::Parts;

use crate::response::Refusal;
use crate::settings::{Audience, CacheSettings};

/// What a request of a path that is read and pushed is for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    Read,
    /// By the caller of this name.
    Push(String),
}

/// What the request is for, by its method; refuses a caller who may not do that.
pub(crate) fn intent(head: &Parts, cache: &CacheSettings) -> Result<Intent, Refusal> {
    match head.method {
        Method::GET | Method::HEAD => reading(head, cache).map(|()| Intent::Read),
        Method::PUT => pushing(head, cache).map(Intent::Push),
        _ => Err(Refusal::Method("GET, HEAD, PUT")),
    }
}

/// Refuses a caller who may not read the cache. A public one is read by everyone.
pub(crate) fn reading(head: &Parts, cache: &CacheSettings) -> Result<(), Refusal> {
    match cache.audience {
        Audience::Public => Ok(()),
        Audience::Readers => caller(head, cache, Role::Read).map(|_| ()),
    }
}

/// Refuses a caller who may not push; the caller's name.
pub(crate) fn pushing(head: &Parts, cache: &CacheSettings) -> Result<String, Refusal> {
    caller(head, cache, Role::NixPush).map(|caller| caller.name().to_owned())
}

/// Refuses a caller who may not overrule what is there.
pub(crate) fn administering(head: &Parts, cache: &CacheSettings) -> Result<(), Refusal> {
    caller(head, cache, Role::Admin).map(|_| ())
}

/// The caller, if they hold the role at `nix/NAME`. A request that nobody identified is refused.
fn caller<'a>(head: &'a Parts, cache: &CacheSettings, role: Role) -> Result<&'a Caller, Refusal> {
    let caller = head.extensions.get::<Caller>().ok_or(Refusal::Denied(Denied::NoCredential))?;
    caller.check_under(role, &format!("nix/{}", cache.name)).map_err(Refusal::Denied)?;
    Ok(caller)
}

/// A request of somebody who may do everything.
#[cfg(test)]
pub(crate) fn admit<B>(mut request: http::Request<B>) -> http::Request<B> {
    request.extensions_mut().insert(Caller::local());
    request
}

#[cfg(test)]
mod tests {
    use cache_types::{Grant, InstanceName};

    use super::*;
    use crate::CacheName;

    fn head(caller: Option<Caller>) -> Parts {
        let mut request = http::Request::new(());
        if let Some(caller) = caller {
            request.extensions_mut().insert(caller);
        }
        request.into_parts().0
    }

    fn known(prefix: &str, role: Role) -> Parts {
        let prefix = InstanceName::parse(prefix).expect("a name");
        head(Some(Caller::known("ci", "", vec![Grant { prefix, roles: [role].into_iter().collect() }])))
    }

    #[test]
    fn readers_read_pushers_push_and_nobody_else_does_anything() {
        let mut cache = CacheSettings::new(CacheName::parse("main").expect("a name"));
        let reader = known("nix/main", Role::Read);
        assert!(reading(&reader, &cache).is_ok() && pushing(&reader, &cache).is_err());
        let pusher = known("nix/main", Role::NixPush);
        assert!(reading(&pusher, &cache).is_ok() && pushing(&pusher, &cache).is_ok_and(|name| name == "ci"));
        assert!(administering(&pusher, &cache).is_err());
        for stranger in [known("nix/other", Role::NixPush), known("nix/main2", Role::NixPush), head(None)] {
            assert!(reading(&stranger, &cache).is_err() && pushing(&stranger, &cache).is_err());
        }
        // What other layers may write is no right to push: pushes are signed.
        assert!(pushing(&known("", Role::AcWrite), &cache).is_err());
        cache.audience = Audience::Public;
        assert!(reading(&head(None), &cache).is_ok() && pushing(&head(None), &cache).is_err());
        assert!(reading(&head(Some(Caller::rejected("it is none"))), &cache).is_ok());
    }
}
