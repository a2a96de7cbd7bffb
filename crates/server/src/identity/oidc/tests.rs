use cache_types::Role;
use data_encoding::BASE64URL_NOPAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::json;

use super::super::grants;
use super::*;

/// An issuer with a key of its own.
struct Signer {
    key: EcdsaKeyPair,
}

impl Signer {
    fn new() -> Self {
        let random = SystemRandom::new();
        let der = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der.as_ref(), &random).expect("a key");
        Self { key }
    }

    fn jwks(&self) -> JwkSet {
        let point = self.key.public_key().as_ref();
        let (x, y) = (BASE64URL_NOPAD.encode(&point[1..33]), BASE64URL_NOPAD.encode(&point[33..]));
        let key = json!({ "kty": "EC", "crv": "P-256", "kid": "k", "use": "sig", "alg": "ES256", "x": x, "y": y });
        serde_json::from_value(json!({ "keys": [key] })).expect("a key set")
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).expect("signs");
        format!("{message}.{}", BASE64URL_NOPAD.encode(signature.as_ref()))
    }
}

fn header() -> Value {
    json!({ "alg": "ES256", "kid": "k", "typ": "JWT" })
}

fn claims() -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    json!({ "iss": "https://issuer", "aud": "twofold", "exp": now + 600, "sub": "repo:a/b", "ref": "refs/heads/main" })
}

fn with(mut claims: Value, name: &str, value: Value) -> Value {
    claims[name] = value;
    claims
}

fn trusted(signer: &Signer) -> Trusted {
    let rule = |claims: &[(&str, &str)], role| ClaimRule {
        claims: claims.iter().map(|(claim, value)| ((*claim).to_owned(), (*value).to_owned())).collect(),
        grants: grants::parse([role]).expect("roles"),
    };
    let issuer = Issuer {
        issuer: "https://issuer".to_owned(),
        audience: vec!["twofold".to_owned()],
        jwks: KeySource::File("unused".into()),
        name_claim: "sub".to_owned(),
        tenant_claim: None,
        rules: vec![
            rule(&[("sub", "repo:a/*")], "read"),
            rule(&[("sub", "repo:a/*"), ("ref", "refs/heads/main")], "ac-write@a"),
        ],
    };
    Trusted::new(issuer, signer.jwks())
}

#[test]
fn all_rules_that_hold_count_and_values_are_exact_but_for_a_star() {
    let signer = Signer::new();
    let trusted = trusted(&signer);
    let verify = |claims| trusted.verify(&signer.sign(&header(), &claims)).map(|(caller, _)| caller);
    let main = verify(claims()).expect("accepted");
    assert!(main.name() == "repo:a/b" && main.may_anywhere(Role::AcWrite));
    let branch = verify(with(claims(), "ref", json!("refs/heads/main2"))).expect("accepted");
    assert!(branch.may_anywhere(Role::Read) && !branch.may_anywhere(Role::AcWrite));
    assert!(verify(with(claims(), "sub", json!("repo:other/b"))).expect("accepted").may_nothing());
    assert!(verify(with(claims(), "aud", json!(["x", "twofold"]))).is_ok());
    let no_name = verify(with(claims(), "sub", json!(7)));
    assert_eq!(no_name.expect_err("refused"), "the claim with the caller's name is absent");
}

#[test]
fn what_was_not_signed_for_this_server_now_is_refused() {
    let (signer, other) = (Signer::new(), Signer::new());
    let trusted = trusted(&signer);
    let now = jsonwebtoken::get_current_timestamp();
    let refused = |token: &str| trusted.verify(token).map(|_| ()).expect_err("refused");
    let signed = |claims| signer.sign(&header(), &claims);
    assert_eq!(refused(&other.sign(&header(), &claims())), "its signature is wrong");
    assert_eq!(refused(&signed(with(claims(), "exp", json!(now - 120)))), "it has expired");
    assert_eq!(refused(&signed(with(claims(), "nbf", json!(now + 600)))), "it is not valid yet");
    assert_eq!(refused(&signed(with(claims(), "aud", json!("another")))), "it is for another audience");
    assert_eq!(refused(&signed(with(claims(), "iss", json!("https://evil")))), "it is from another issuer");
    for claim in ["exp", "aud", "iss"] {
        let mut without = claims();
        without.as_object_mut().expect("an object").remove(claim);
        assert_eq!(refused(&signed(without)), "it lacks exp, iss or aud", "{claim}");
    }
    assert_eq!(
        refused(&signer.sign(&json!({ "alg": "ES256", "kid": "x" }), &claims())),
        "no key of the issuer made it"
    );
}

#[test]
fn the_algorithm_is_that_of_the_key_and_never_one_of_shared_secrets() {
    let signer = Signer::new();
    let trusted = trusted(&signer);
    for algorithm in ["HS256", "RS256", "ES384", "EdDSA", "none", "NONE", ""] {
        let token = signer.sign(&json!({ "alg": algorithm, "kid": "k" }), &claims());
        assert!(trusted.verify(&token).is_err(), "{algorithm}");
    }
    // The public key as the secret of an HMAC.
    let point = signer.key.public_key().as_ref();
    let part = |value: &Value| BASE64URL_NOPAD.encode(value.to_string().as_bytes());
    let message = format!("{}.{}", part(&json!({ "alg": "HS256", "kid": "k" })), part(&claims()));
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, point), message.as_bytes());
    assert!(trusted.verify(&format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))).is_err());
    // A key set with a shared secret in it.
    let secret: JwkSet =
        serde_json::from_value(json!({ "keys": [{ "kty": "oct", "kid": "k", "k": "c2VjcmV0" }] })).expect("a key set");
    trusted.set_keys(secret);
    let tag = ring::hmac::sign(&ring::hmac::Key::new(ring::hmac::HMAC_SHA256, b"secret"), message.as_bytes());
    assert!(trusted.verify(&format!("{message}.{}", BASE64URL_NOPAD.encode(tag.as_ref()))).is_err());
}
