//! Who makes a call: credentials to [`Caller`]s, and the layer that gives each request its own.
//!
//! | module | owns |
//! |---|---|
//! | `authorization` | the header |
//! | `token` | bearer tokens and their file |
//! | `htpasswd`, `users` | users with passwords |
//! | `certificates` | client certificates |
//! | `oidc`, `signature`, `jwks` | tokens of OIDC issuers |
//! | `grants` | roles as people write them |
//! | `verified` | verdicts that are remembered |
//! | `settings` | what is trusted, checked and read from its files |
//! | `layer` | requests |

mod authorization;
mod certificates;
/// Roles as people write them: `ROLE` or `ROLE@INSTANCE`.
pub mod grants;
mod htpasswd;
mod jwks;
mod layer;
mod oidc;
mod settings;
mod signature;
mod token;
mod users;
mod verified;

use std::sync::Arc;

use cache_types::Caller;
use futures::future::{BoxFuture, FutureExt};
use http::{HeaderMap, HeaderValue, header};

pub use self::authorization::Authorization;
pub use self::certificates::CertificateRights;
pub use self::htpasswd::{Htpasswd, HtpasswdError};
pub(crate) use self::layer::Identify;
pub use self::oidc::{ClaimRule, Issuer, KeySource};
pub use self::settings::{AuthSettings, LoadError};
pub use self::token::{TokenHash, TokenLine, TokenLineError, parse_file as parse_token_file};
pub use self::users::UserRights;
use crate::transport::Peer;

/// A caller, at once or after a check that takes its time.
pub(crate) enum Identified {
    Now(Caller),
    Later(BoxFuture<'static, Caller>),
}

/// What is trusted.
#[derive(Debug)]
pub(crate) struct Identity {
    /// The caller of every request, where there is no authentication.
    everyone: Option<Caller>,
    /// The caller of requests without a credential.
    anonymous: Caller,
    tokens: token::Tokens,
    users: Option<Arc<users::Users>>,
    certificates: certificates::Certificates,
    issuers: Vec<Arc<oidc::Trusted>>,
    verified: Arc<verified::Verified>,
    /// Fetch keys; they end with this.
    _fetchers: tokio::task::JoinSet<()>,
}

impl Identity {
    /// The caller of a request with these headers, on a connection of this peer.
    ///
    /// A header counts for more than the certificate of the connection. A credential that is not accepted is never
    /// taken for none.
    pub(crate) fn identify(&self, headers: &HeaderMap, peer: Option<&Peer>) -> Identified {
        if let Some(everyone) = &self.everyone {
            return Identified::Now(everyone.clone());
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            return self.by_header(value);
        }
        match peer.and_then(|peer| peer.certificates.first()) {
            Some(certificate) => Identified::Now(self.certificates.find(certificate)),
            None => Identified::Now(self.anonymous.clone()),
        }
    }

    fn by_header(&self, value: &HeaderValue) -> Identified {
        match Authorization::parse(value.as_bytes()) {
            Some(Authorization::Bearer(token)) => Identified::Now(self.by_token(&token)),
            Some(Authorization::Basic { user, password }) => self.by_password(user, password),
            None => Identified::Now(Caller::rejected("it is neither Bearer nor Basic")),
        }
    }

    fn by_token(&self, token: &str) -> Caller {
        if let Some(caller) = self.tokens.find(token) {
            return caller;
        }
        if self.issuers.is_empty() || !oidc::is_web_token(token) {
            return Caller::rejected("the token is not known");
        }
        let place = self.verified.place(["", token]);
        if let Some(caller) = self.verified.get(&place) {
            return caller;
        }
        let Some(issuer) = self.issuers.iter().find(|trusted| oidc::claims_issuer(token, &trusted.issuer.issuer))
        else {
            return Caller::rejected("its issuer is not trusted");
        };
        match issuer.verify(token) {
            Ok((caller, ends)) => {
                self.verified.put(place, &caller, Some(ends));
                caller
            }
            Err(reason) => Caller::rejected(reason),
        }
    }

    /// A user of the htpasswd file, or a token as the password of any other.
    fn by_password(&self, user: String, password: String) -> Identified {
        let Some(users) = self.users.as_ref().filter(|users| users.has(&user)) else {
            return Identified::Now(self.by_token(&password));
        };
        let place = self.verified.place([&user, &password]);
        match self.verified.get(&place) {
            Some(caller) => Identified::Now(caller),
            None => Identified::Later(users::check(users.clone(), self.verified.clone(), (user, password)).boxed()),
        }
    }
}

#[cfg(test)]
mod tests;
