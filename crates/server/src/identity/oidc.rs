use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use cache_types::{Caller, Grant};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use parking_lot::RwLock;
use serde_json::{Map, Value};

/// How far the issuer's clock may be from ours, in seconds.
const LEEWAY_SECONDS: u64 = 60;

/// An issuer of OIDC tokens that is trusted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// Its name, as `iss` has it.
    pub issuer: String,
    /// The audiences of which `aud` has to name one.
    pub audience: Vec<String>,
    /// Where its keys are.
    pub jwks: KeySource,
    /// The claim whose value is the caller's name.
    pub name_claim: String,
    /// The claim whose value is the tenant.
    pub tenant_claim: Option<String>,
    /// What which tokens allow; all rules that hold count together.
    pub rules: Vec<ClaimRule>,
}

/// Where the keys of an issuer are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A JWKS file.
    File(std::path::PathBuf),
    /// An address of HTTPS.
    Url(http::Uri),
}

/// What the tokens allow whose claims have these values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimRule {
    /// Claim → value. A value that ends in `*` stands for all that begin so; in a list, one has to fit.
    pub claims: BTreeMap<String, String>,
    /// What is allowed.
    pub grants: Vec<Grant>,
}

/// An issuer and its keys as they are now.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) issuer: Issuer,
    keys: RwLock<Arc<JwkSet>>,
    /// Told when a token names a key that is not among them.
    pub(super) unknown_key: tokio::sync::Notify,
}

impl Trusted {
    pub(super) fn new(issuer: Issuer, keys: JwkSet) -> Self {
        super::signature::install();
        Self { issuer, keys: RwLock::new(Arc::new(keys)), unknown_key: tokio::sync::Notify::new() }
    }

    pub(super) fn keys(&self) -> Arc<JwkSet> {
        self.keys.read().clone()
    }

    pub(super) fn set_keys(&self, keys: JwkSet) {
        *self.keys.write() = Arc::new(keys);
    }

    /// The caller who holds this token, and until when it holds; or why it is not accepted.
    pub(super) fn verify(&self, token: &str) -> Result<(Caller, SystemTime), &'static str> {
        let header = decode_header(token).map_err(|_| "it is no web token, or of an algorithm that is not taken")?;
        let keys = self.keys();
        let Some(key) = find(&keys, &header) else {
            self.unknown_key.notify_one();
            return Err("no key of the issuer made it");
        };
        if !algorithms(key).contains(&header.alg) {
            return Err("its algorithm is not that of the key");
        }
        let key = DecodingKey::from_jwk(key).map_err(|_| "the key of the issuer is broken")?;
        let mut validation = Validation::new(header.alg);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_issuer(&[&self.issuer.issuer]);
        validation.set_audience(&self.issuer.audience);
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        let claims =
            decode::<Map<String, Value>>(token, &key, &validation).map_err(|error| reason(error.kind()))?.claims;
        let exp = claims.get("exp").and_then(Value::as_f64).unwrap_or(0.0);
        let ends = Duration::try_from_secs_f64(exp).ok().and_then(|exp| SystemTime::UNIX_EPOCH.checked_add(exp));
        Ok((self.caller(&claims)?, ends.unwrap_or(SystemTime::UNIX_EPOCH)))
    }

    fn caller(&self, claims: &Map<String, Value>) -> Result<Caller, &'static str> {
        let text = |claim: &str| claims.get(claim).and_then(Value::as_str).filter(|text| is_name(text));
        let name = text(&self.issuer.name_claim).ok_or("the claim with the caller's name is absent")?;
        let tenant = match &self.issuer.tenant_claim {
            Some(claim) => text(claim).ok_or("the claim with the tenant is absent")?,
            None => "",
        };
        let holding = self.issuer.rules.iter().filter(|rule| rule.holds(claims));
        let grants = holding.flat_map(|rule| rule.grants.iter().cloned()).collect();
        Ok(Caller::known(name, tenant, grants))
    }
}

/// Whether a token claims to be from this issuer. Not to be trusted before its signature is checked.
pub(super) fn claims_issuer(token: &str, issuer: &str) -> bool {
    jsonwebtoken::dangerous::insecure_decode_claims::<Map<String, Value>>(token)
        .is_ok_and(|claims| claims.get("iss").and_then(Value::as_str) == Some(issuer))
}

/// Whether the text has the form of a web token.
pub(super) fn is_web_token(text: &str) -> bool {
    text.starts_with("ey") && text.bytes().filter(|byte| *byte == b'.').count() == 2
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 256 && !text.chars().any(char::is_control)
}

impl ClaimRule {
    fn holds(&self, claims: &Map<String, Value>) -> bool {
        !self.claims.is_empty()
            && self.claims.iter().all(|(claim, wanted)| claims.get(claim).is_some_and(|value| fits(value, wanted)))
    }
}

fn fits(value: &Value, wanted: &str) -> bool {
    let fits_text = |text: &str| match wanted.strip_suffix('*') {
        Some(beginning) => text.starts_with(beginning),
        None => text == wanted,
    };
    match value {
        Value::String(text) => fits_text(text),
        Value::Array(values) => values.iter().any(|value| matches!(value, Value::String(text) if fits_text(text))),
        Value::Bool(_) | Value::Number(_) => fits_text(&value.to_string()),
        Value::Null | Value::Object(_) => false,
    }
}

/// The key that a token names; one that names none fits where there is one key.
fn find<'a>(keys: &'a JwkSet, header: &Header) -> Option<&'a Jwk> {
    let signs = |key: &&Jwk| key.common.public_key_use.as_ref().is_none_or(|intent| *intent == PublicKeyUse::Signature);
    let mut of_use = keys.keys.iter().filter(signs);
    match &header.kid {
        Some(kid) => of_use.find(|key| key.common.key_id.as_ref() == Some(kid)),
        None => of_use.next().filter(|_| of_use.next().is_none()),
    }
}

/// The algorithms that a key is for: none that needs a shared secret, and the one that the key names, where it does.
fn algorithms(key: &Jwk) -> Vec<Algorithm> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let of_kind: &[Algorithm] = match &key.algorithm {
        AlgorithmParameters::RSA(_) => &[RS256, RS384, RS512, PS256, PS384, PS512],
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P256 => &[ES256],
        AlgorithmParameters::EllipticCurve(point) if point.curve == EllipticCurve::P384 => &[ES384],
        AlgorithmParameters::OctetKeyPair(point) if point.curve == EllipticCurve::Ed25519 => &[EdDSA],
        _ => &[],
    };
    let named = key.common.key_algorithm.map(|named| named.to_string());
    let is_named = |algorithm: &Algorithm| named.as_ref().is_none_or(|named| *named == format!("{algorithm:?}"));
    of_kind.iter().copied().filter(is_named).collect()
}

fn reason(error: &ErrorKind) -> &'static str {
    match error {
        ErrorKind::ExpiredSignature => "it has expired",
        ErrorKind::ImmatureSignature => "it is not valid yet",
        ErrorKind::InvalidAudience => "it is for another audience",
        ErrorKind::InvalidIssuer => "it is from another issuer",
        ErrorKind::MissingRequiredClaim(_) => "it lacks exp, iss or aud",
        ErrorKind::InvalidSignature => "its signature is wrong",
        _ => "it is broken",
    }
}

#[cfg(test)]
mod tests;
