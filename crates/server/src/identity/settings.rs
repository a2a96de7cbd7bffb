use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use cache_types::{Caller, Grant};
use tokio::task::JoinSet;

use super::certificates::Certificates;
use super::token::Tokens;
use super::users::Users;
use super::verified::Verified;
use super::{CertificateRights, Htpasswd, Identity, Issuer, KeySource, TokenLine, UserRights, jwks, oidc, token};

/// Whom to trust, as the configuration says it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuthSettings {
    /// What callers without a credential may do.
    pub anonymous: Vec<Grant>,
    /// Tokens.
    pub tokens: Vec<TokenLine>,
    /// A file with more of them.
    pub token_file: Option<PathBuf>,
    /// A file with users and the hashes of their passwords.
    pub htpasswd: Option<PathBuf>,
    /// What some of the users may do.
    pub users: BTreeMap<String, UserRights>,
    /// What the rest of them may do.
    pub user_roles: Vec<Grant>,
    /// What the holders of client certificates may do.
    pub certificates: Vec<CertificateRights>,
    /// Issuers of OIDC tokens.
    pub oidc: Vec<Issuer>,
}

/// A file that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {}: {reason}", path.display())]
pub struct LoadError {
    /// The key of the configuration that names it.
    pub key: &'static str,
    /// The file.
    pub path: PathBuf,
    /// What is wrong.
    pub reason: String,
}

impl AuthSettings {
    /// Whether callers are told apart at all.
    pub fn is_configured(&self) -> bool {
        !self.anonymous.is_empty()
            || !self.tokens.is_empty()
            || self.token_file.is_some()
            || self.htpasswd.is_some()
            || !self.certificates.is_empty()
            || !self.oidc.is_empty()
    }

    /// The files that are read, which are read again when they change.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        let jwks = self.oidc.iter().filter_map(|issuer| match &issuer.jwks {
            KeySource::File(path) => Some(path.clone()),
            KeySource::Url(_) => None,
        });
        self.token_file.iter().chain(&self.htpasswd).cloned().chain(jwks).collect()
    }

    /// Reads the files, without trusting anyone yet.
    ///
    /// # Errors
    /// Every fault of every file.
    pub fn read(&self) -> Result<AuthFiles, Vec<LoadError>> {
        let mut faults = Vec::new();
        let mut tokens = self.tokens.clone();
        if let Some(path) = &self.token_file {
            let parse = |text: &str| token::parse_file(text).map_err(|faults| by_line(&faults));
            tokens.extend(read("auth.token_file", path, parse, &mut faults).unwrap_or_default());
        }
        let htpasswd = self.htpasswd.as_ref().and_then(|path| {
            let parse = |text: &str| Htpasswd::parse(text).map_err(|faults| by_line(&faults));
            read("auth.htpasswd", path, parse, &mut faults)
        });
        let mut keys = Vec::new();
        for issuer in &self.oidc {
            let parsed = match &issuer.jwks {
                KeySource::File(path) => {
                    read("auth.oidc.jwks", path, |text| jwks::parse(text).map_err(|reason| vec![reason]), &mut faults)
                }
                KeySource::Url(_) => None,
            };
            keys.push((issuer.clone(), parsed.unwrap_or_else(jwks::none)));
        }
        if faults.is_empty() { Ok(AuthFiles { tokens, htpasswd, keys }) } else { Err(faults) }
    }
}

/// What the files of [`AuthSettings`] hold.
#[derive(Debug)]
pub struct AuthFiles {
    tokens: Vec<TokenLine>,
    htpasswd: Option<Htpasswd>,
    keys: Vec<(Issuer, jsonwebtoken::jwk::JwkSet)>,
}

impl Identity {
    /// Trusts what the settings and their files say; everyone, where they say nothing. Keys that `before` fetched are
    /// taken over. Needs a runtime.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub(crate) fn new(
        settings: &AuthSettings,
        files: AuthFiles,
        before: Option<&Self>,
    ) -> Result<Self, getrandom::Error> {
        let others = UserRights { grants: settings.user_roles.clone(), tenant: String::new() };
        let users = files.htpasswd.map(|file| Arc::new(Users::new(file, &settings.users, &others)));
        let mut fetchers = JoinSet::new();
        let issuers = files.keys.into_iter().map(|(issuer, keys)| {
            let fetched = before.and_then(|before| before.keys_from(&issuer.jwks));
            let url = match &issuer.jwks {
                KeySource::Url(url) => Some(url.clone()),
                KeySource::File(_) => None,
            };
            let trusted = Arc::new(oidc::Trusted::new(issuer, fetched.unwrap_or(keys)));
            if let Some(url) = url {
                fetchers.spawn(jwks::keep_fresh(url, trusted.clone()));
            }
            trusted
        });
        Ok(Self {
            everyone: (!settings.is_configured()).then(Caller::local),
            anonymous: Caller::anonymous(settings.anonymous.clone()),
            tokens: Tokens::new(&files.tokens),
            users,
            certificates: Certificates::new(&settings.certificates),
            issuers: issuers.collect(),
            verified: Arc::new(Verified::new()?),
            _fetchers: fetchers,
        })
    }

    fn keys_from(&self, source: &KeySource) -> Option<jsonwebtoken::jwk::JwkSet> {
        let KeySource::Url(_) = source else { return None };
        let same = self.issuers.iter().find(|trusted| trusted.issuer.jwks == *source)?;
        Some((*same.keys()).clone())
    }
}

fn by_line<E: std::fmt::Display>(faults: &[(usize, E)]) -> Vec<String> {
    faults.iter().map(|(line, fault)| format!("line {line}: {fault}")).collect()
}

fn read<T>(
    key: &'static str,
    path: &Path,
    parse: impl FnOnce(&str) -> Result<T, Vec<String>>,
    faults: &mut Vec<LoadError>,
) -> Option<T> {
    let parsed = match std::fs::read_to_string(path) {
        Ok(text) => parse(&text),
        Err(error) => Err(vec![error.to_string()]),
    };
    parsed
        .map_err(|reasons| {
            faults.extend(reasons.into_iter().map(|reason| LoadError { key, path: path.to_owned(), reason }));
        })
        .ok()
}
