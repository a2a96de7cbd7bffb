use std::collections::BTreeMap;

use cache_types::Grant;
use http::Uri;

use super::Fault;
use super::raw::{RawAuth, RawIssuer, RawRights};
use crate::identity::{AuthSettings, CertificateRights, ClaimRule, Issuer, KeySource, TokenLine, UserRights, grants};

/// What the users of an htpasswd file may do when nothing is said.
const USER_ROLES: [&str; 3] = ["read", "cas-write", "ac-write"];

/// Reads who may do what.
pub(super) fn check(raw: &RawAuth, faults: &mut Vec<Fault>) -> AuthSettings {
    let user_roles = match &raw.user_roles {
        Some(roles) => roles.iter().map(String::as_str).collect(),
        None => USER_ROLES.to_vec(),
    };
    if raw.htpasswd.is_none() && !(raw.users.is_empty() && raw.user_roles.is_none()) {
        faults.push(Fault::new(
            "auth.users",
            "there are no users without a file of passwords; name one by auth.htpasswd",
        ));
    }
    AuthSettings {
        anonymous: roles("auth.anonymous_roles", raw.anonymous_roles.iter().map(String::as_str), faults),
        tokens: raw.tokens.iter().filter_map(|line| token(line, faults)).collect(),
        token_file: raw.token_file.clone(),
        htpasswd: raw.htpasswd.clone(),
        users: users(&raw.users, faults),
        user_roles: roles("auth.user_roles", user_roles, faults),
        certificates: certificates(&raw.certificates, faults),
        oidc: raw.oidc.iter().filter_map(|issuer| check_issuer(issuer, faults)).collect(),
    }
}

fn roles<'a>(key: &str, items: impl IntoIterator<Item = &'a str>, faults: &mut Vec<Fault>) -> Vec<Grant> {
    grants::parse(items).unwrap_or_else(|error| {
        faults.push(Fault::new(key, error));
        Vec::new()
    })
}

fn token(line: &str, faults: &mut Vec<Fault>) -> Option<TokenLine> {
    // The line itself is not shown: it may be a token by mistake.
    line.parse().map_err(|error| faults.push(Fault::new("auth.tokens", error))).ok()
}

fn rights(key: &str, raw: &RawRights, faults: &mut Vec<Fault>) -> UserRights {
    let tenant = raw.tenant.clone().unwrap_or_default();
    if raw.tenant.is_some() && !TokenLine::is_name(&tenant) {
        faults.push(Fault::new(format!("{key}.tenant"), "a tenant is one word"));
    }
    let grants = roles(&format!("{key}.roles"), raw.roles.iter().map(String::as_str), faults);
    UserRights { grants, tenant }
}

fn users(raw: &BTreeMap<String, RawRights>, faults: &mut Vec<Fault>) -> BTreeMap<String, UserRights> {
    raw.iter().map(|(name, raw)| (name.clone(), rights(&format!("auth.users.{name}"), raw, faults))).collect()
}

fn certificates(raw: &BTreeMap<String, RawRights>, faults: &mut Vec<Fault>) -> Vec<CertificateRights> {
    let one = |(name, raw): (&String, &RawRights)| {
        let UserRights { grants, tenant } = rights(&format!("auth.certificates.{name}"), raw, faults);
        CertificateRights { name: name.clone(), grants, tenant }
    };
    raw.iter().map(one).collect()
}

fn check_issuer(raw: &RawIssuer, faults: &mut Vec<Fault>) -> Option<Issuer> {
    let before = faults.len();
    let mut fault = |key: &str, message: &str| faults.push(Fault::new(format!("auth.oidc.{key}"), message));
    if raw.issuer.is_empty() {
        fault("issuer", "it is empty");
    }
    if raw.audience.is_empty() || raw.audience.iter().any(String::is_empty) {
        fault("audience", "name at least one: tokens for others would be taken");
    }
    if raw.rules.iter().any(|rule| rule.claims.is_empty()) {
        fault("rules.claims", "name at least one claim: the rule would hold for every token of the issuer");
    }
    let jwks = key_source(&raw.jwks);
    if jwks.is_none() {
        fault("jwks", "a file, an address https://…, or http:// of this machine");
    }
    let rules = raw.rules.iter().map(|rule| ClaimRule {
        claims: rule.claims.clone(),
        grants: roles("auth.oidc.rules.roles", rule.roles.iter().map(String::as_str), faults),
    });
    let rules = rules.collect();
    if faults.len() > before {
        return None;
    }
    Some(Issuer {
        issuer: raw.issuer.clone(),
        audience: raw.audience.clone(),
        jwks: jwks?,
        name_claim: raw.name_claim.clone().unwrap_or_else(|| "sub".to_owned()),
        tenant_claim: raw.tenant_claim.clone(),
        rules,
    })
}

/// A file or an address. Keys that come over plain HTTP could be anyone's, this machine's apart.
fn key_source(text: &str) -> Option<KeySource> {
    if !text.contains("://") {
        return (!text.is_empty()).then(|| KeySource::File(text.into()));
    }
    let url: Uri = text.parse().ok()?;
    let host = url.host()?;
    let is_trusted = match url.scheme_str()? {
        "https" => true,
        "http" => matches!(host, "127.0.0.1" | "[::1]" | "localhost"),
        _ => false,
    };
    is_trusted.then_some(KeySource::Url(url))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_the_key_and_never_the_secret() {
        let mut faults = Vec::new();
        let raw = RawAuth {
            anonymous_roles: vec!["reed".to_owned()],
            tokens: vec!["twofold_secret".to_owned()],
            users: BTreeMap::from([("alice".to_owned(), RawRights { roles: vec!["x".to_owned()], tenant: None })]),
            ..RawAuth::default()
        };
        check(&raw, &mut faults);
        let keys: Vec<&str> = faults.iter().map(|fault| fault.key.as_str()).collect();
        assert_eq!(keys, ["auth.users", "auth.anonymous_roles", "auth.tokens", "auth.users.alice.roles"]);
        assert!(faults.iter().all(|fault| !fault.to_string().contains("twofold_secret")), "{faults:?}");
    }

    #[test]
    fn keys_of_issuers_come_from_files_https_or_this_machine() {
        for good in ["/etc/jwks.json", "https://issuer/keys", "http://127.0.0.1:1/keys", "http://[::1]/k"] {
            assert!(key_source(good).is_some(), "{good}");
        }
        for bad in ["", "http://issuer/keys", "ftp://issuer/keys", "https://"] {
            assert_eq!(key_source(bad), None, "{bad}");
        }
    }
}
